"""`fuse` with what needs networks, from kept features: other prompts, or other parameters of the maps."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from wilss.data.manifest import Manifest
from wilss.data.taxonomy import BACKGROUND, closest
from wilss.disk import Location, data_path
from wilss.errors import ParameterError, StoreError
from wilss.params import names_of
from wilss.store import MaskStore
from wilss.store.records import records_for

from ..make.generate import generate
from ..make.options import Options
from ..make.summary import Summary
from ..sources.fmwiss import FmwissSource
from ..sources.fmwiss_params import FmwissParams, FusionParams
from ..stages.regions import OF_A_PASS
from .fuse import refuse_bad_target
from .kept_scores import keeps_maps

#: What `--set` names besides parameters: a file of prompts.
PROMPTS = "prompts"


def needs_features(store: MaskStore, values: Mapping[str, Any]) -> bool:
    """Whether the new masks are to be made of the store's features, since its maps do not give them."""
    if not store.layout.features:
        return False
    known = {PROMPTS, *names_of(FmwissParams)}
    beyond = {name for name in values if name in known and name not in names_of(FusionParams)}
    regions = {"regions": store.attributes.get("parameters", {}).get("regions"), **values}["regions"]
    return bool(beyond) or regions in OF_A_PASS or not keeps_maps(store)


def relabel(
    store: MaskStore,
    out: Location,
    values: Mapping[str, Any],
    manifest: Manifest,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Summary:
    """The masks that `generate` makes of the store's features with its own parameters, but for `values`.

    values: of any parameter that looks at no image, and `prompts`, see `with_prompts`. manifest: of the store's images.
    Images without features are encoded as usual. Raises StoreError where people judged masks of the store, where the
    manifest is another one's, or for what `generate` raises it.
    """
    refuse_bad_target(store, out, overwrite, "whose features are read")
    if store.layout.has_review:
        raise StoreError(
            f"{store.path} has masks that people judged, which new ones would leave out; make them with `wilss-masks "
            "generate --features-from`, and revise them."
        )
    # other data, and what came to a manifest that has grown, would be taken for new images
    records_for(store, manifest, may_have_grown=False)
    values = dict(values)
    if PROMPTS in values:
        manifest = with_prompts(manifest, data_path(values.pop(PROMPTS)))
    return generate(
        manifest,
        step=store.step,
        source=_source_of(store, manifest, values),
        out=out,
        options=_options_of(store, overwrite),
        features_from=(store.path,),
        progress=progress,
        tell=tell,
    )


def _source_of(store: MaskStore, manifest: Manifest, values: Mapping[str, Any]) -> FmwissSource:
    """The source of the store's masks, but for `values`."""
    noted = store.attributes.get("parameters", {})
    own = {name: value for name, value in noted.items() if name in names_of(FmwissParams)}
    seed = int(store.attributes.get("seed", 0))
    return FmwissSource.from_manifest(manifest, store.step, {"preset": "paper", **own, **values}, seed)


def _options_of(store: MaskStore, overwrite: bool) -> Options:
    """With which the store was made, but that features are kept where they are."""
    attributes = store.attributes
    sizes = {name: int(attributes[name]) for name in ("shard_size", "batch_size", "threads")}
    return Options(
        split=str(attributes.get("split", "train")),
        limit=attributes.get("limit"),
        keep_scores=keeps_maps(store),
        overwrite=overwrite,
        **sizes,  # type: ignore[arg-type]
    )


def with_prompts(manifest: Manifest, path: Path) -> Manifest:
    """The manifest with the prompts of a YAML file: class -> a name or a list of names; `background` -> its words.

    Classes that the file does not name keep theirs. Raises ParameterError for a file that is none.
    """
    prompts, background = dict(manifest.prompts), manifest.background_prompts
    written = set(manifest.written_prompts)
    taxonomy = manifest.taxonomy
    for name, words in _read(path).items():
        if name == taxonomy.name_of(BACKGROUND):
            background = words
        elif name not in taxonomy.class_names:
            raise ParameterError(f"{path}: there is no class {name!r}{closest(name, taxonomy.class_names)}.")
        else:
            identity = taxonomy.class_names.index(name)
            prompts[identity] = words
            written.add(identity)
    return replace(manifest, prompts=prompts, written_prompts=frozenset(written), background_prompts=background)


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    wanted = "write a mapping of classes to their prompts, as in `cup: [mug, cup]`"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ParameterError(f"--set prompts={path} cannot be read ({error}); {wanted}.") from error
    if not isinstance(content, dict) or not content:
        raise ParameterError(f"{path} is no file of prompts; {wanted}.")
    found = {}
    for name, words in content.items():
        listed = tuple(words) if isinstance(words, list) else (words,)
        if not listed or not all(isinstance(word, str) and word.strip() for word in listed):
            raise ParameterError(f"{path}: the prompts of {name!r} are {words!r}; {wanted}.")
        found[str(name)] = listed
    return found
