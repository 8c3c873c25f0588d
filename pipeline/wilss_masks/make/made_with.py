"""What a store was made with: what it says of itself, and how that differs from what is asked for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord, Records
from wilss.data.manifest import Encoders
from wilss.data.names import NameIndex, some
from wilss.digests import version_of
from wilss.models.encoders.former import LEFT_OUT_THEN, as_noted_now, way_to
from wilss.params import differences, shortened
from wilss.randomness import DESCRIPTION
from wilss.store import MaskStore
from wilss.store.tags import tagged_otherwise, tagged_otherwise_than_labelled

from ..sources.base import made_of
from ..sources.section import defaults_of
from .features import features_of
from .request import Request

#: What runs a source's networks, where that is none of `_LIBRARIES`.
NETWORKS_LIBRARY = "networks_library"
#: Attributes that an older store does not have; what it holds is none the worse.
_ADDED_SINCE = ("made_of", "data", "own_masks", "regions_library", NETWORKS_LIBRARY)
#: The line of `differences_from` of the list of images and their tags.
_LIST = "records_sha256:"
_FEW = 6
#: The line of `differences_from` of a classifier that learnt from all images, of whatever source.
_LEARNT = "models.classifier.sha256"
#: The line of the words that a network is asked for, of which a store notes the digest alone.
_WORDS = "prompts_sha256"
#: What is noted of a network beside its weights' digest, and says nothing that the digest does not.
_NAMES_OF_WEIGHTS = ("pretrained", "revision")
#: Libraries whose version can change a mask or its bytes.
_LIBRARIES = (
    "wilss",
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "numpy",
    "pillow",
    "zarr",
    "numcodecs",
)


def attributes_of(request: Request) -> dict[str, Any]:
    """What a store says of itself; two runs with equal attributes make equal masks."""
    manifest, source, options = request.manifest, request.source, request.options
    protocol = manifest.protocol
    attributes = {
        "protocol": protocol.name,
        "setting": protocol.setting,
        "step": request.step,
        "steps": [list(ids) for ids in protocol.steps],
        "classes": list(manifest.taxonomy.class_names),
        "split": options.split,
        "source": source.name,
        **source.identity(),
        **({} if source.uses_tags else {"uses_tags": False}),
        "keep": options.kept,
        **features_of(source, options),
        "limit": options.limit,
        "shard_size": options.shard_size,
        "batch_size": options.batch_size,
        "threads": options.threads,
        "made_of": made_of(source),
        "data": manifest.described(request.step),
        "manifest": manifest.name,
        "manifest_sha256": manifest.digest,
        "records_sha256": _records_digest(request.records, source.uses_tags),
        "rng": DESCRIPTION,
        "versions": {name: version_of(name) for name in _LIBRARIES},
    }
    return dict(json.loads(json.dumps(attributes)))


def differences_from(store: MaskStore, attributes: Mapping[str, Any], encoders: Encoders) -> list[str]:
    """What of `attributes` is not so in the store, as `parameters.threshold: 0.5 asked for, 0.6 in the store`.

    encoders: the networks that are asked for; what a store of an older version does not note is taken from them.
    """
    # A store made by `fuse` has seeds of other parameters than its masks, and one by `revise` masks that people drew:
    # never the one that is asked for. One that was made of features goes on with these.
    asked = _with_defaults({"features_from": None, **attributes, "fused_from": None, "revisions": None})
    found = _with_defaults(store.attributes)
    wanted = {name: value for name, value in asked.items() if name in found or name not in _ADDED_SINCE}
    noted, known = found.get("models"), _with_models(found, wanted, encoders)
    models = known.get("models")
    return [
        f"{name}: {mine} asked for, {theirs} in the store{_why(name, noted, models)}"
        for name, value, other in differences(_without_names(wanted, models), known)
        for mine, theirs in [shortened(value, other, 80)]
    ]


def _with_defaults(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """With parameters at their defaults that were left out, or of which there was no choice then."""
    parameters = {**defaults_of(str(attributes.get("source"))), **_mapping(attributes.get("parameters"))}
    return {**attributes, "parameters": parameters} if "parameters" in attributes else dict(attributes)


def told_by_image(lines: Sequence[str], store: MaskStore, records: Sequence[ImageRecord]) -> list[str]:
    """The lines of `differences_from`, with the images in the place of the digest of their list and tags."""
    others = [line for line in lines if not line.startswith(_LIST)]
    return [*others, *([_of_the_list(store, Records.of(records))] if len(others) < len(lines) else [])]


def _of_the_list(store: MaskStore, records: Records) -> str:
    rows = NameIndex(records.ids()).find_all(store.image_ids)
    is_new = np.ones(len(records), np.bool_)
    is_new[rows[rows >= 0]] = False
    gone, new = np.flatnonzero(rows < 0), np.flatnonzero(is_new)
    by_labels = store.attributes.get("made_of") == "labels"
    tagged = np.flatnonzero((tagged_otherwise_than_labelled if by_labels else tagged_otherwise)(store, records, rows))
    ids = records.ids()
    parts = [
        f"{_some(ids, new)} not in the store" if new.size else "",
        f"{_some(store.image_ids, gone)} in the store alone" if gone.size else "",
        f"other tags of {_some(store.image_ids, tagged)}" if tagged.size else "",
    ]
    told = "; ".join(part for part in parts if part)
    return f"images and tags: {told or _other_cause(rows, by_labels)}"


def _other_cause(rows: NDArray[np.int64], by_labels: bool) -> str:
    """Why the lists differ where they have the same images, and no tag of the step's classes is known to differ."""
    if (np.diff(rows) < 0).any():
        return "their order"
    return f"tags of classes {'that their labels show, or ' if by_labels else ''}of other steps"


def _some(names: Sequence[str], places: NDArray[np.intp]) -> str:
    return some([names[place] for place in places[:_FEW].tolist()], places.size)


def _records_digest(records: Sequence[ImageRecord], with_tags: bool) -> str:
    """sha256 of a JSON list, a list [id, tags] or [id] for each image, taken piece by piece: there may be millions."""
    digest = hashlib.sha256(b"[")
    for number, (image_id, tags, _) in enumerate(Records.of(records).facts()):
        facts = [image_id, list(tags)] if with_tags else [image_id]
        digest.update(f"{',' if number else ''}{json.dumps(facts, separators=(',', ':'))}".encode())
    digest.update(b"]")
    return digest.hexdigest()


def _with_models(found: Mapping[str, Any], wanted: Mapping[str, Any], encoders: Encoders) -> Mapping[str, Any]:
    """What a store says of itself, with what it would say today of the networks that it was made with."""
    models, asked = _mapping(found.get("models")), _mapping(wanted.get("models"))
    specs = {name: getattr(encoders, name) for name in models if name in Encoders.model_fields}
    tokens = {name: "final_norm" in _mapping(asked.get(name)) for name in specs}
    told = {name: as_noted_now(_mapping(models[name]), spec, tokens=tokens[name]) for name, spec in specs.items()}
    return {**found, "models": {**models, **told}} if models else found


def _without_names(wanted: Mapping[str, Any], models: Any) -> Mapping[str, Any]:
    """`wanted` without names of its networks that say nothing beside their digests. models: those of the store."""
    kept = {
        name: {key: value for key, value in model.items() if key not in _idle_names(model, _mapping(models).get(name))}
        for name, model in _mapping(wanted.get("models")).items()
    }
    return {**wanted, "models": kept} if "models" in wanted else wanted


def _idle_names(model: Mapping[str, Any], noted: Any) -> tuple[str, ...]:
    if model.get("sha256") != _mapping(noted).get("sha256"):
        return ("family",)
    of_one_model = model.get("library") == "timm" and _without_tag(model) == _without_tag(_mapping(noted))
    return ("family", *_NAMES_OF_WEIGHTS, *(("model",) if of_one_model else ()))


def _without_tag(model: Mapping[str, Any]) -> str:
    return str(model.get("model") or "").partition(".")[0]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _why(name: str, noted: Any, models: Any) -> str:
    """What the name of a digest stands for; what to write to get the numbers of a store that does not note them.

    "" where nothing is to be said. noted: its models; models: the same with what it does not note.
    """
    if name == _LEARNT:
        return " (learnt from all images and tags of the step: where one changes, all masks are to be made again)"
    if name == _WORDS:
        return " (the classes' names and prompts, background words and templates: other words are other masks)"
    encoder, _, key = name.removeprefix("models.").partition(".")
    before = _mapping(noted).get(encoder)
    if before is None or key in before:
        return ""
    if key == "final_norm":
        return f" ({LEFT_OUT_THEN})"
    way = way_to(encoder, (key,), models[encoder])
    return f" (as in every store of an older wilss; {way} in encoders.{encoder} keeps it)" if way else ""
