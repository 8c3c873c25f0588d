"""The section `masks` of a manifest: what a run would refuse of it, found before one is begun."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from typing import Any

from wilss.data.manifest import Manifest
from wilss.data.taxonomy import closest
from wilss.disk import Location, location_of
from wilss.errors import EncoderError, ParameterError, StoreError, WeightsError
from wilss.models.networks.named_backbone import FrozenParams
from wilss.params import faults_of
from wilss.store import MaskStore

from ..stages.params import StageParams
from ..stages.regions import refuse_networks, require_regions
from . import SOURCES
from .bank_first import require_first_pass
from .bank_params import BankParams
from .cam.backbone import Backbone
from .cam.params import CamParams
from .fmwiss import FmwissSource
from .presets import PRESETS, named_values, params_of
from .sam3 import Sam3Params, sam3_folder

#: The parameters of each source; one that has none, annotation, is not there.
_PARAMS: dict[str, Any] = {
    name: field.type for name, source in SOURCES.items() for field in fields(source) if field.name == "params"
}


def require_source(name: str) -> None:
    """Raise ParameterError for a source that there is not."""
    if name not in SOURCES:
        raise ParameterError(f"there is no source {name!r}{closest(name, SOURCES)}.")


def defaults_of(name: str) -> dict[str, Any]:
    """The parameters of the source `name` at their defaults; none for a source that is not the package's."""
    return dataclasses.asdict(_PARAMS[name]()) if name in _PARAMS else {}


def encoders_of(manifest: Manifest, name: str) -> tuple[str, ...]:
    """Which of the manifest's encoders, `clip` and `vit`, the source `name` opens as the manifest sets it."""
    if name not in _PARAMS:
        return ()
    params = _PARAMS[name]()
    with contextlib.suppress(ParameterError):  # which `faults` tells
        params = params_of(params, manifest, name, where="")
    return tuple(getattr(params, "opens", ()))


def faults(manifest: Manifest, weights: bool) -> Iterator[str]:
    """A sentence for every source that there is not, and every parameter that is misspelt or impossible."""
    if manifest.preset not in ("", *PRESETS):
        near = closest(manifest.preset, PRESETS)
        yield f"{manifest.path}: masks.preset: there is no preset {manifest.preset!r}{near}."
        return
    for name, values in manifest.masks.items():
        where = f"{manifest.path}: masks.{name}"
        if name not in SOURCES:
            yield f"{manifest.path}: masks: there is no source {name!r}{closest(name, SOURCES)}."
        elif name not in _PARAMS:
            yield from (f"{where}: the source {name!r} has no parameter {key!r}; leave it out." for key in values)
        else:
            own = {key: value for key, value in values.items() if key != "preset"}
            found = faults_of(_PARAMS[name](), own, where=where, others=("preset",)) or _together(manifest, name)
            yield from found or (_on_disk(manifest, name) if weights else ())


def _together(manifest: Manifest, name: str) -> list[str]:
    """What only shows with the preset's values, and regions that a source cannot make."""
    try:
        params = params_of(_PARAMS[name](), manifest, name, where="")
        if isinstance(params, StageParams) and params.regions == "patches" and name != FmwissSource.name:
            refuse_networks(params)
    except ParameterError as error:
        return [str(error)]
    return []


def _on_disk(manifest: Manifest, name: str) -> Iterator[str]:
    """What is wrong with the folders and files that the section names."""
    params = params_of(_PARAMS[name](), manifest, name, where="")
    looks: list[Callable[[], object]] = []
    if isinstance(params, Sam3Params) and params.model:  # else --set names it
        looks.append(partial(sam3_folder, params))
    if isinstance(params, CamParams) and (params.backbone or manifest.train.get("backbone")):
        looks.append(Backbone.of(manifest, params, named_values(manifest, name, {})).check)
    if isinstance(params, FrozenParams) and (backbone := params.named(manifest.path.parent)):
        looks.append(backbone.check)
    if isinstance(params, BankParams) and params.store:
        looks.append(partial(_look_at_first_pass, manifest, location_of(params.store)))
    if isinstance(params, StageParams):
        looks.append(partial(require_regions, params))
    for look in looks:
        try:
            look()
        except (EncoderError, ParameterError, StoreError, WeightsError) as error:
            yield f"{manifest.path}: masks.{name}: {error}"


def _look_at_first_pass(manifest: Manifest, path: Location) -> None:
    """StoreError for a store that no second pass of its step can go over."""
    store = MaskStore.open(path, allow_partial=True)
    if not 0 <= store.step < manifest.protocol.num_steps:
        raise StoreError(
            f"{path} holds masks of step {store.step}, which there is not; name the store of another step."
        )
    classes = {identity: manifest.taxonomy.name_of(identity) for identity in manifest.protocol.new(store.step)}
    require_first_pass(store, manifest, store.step, classes)
