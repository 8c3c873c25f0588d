"""A folder in transformers' form: which network lies in it, what it lacks, and the sha256 of all that decides.

Nothing is fetched and nothing of the folder is run: weights are safetensors alone. Neither torch nor transformers is
needed to look at one.
"""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wilss.digests import digest_of_json, version_of
from wilss.disk import data_path
from wilss.errors import EncoderError, WeightsError, first_line
from wilss.models.encoders.weights import sha256_of
from wilss.models.tensor_files import listed

#: How a network is asked: by points, by queries that it has learnt, or by words.
Way = Literal["points", "queries", "words"]

_EXTRA = "pip install 'wilss[regions]'"
#: By how it is asked: the `model_type` of a config.json, and the class of transformers that reads it. A checkpoint for
#: video holds the network for images as well.
_NETWORKS: dict[Way, dict[str, str]] = {
    "points": {
        "sam2": "Sam2Model",
        "sam2_video": "Sam2Model",
        "sam3_tracker": "Sam3TrackerModel",
        "sam3_tracker_video": "Sam3TrackerModel",
        "sam3_video": "Sam3TrackerModel",
    },
    "queries": {"eomt": "EomtForUniversalSegmentation", "eomt_dinov3": "EomtDinov3ForUniversalSegmentation"},
    "words": {"sam3": "Sam3Model", "sam3_video": "Sam3Model"},
}
_TITLES: dict[Way, str] = {"points": "a SAM 2", "queries": "an EoMT", "words": "a SAM 3"}
_PROCESSORS: dict[Way, str] = {
    "points": "Sam2ImageProcessor",
    "queries": "EomtImageProcessor",
    "words": "Sam3ImageProcessor",
}

_CONFIG, _WEIGHTS, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_OF_IMAGES = ("processor_config.json", "preprocessor_config.json")
_OF_TOKENS = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".pkl")


@dataclass(frozen=True, kw_only=True)
class NetworkFolder:
    """A folder that has all its files.

    model_type: as its config.json says. files: the names of those that decide what it computes.
    """

    path: Path
    way: Way
    model_type: str
    files: tuple[str, ...]

    @cached_property
    def sha256(self) -> str:
        """Of the names and contents of its files. Raises WeightsError where one cannot be read."""
        return digest_of_json([[name, sha256_of(self.path / name)] for name in self.files])

    @property
    def small_files(self) -> tuple[str, ...]:
        """All but the weights."""
        return tuple(name for name in self.files if not name.endswith(".safetensors"))

    @property
    def network_class(self) -> str:
        """Of transformers."""
        return _NETWORKS[self.way][self.model_type]

    @property
    def processor_class(self) -> str:
        """Of transformers, for images."""
        return _PROCESSORS[self.way]


def read_folder(folder: str, way: Way, key: str) -> NetworkFolder:
    """Look at a folder. key: the parameter that names it, for errors.

    Raises WeightsError for one that is not there, of another network or without a file that is needed; EncoderError
    where the extra is not installed.
    """
    require_transformers(key)
    if not folder:
        raise WeightsError(f"{key} names no folder; write {key}=FOLDER, {_TITLES[way]} as transformers saves it.")
    path = data_path(folder).expanduser()
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise WeightsError(f"{path} {what}; name in {key} the folder of {_TITLES[way]} as transformers saves it.")
    model_type = _model_type(path, way, key)
    return NetworkFolder(path=path, way=way, model_type=model_type, files=tuple(sorted(_files(path, way))))


def grid_of_masks(folder: NetworkFolder) -> tuple[int, int]:
    """Rows and columns of the masks of a network that is asked by words: of its finest features."""
    config = _json(folder.path / _CONFIG)
    vision = config.get("detector_config", config).get("vision_config") or {}
    backbone = vision.get("backbone_config") or {}
    image, patch = (_side(backbone.get(name, usual)) for name, usual in (("image_size", 1008), ("patch_size", 14)))
    side = int(image // patch * (vision.get("scale_factors") or [4.0])[0])
    return side, side


def _side(size: Any) -> int:
    return int(size if isinstance(size, int) else size[0])


def require_transformers(key: str) -> None:
    """EncoderError where transformers is not installed, or is older than these networks. key: what asks for it."""
    found = version_of("transformers") if importlib.util.find_spec("transformers") else None
    if found is None or int(found.partition(".")[0]) < 5:
        reason = "is not installed" if found is None else f"{found} is too old"
        raise EncoderError(f"{key} is for networks of transformers, which {reason}; run `{_EXTRA}`.")


def _model_type(path: Path, way: Way, key: str) -> str:
    """What config.json says it is, where that can be asked in this way."""
    config = path / _CONFIG
    if not config.is_file():
        raise WeightsError(f"{path} has no {_CONFIG}{_meta(path)}; {key} wants the folder as transformers saves it.")
    found = _json(config).get("model_type")
    if found in _NETWORKS[way]:
        return str(found)
    raise WeightsError(
        f"{config} is of {found or 'no model_type'}, and {key} wants {_TITLES[way]} "
        f"({', '.join(_NETWORKS[way])}); name another folder."
    )


def _meta(path: Path) -> str:
    """What lies there instead, such as Meta's own `sam3.pt`."""
    others = [file.name for file in sorted(path.iterdir()) if file.suffix in _OTHER_WEIGHTS]
    return f" beside {listed(others, 2)}" if others else ""


def _files(path: Path, way: Way) -> Iterator[str]:
    """The files that decide what the network computes. Raises WeightsError where one is missing."""
    yield _CONFIG
    yield from _weights(path)
    here = [name for name in _OF_IMAGES if (path / name).is_file()]
    if not here:
        raise WeightsError(
            f"{path} has no {' or '.join(_OF_IMAGES)}, which say how an image is scaled; copy it from where the "
            "weights come from."
        )
    yield from here
    yield from _tokens(path) if way == "words" else ()
    for name in here:
        _json(path / name)


def _weights(path: Path) -> list[str]:
    """model.safetensors, or the index and its parts."""
    if (path / _WEIGHTS).is_file():
        return [_WEIGHTS]
    if not (path / _INDEX).is_file():
        what = "only weights that could run code" if _meta(path) else "no weights"
        raise WeightsError(
            f"{path} has {what}{_meta(path)}, and wilss reads {_WEIGHTS}; save the network with save_pretrained of "
            "transformers."
        )
    mapping = _json(path / _INDEX).get("weight_map")
    parts = sorted(set(mapping.values())) if isinstance(mapping, dict) else []
    if missing := [name for name in parts if name != Path(name).name or not (path / name).is_file()]:
        raise WeightsError(f"{path} has no {listed(missing)}, of which {_INDEX} speaks; copy the whole folder again.")
    return [_INDEX, *parts]


def _tokens(path: Path) -> list[str]:
    """transformers makes a tokenizer without words of a folder that has none, and says nothing."""
    here = [name for name in _OF_TOKENS if (path / name).is_file()]
    if "tokenizer.json" not in here and not {"vocab.json", "merges.txt"} <= set(here):
        raise WeightsError(
            f"{path} has no tokenizer.json, nor vocab.json and merges.txt; copy the tokenizer from where the "
            "weights come from."
        )
    for name in here:
        if name.endswith(".json") and name != "tokenizer.json":  # of some megabytes, and it names no code
            _json(path / name)
    return here


def _json(file: Path) -> dict[str, Any]:
    """Raises WeightsError for what is no json object, or would have Python code run."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is not a readable json ({first_line(error)}); copy it again.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{file} holds no json object; copy it again.")
    if "auto_map" in content:
        raise WeightsError(f"{file} names Python code to be run (auto_map), which wilss never does.")
    return content
