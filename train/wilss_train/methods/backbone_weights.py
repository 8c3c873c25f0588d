"""The weights that a student's backbone starts from: where they lie, and which bytes they are."""

from pathlib import Path

from wilss.data.manifest import Manifest
from wilss.errors import WeightsError
from wilss.models.encoders.weights import resolve, sha256_of

__all__ = ["digest_of_backbone", "weights_path"]


def weights_path(word: str, manifest: Manifest) -> Path:
    """A file in the package for `builtin:`, else a path relative to the manifest."""
    return resolve(word) if word.startswith("builtin:") else manifest.path.parent / Path(word).expanduser()


def digest_of_backbone(word: str, manifest: Manifest) -> str:
    """sha256 of the file that `weights_path` names. Raises WeightsError where it cannot be read."""
    try:
        return sha256_of(weights_path(word, manifest))
    except WeightsError as error:
        raise WeightsError(
            f"{str(error).split(';', maxsplit=1)[0]}; say where the backbone's weights are with --set "
            "backbone_weights=FILE, or start without any by --set backbone_weights=."
        ) from None
