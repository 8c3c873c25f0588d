"""From the manifest's text to taxonomy, protocol, data sets and encoders; every fault with its key path."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wilss.data.layouts.spec import DataModel, DataSpec, NameModel, SplitSpec, TagsSpec
from wilss.data.manifest.encoders import SAME, Encoders, EncoderSpec
from wilss.data.manifest.schema import ManifestModel
from wilss.data.manifest.text import Key, Where
from wilss.data.protocol import StepProtocol, name_of_steps, preset
from wilss.data.taxonomy import COCO, VOC, Taxonomy, closest, meaning_of
from wilss.disk import UrlPath, absolute
from wilss.errors import ManifestError, ParameterError, ProtocolError

#: The name of the data set that is described at the top of a manifest.
MAIN = "main"

_SPLITS = {
    "voc": {"train": "train", "val": "val"},
    "coco": {"train": "train2017", "val": "val2017"},
    "folder": {"train": "all"},
}
_TAGS = {"voc": "voc-main", "coco": "coco", "folder": "csv"}


def build_taxonomy(names: Mapping[int, NameModel], name: str, where: Where, key: Key) -> Taxonomy:
    """The classes of a manifest or a data set; their ids must run from 0 (background) without a gap."""
    missing = next((i for i in range(len(names)) if i not in names), None)
    if missing is not None:
        raise where.error(
            key,
            f"has no id {missing}, but {len(names)} names; number them 0, 1, 2, ..., and where label files hold other "
            "values, say so beside `layout`, as in `values: {8: cat}`.",
        )
    class_names = tuple(names[i].name for i in range(len(names)))
    known = next((t for t in (VOC, COCO) if t.class_names == class_names), None)
    try:
        return known or Taxonomy(name=name, class_names=class_names)
    except ManifestError as error:
        raise where.error(key, str(error)) from None


def require_background(names: Mapping[int, NameModel], where: Where) -> None:
    """Refuse a class at id 0: id 0 is background in every store, and its pixels would be learnt as that in silence."""
    if 0 in names and meaning_of(names[0].name) is None:
        raise where.error(
            ("names", 0),
            f"is {names[0].name!r}, but id 0 is background. Write `0: background` here, the classes from 1 on; if 0 is "
            "a class in the label files, give their values by name under `data: NAME: names:`.",
        )


def build_prompts(names: Mapping[int, NameModel], where: Where) -> tuple[dict[int, tuple[str, ...]], frozenset[int]]:
    """Prompt names by id (the class's own name where there are none), and the ids that have prompts written down."""
    prompts = {}
    for identity, model in sorted(names.items()):
        words = tuple(model.prompts or (model.name,))
        if not all(prompt.strip() for prompt in words):
            raise where.error(("names", identity, "prompts"), "holds an empty prompt; remove it.")
        prompts[identity] = words
    return prompts, frozenset(identity for identity, model in names.items() if model.prompts)


def build_background_prompts(model: ManifestModel, where: Where) -> tuple[str, ...] | None:
    """The words for what is no class; None for the package's own."""
    for place, word in enumerate(model.background_prompts or ()):
        if not word.strip():
            raise where.error(("background_prompts", place), "is an empty prompt; remove it.")
    return None if model.background_prompts is None else tuple(model.background_prompts)


def build_protocol(model: ManifestModel, taxonomy: Taxonomy, where: Where) -> StepProtocol:
    """The steps, written out or by the name of a protocol of the field."""
    written = [step.classes for step in model.steps or ()]
    try:
        if model.protocol is not None:
            return _preset(model, taxonomy, written, where)
        if model.steps is None:
            raise where.error((), "has neither `steps` nor `protocol`; say which classes come at which step.")
        steps = _steps(written, taxonomy, where)
        return StepProtocol(name=name_of_steps(steps), taxonomy=taxonomy, steps=steps, setting=model.setting)
    except ProtocolError as error:
        raise where.error(("protocol" if model.protocol else "steps",), str(error)) from None


def _preset(
    model: ManifestModel, taxonomy: Taxonomy, written: Sequence[list[Any] | None], where: Where
) -> StepProtocol:
    protocol = preset(str(model.protocol), taxonomy, model.setting)
    if any(classes is not None for classes in written):
        raise where.error(("steps",), f"lists classes, and so does `protocol: {model.protocol}`; keep one of them.")
    if written and len(written) != protocol.num_steps:
        raise where.error(
            ("steps",), f"has {len(written)} entries, but the protocol {protocol.name} {protocol.num_steps} steps."
        )
    return protocol


def _steps(written: list[list[object] | None], taxonomy: Taxonomy, where: Where) -> tuple[tuple[int, ...], ...]:
    came: dict[int, Key] = {}
    steps = []
    for step, classes in enumerate(written):
        if not classes:
            raise where.error(("steps", step), "has no `classes`; list some.")
        ids = []
        for place, item in enumerate(classes):
            key: Key = ("steps", step, "classes", place)
            identity = class_id(item, taxonomy, where, key)
            if identity in came:
                first = ".".join(map(str, came[identity]))
                raise where.error(key, f"class {item!r} stands in {first} already; list it once.")
            came[identity] = key
            ids.append(identity)
        steps.append(tuple(ids))
    return tuple(steps)


def class_id(item: object, taxonomy: Taxonomy, where: Where, key: Key) -> int:
    """The id that an id or a name stands for. Raises ManifestError with line and key path."""
    last = len(taxonomy.class_names) - 1
    if isinstance(item, str):
        identity = taxonomy.find(item)
        if identity is None:
            raise where.error(key, f"{item!r} is no class in `names`{closest(item, taxonomy.class_names)}.")
    elif isinstance(item, int) and not isinstance(item, bool):
        identity = item
    else:
        raise where.error(key, f"{item!r} is neither an id nor a name of a class; write e.g. 3.")
    if not 1 <= identity <= last:
        raise where.error(key, f"class {item!r} is not among the classes 1 to {last} of `names`; fix it.")
    return identity


def build_data(model: ManifestModel, taxonomy: Taxonomy, where: Where) -> dict[str, DataSpec]:
    """All data sets by name: the one at the top (if it has a path), and those under `data`."""
    specs = {}
    if model.path is not None:
        if MAIN in model.data:
            raise where.error(("data", MAIN), f"{MAIN!r} is the data at the top; give this another name.")
        specs[MAIN] = _data(MAIN, model, taxonomy, taxonomy, where, ())
    for name, data in model.data.items():
        key: Key = ("data", name)
        own = build_taxonomy(data.names, name, where, (*key, "names")) if data.names else taxonomy
        specs[name] = _data(name, data, taxonomy, own, where, key)
    if not specs:
        raise where.error((), "names no data; add `path: ...` (and `layout`), or data sets under `data`.")
    return specs


def _data(name: str, model: DataModel, taxonomy: Taxonomy, own: Taxonomy, where: Where, key: Key) -> DataSpec:
    if model.path is None:
        raise where.error((*key, "path"), "this key is missing; say where the data lies.")
    if model.generate is not None and model.layout != "voc":
        raise where.error((*key, "layout"), "must be voc where `generate` draws the data.")
    _require_meaning_of_labels(model, where, key)
    if model.layout != "coco" and model.crowd is not None:
        raise where.error((*key, "crowd"), "is for COCO's annotations; leave it out, or write `layout: coco`.")
    base = where.path.parent
    written = {field: getattr(model, field) for field in DataModel.model_fields}
    resolved = {
        "splits": model.splits or {split: SplitSpec(list=files) for split, files in _SPLITS[model.layout].items()},
        "tags": _tags(model, where, key),
        "name": name,
        "root": _root(base, model, where, key),
        "base": base,
        "file": where.path,
        "key": ".".join(map(str, key)),
        "taxonomy": taxonomy,
        "own": own,
    }
    return DataSpec.model_construct(**(written | resolved))


def _root(base: Path, model: DataModel, where: Where, key: Key) -> Path:
    """The folder of the data, with links left as they are: a linked data folder is as good as another."""
    assert model.path is not None
    try:
        root = absolute(base, model.path)
    except ParameterError as error:
        raise where.error((*key, "path"), str(error)) from None
    if isinstance(root, UrlPath) and model.generate is not None:
        raise where.error((*key, "path"), f"{root} lies in a bucket; built-in data are drawn on disk alone.")
    return root


def _require_meaning_of_labels(model: DataModel, where: Where, key: Key) -> None:
    for_files = [name for name in ("values", "void", "reduce_zero_label", "colors") if getattr(model, name)]
    if model.layout == "coco" and for_files:
        raise where.error(
            (*key, for_files[0]), "is for label files; leave it out, since COCO's annotations name their categories."
        )
    colours: dict[tuple[int, int, int], str] = {}
    for word, several in (model.colors or {}).items():
        for colour in several:
            if colours.setdefault(colour, word) != word:
                raise where.error((*key, "colors", word), f"has {list(colour)}, which is {colours[colour]!r} as well.")


def _tags(model: DataModel, where: Where, key: Key) -> TagsSpec:
    tags = model.tags or TagsSpec.model_validate({"from": _TAGS[model.layout]})
    if tags.kind == "coco" and tags.file is None and model.layout != "coco":
        raise where.error((*key, "tags"), "tags from coco need `file: ...` unless the layout is coco.")
    return tags.model_copy(update={"file": "tags.csv"}) if tags.kind == "csv" and tags.file is None else tags


def build_encoders(model: ManifestModel, where: Where) -> Encoders:
    """Both encoders, of which each must name its network, and clip its text side."""
    clip = model.encoders.clip
    _require_text_sides(clip, model.encoders.vit, where)
    vit = clip if model.encoders.vit.model == SAME else model.encoders.vit
    for name, spec in (("clip", clip), ("vit", vit)):
        if spec.model is None and (spec.library == "timm" or spec.config is None):
            raise where.error(("encoders", name), "names no network; add `model: ...`.")
        if spec.file is not None and (spec.pretrained or "").partition(":")[0] == "random":
            raise where.error(
                ("encoders", name), f"names weights twice, by `pretrained: {spec.pretrained}` and by `file`; keep one."
            )
    return Encoders(clip=_held(clip, where), vit=_held(vit, where))


def _require_text_sides(clip: EncoderSpec, vit: EncoderSpec, where: Where) -> None:
    if clip.library == "timm" and clip.text is None:
        raise where.error(
            ("encoders", "clip", "library"),
            "is 'timm', whose networks have no text side; name that of TIPSv2 by `text: FILE` and `tokenizer: FILE`, "
            "or take a CLIP of open_clip (`library: open_clip`).",
        )
    if clip.library == "open_clip" and clip.text is not None:
        raise where.error(
            ("encoders", "clip", "text"), "is for TIPSv2 of timm; a CLIP of open_clip has its text in its weights."
        )
    if vit.text is not None:
        raise where.error(("encoders", "vit", "text"), "is for clip; leave it out, or write `vit: same`.")


def _held(spec: EncoderSpec, where: Where) -> EncoderSpec:
    return spec.held_to(spec.sha256, str(where.path)) if spec.sha256 else spec
