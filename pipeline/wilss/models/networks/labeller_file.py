"""A trained labeller as a file beside its segmenter's checkpoint, bound to it by the digest of its weights."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.digests import digest_of_file
from wilss.disk import write_atomically
from wilss.errors import CheckpointError, WilssError
from wilss.models.networks.checkpoint_header import json_header, one_copy
from wilss.models.tensor_files import digest_of_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.networks.attention_cam import Labeller
    from wilss.models.networks.checkpoint import CheckpointInfo
    from wilss.models.networks.segmenter import Segmenter

LABELLER_FILE = "labeller.safetensors"
FORMAT = "wilss-labeller"
FORMAT_VERSION = 2
_NORM, _SINCE_NORM, _BEFORE_NORM = "norm", 2, 1  # a version that does not know of it would compute something else
_KEY = "wilss"  # one key only: safetensors keeps several in no fixed order


def write_labeller(path: Path, labeller: "Labeller", segmenter: "Segmenter") -> None:
    """Write the labeller's weights, and whose labeller it is; equal content gives equal bytes."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in labeller.state_dict().items()}
    header = {
        "format": FORMAT,
        "format_version": _BEFORE_NORM,
        "width": labeller.queries.out_channels,
        "weights_sha256": digest_of_tensors(tensors),
        "segmenter_sha256": digest_of_tensors(segmenter.state_dict()),
    }
    if labeller.norm != "torch":
        header |= {"format_version": _SINCE_NORM, _NORM: labeller.norm}
    write_atomically(path, save(tensors, {_KEY: json.dumps(header, sort_keys=True)}))


def labeller_digest(info: "CheckpointInfo") -> str:
    """sha256 of the file beside a checkpoint. Raises CheckpointError where there is none."""
    path = _beside(info)
    try:
        return digest_of_file(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}); fix that and run again.") from None


def load_labeller(info: "CheckpointInfo", segmenter: "Segmenter", device: str = "cpu") -> "Labeller":
    """The labeller of a checkpoint whose `segmenter` was loaded, in evaluation mode.

    Raises CheckpointError where there is none, and for one that is damaged or belongs to another segmenter.
    """
    from wilss.models.networks.attention_cam import Labeller

    path = _beside(info)
    tensors, header = _read(path)
    if header.get("weights_sha256") != digest_of_tensors(tensors):
        raise CheckpointError(f"{path} is damaged: its weights do not match their digest; copy it again.")
    if header.get("segmenter_sha256") != digest_of_tensors(segmenter.state_dict()):
        raise CheckpointError(f"{path} belongs to another network than {info.path}; keep the files of a run together.")
    try:
        norm = header.get(_NORM, "torch")
        labeller = Labeller.like(segmenter, width=int(header["width"]), norm=norm, seed=0)
        labeller.load_state_dict(tensors)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not fit its network ({str(error).splitlines()[-1].strip()}); it may come from another "
            "version of timm or wilss."
        ) from error
    return labeller.to(device).eval()


def _beside(info: "CheckpointInfo") -> Path:
    """The labeller's file. Raises CheckpointError where there is none."""
    path = info.path.parent / LABELLER_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{path} is not there; `wilss-train --method pseudoseg` writes it beside the checkpoint where target is "
            "fused or sgc and labels are made while training. Keep the files of a run together."
        )
    return path


def _read(path: Path) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Weights and what the header says."""
    from safetensors.torch import load

    try:
        with one_copy(path) as copied:
            tensors = load(copied.read_bytes())
            header = json.loads(json_header(path, copied)["__metadata__"][_KEY])
    except WilssError:
        raise
    except Exception as error:  # safetensors raises its own kind for damage of any sort
        raise CheckpointError(f"{path} cannot be read ({error}); copy it again, or train again.") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if not isinstance(version, int) or header.get("format") != FORMAT or version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is no labeller of this version of wilss, which reads up to {FORMAT_VERSION}; upgrade it."
        )
    return tensors, header
