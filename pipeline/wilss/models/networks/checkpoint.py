"""A trained network as one file: weights in safetensors, and in its header all that tells what it is.

A network is a segmenter or an embedding; the header says which, and a file that does not is a segmenter's.

`model.safetensors` says its protocol, step, parameters and the digests of the checkpoint and of the mask store
that it came from, and holds a digest of its own weights. Nothing in it can run code. Its header is read without
torch.
"""

import copy
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ...data.images import ALL_BITS, FEWEST_BITS
from ...data.protocol import StepProtocol
from ...data.taxonomy import Taxonomy
from ...digests import digest_of_file
from ...disk import data_path, write_atomically
from ...errors import CheckpointError, WilssError, first_line
from ..tensor_files import digest_of_tensors, misfits, told
from .checkpoint_header import FORMAT, FORMAT_VERSION, KEY, MODEL_FILE, one_copy, read_header
from .embedding_spec import EmbeddingSpec
from .spec import SegmenterSpec

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ...data.manifest import Manifest
    from .segmenter import Segmenter

Kind = Literal["segmenter", "embedding"]
_SPECS: Mapping[Kind, type[SegmenterSpec] | type[EmbeddingSpec]] = {
    "segmenter": SegmenterSpec,
    "embedding": EmbeddingSpec,
}
_ARTICLES: Mapping[type, str] = {SegmenterSpec: "a segmenter", EmbeddingSpec: "an embedding"}
_FIXES: Mapping[type, str] = {
    SegmenterSpec: "pass the checkpoint of a method that trains a segmenter, such as fmwiss",
    EmbeddingSpec: "pass a checkpoint of `wilss-train --method panet`",
}
S = TypeVar("S", SegmenterSpec, EmbeddingSpec)


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    path, digest: the file and its sha256. params: every parameter of the run. parent_digest: sha256 of the
    checkpoint that it went on from, None at step 0. store_digest: the seal of the mask store that it learnt
    from. mean, std: of the input, per colour channel, for images in [0, 1]. bits: how many of the 16 bits of images
    hold values, see `read_image`; all of them in an older checkpoint.
    """

    path: Path
    digest: str
    method: str
    step: int
    protocol: StepProtocol
    spec: SegmenterSpec | EmbeddingSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    iterations: int = 0
    parent_digest: str | None = None
    store_digest: str | None = None
    manifest_name: str = ""
    manifest_digest: str = ""
    bits: int = ALL_BITS

    @property
    def kind(self) -> Kind:
        """What the network is."""
        return "embedding" if isinstance(self.spec, EmbeddingSpec) else "segmenter"

    @property
    def seen(self) -> tuple[int, ...]:
        """Taxonomy ids of the network's channels, background first."""
        return self.protocol.seen(self.step)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Class names of the network's channels, background first."""
        return tuple(self.protocol.taxonomy.name_of(identity) for identity in self.seen)

    def require_same_classes(self, manifest: "Manifest") -> None:
        """Raise CheckpointError, naming the difference, unless the manifest has the same classes and steps so far.

        Steps that are not learnt yet, and their classes, may have come to it since, or be others.
        """
        difference = self.protocol.difference(manifest.protocol, self.step, here="the checkpoint", there="the manifest")
        if difference is not None:
            raise CheckpointError(
                f"{self.path} does not belong to {manifest.path}: {difference}; pass the manifest that it was trained "
                "with."
            )


def write_model(
    path: Path,
    weights: "Mapping[str, Tensor]",
    *,
    spec: SegmenterSpec | EmbeddingSpec,
    protocol: StepProtocol,
    facts: Mapping[str, Any],
) -> None:
    """Write weights and what they are; equal content gives equal bytes. facts: the other fields of the info."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **facts,
        "kind": "embedding" if isinstance(spec, EmbeddingSpec) else "segmenter",
        "spec": spec.as_json(),
        "protocol": _protocol_as_json(protocol),
        "weights_sha256": digest_of_tensors(tensors),
    }
    write_atomically(path, save(tensors, {KEY: json.dumps(header, sort_keys=True)}))


def read_info(path: Path | str) -> CheckpointInfo:
    """What the checkpoint at `path`, a file or the run's folder, says of itself; its weights are not loaded.

    Raises CheckpointError when it is missing, damaged, a pickle, or of a newer wilss.
    """
    file = data_path(path)
    file = file / MODEL_FILE if file.is_dir() else file
    with one_copy(file) as copied:
        said, digest = read_header(file, copied), digest_of_file(copied)
    try:
        return _info(file, digest, said)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, WilssError) as error:
        raise CheckpointError(f"{file} is damaged: its header makes no sense ({error}); copy it again.") from error


def load_segmenter(info: CheckpointInfo, device: str = "cpu") -> "Segmenter":
    """The segmenter of a checkpoint, in evaluation mode.

    On a CPU its weights lie channels last, as in training: oneDNN convolves them faster, dilated ones above all.
    Raises CheckpointError for an embedding, and where weights do not fit.
    """
    import torch

    spec = spec_of(info, SegmenterSpec)
    weights = read_weights(info)
    require_fit(info, weights, lambda: _on_meta(json.dumps(spec.as_json(), sort_keys=True)))
    segmenter = _to_be_filled(spec)
    segmenter.load_state_dict(weights)
    segmenter.to(device)
    if torch.device(device).type == "cpu":
        segmenter.to(memory_format=torch.channels_last)
    return segmenter.eval()


@functools.lru_cache(maxsize=4)
def _on_meta(spec: str) -> "Segmenter":
    """The network of a spec as JSON, on torch's meta device, where building it takes longer than reading its weights.

    A run opens networks of the same spec several times.
    """
    from ..shapes_only import shapes_only
    from .segmenter import Segmenter

    with shapes_only():
        return Segmenter(SegmenterSpec.from_json(json.loads(spec)))


def _to_be_filled(spec: SegmenterSpec) -> "Segmenter":
    """A network of a spec whose weights are all to be read: they are not drawn first.

    Where some of its tensors are in no file of weights, only building it makes them.
    """
    from ..shapes_only import filled_by_its_file, undrawn
    from .segmenter import Segmenter

    empty = copy.deepcopy(_on_meta(json.dumps(spec.as_json(), sort_keys=True)))
    if filled_by_its_file(empty):
        return empty.to_empty(device="cpu")
    with undrawn():
        return Segmenter(spec)


def require_fit(info: CheckpointInfo, weights: "Mapping[str, Tensor]", make: "Callable[[], Module]") -> None:
    """Raise CheckpointError unless the weights are those of the network that `make` builds from the header's words.

    It is built on torch's meta device, where it takes no memory: a header may claim a network of any size.
    """
    from ..shapes_only import shapes_only

    try:
        with shapes_only():
            wanted = make().state_dict()
    except Exception as error:  # whatever layers raise for sizes that make no sense
        raise CheckpointError(
            f"{info.path} describes a network that cannot be built ({first_line(error)}); copy it again, or upgrade "
            "timm and wilss."
        ) from error
    if faults := misfits(wanted, weights):
        raise CheckpointError(
            f"{info.path} does not fit the network that it describes: {told(faults)}; it may come from another "
            "version of timm or wilss."
        )


def spec_of(info: CheckpointInfo, wanted: type[S]) -> S:
    """The checkpoint's spec. Raises CheckpointError unless it holds a network of the kind `wanted`."""
    if isinstance(info.spec, wanted):
        return info.spec
    raise CheckpointError(
        f"{info.path} holds {_ARTICLES[type(info.spec)]} ({info.method}), and this takes {_ARTICLES[wanted]}; "
        f"{_FIXES[wanted]}."
    )


def read_weights(info: CheckpointInfo) -> "dict[str, Tensor]":
    """The tensors of a checkpoint by name.

    Raises CheckpointError where the file is damaged, or is not the one any more that `info` was read from.
    """
    from safetensors.torch import load_file

    try:
        with one_copy(info.path) as copied:
            weights, said = load_file(copied), read_header(info.path, copied)
            digest = digest_of_file(copied)  # last: whoever replaces the file while it is read is noticed
    except WilssError:
        raise
    except Exception as error:  # safetensors raises its own kind for damage of any sort
        raise CheckpointError(f"{info.path} cannot be read ({error}); copy it again, or train again.") from error
    if digest != info.digest:
        raise CheckpointError(
            f"{info.path} was replaced after it was opened: its sha256 was {info.digest[:12]} and is now "
            f"{digest[:12]}; run again, once nobody writes there any more."
        )
    if digest_of_tensors(weights) != said.get("weights_sha256"):
        raise CheckpointError(f"{info.path} is damaged: its weights do not match their digest; copy it again.")
    return weights


def _info(file: Path, digest: str, said: Mapping[str, Any]) -> CheckpointInfo:
    protocol, step = _protocol_from_json(said["protocol"]), int(said["step"])
    protocol.new(step)  # refuses a step that there is not
    return CheckpointInfo(
        path=file,
        digest=digest,
        method=str(said["method"]),
        step=step,
        protocol=protocol,
        spec=_SPECS[said.get("kind", "segmenter")].from_json(said["spec"]),
        mean=_triple(said["mean"]),
        std=_triple(said["std"]),
        params=dict(said["params"]),
        seed=int(said["seed"]),
        iterations=int(said["iterations"]),
        parent_digest=said["parent_digest"],
        store_digest=said["store_digest"],
        manifest_name=str(said["manifest_name"]),
        manifest_digest=str(said["manifest_digest"]),
        bits=_bits(said.get("bits", ALL_BITS)),
    )


def _bits(value: Any) -> int:
    if not isinstance(value, int) or not FEWEST_BITS <= value <= ALL_BITS:
        raise ValueError(f"bits {value!r}")
    return value


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _protocol_as_json(protocol: StepProtocol) -> dict[str, Any]:
    return {
        "name": protocol.name,
        "setting": protocol.setting,
        "steps": [list(classes) for classes in protocol.steps],
        "taxonomy": {"name": protocol.taxonomy.name, "class_names": list(protocol.taxonomy.class_names)},
    }


def _protocol_from_json(said: Mapping[str, Any]) -> StepProtocol:
    names = said["taxonomy"]
    return StepProtocol(
        name=said["name"],
        setting=said["setting"],
        steps=tuple(tuple(int(identity) for identity in classes) for classes in said["steps"]),
        taxonomy=Taxonomy(name=names["name"], class_names=tuple(names["class_names"])),
    )
