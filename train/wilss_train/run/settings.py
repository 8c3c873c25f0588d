"""What a run is asked for: inputs, method and parameters, the manifest's values and those above them."""

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import closest
from wilss.disk import Location, data_path, local_path, location_of
from wilss.errors import ParameterError, StoreError
from wilss.models.networks.pretrained import input_statistics
from wilss.params import divided, names_of, with_values

from ..data.masked_images import MaskedImages
from ..data.trust import Trust
from ..inputs import RunInputs, default_out, open_inputs, step_of_masks
from ..methods import METHODS, Method
from ..methods.segmenter import MaskMethod, learns_masks
from ..methods.step_prior import has_heads, with_step_prior
from ..params import TrainParams, from_manifest

log = logging.getLogger(__name__)

#: Parameters by name, of the run or of its method, and where they were said.
Layer = tuple[str, Mapping[str, Any]]


class AskedRun(NamedTuple):
    """What a run reads, its method and parameters as they were asked for, and its folder."""

    inputs: RunInputs
    method: Method
    params: TrainParams
    folder: Path


def open_run(
    masks: Location | str,
    *,
    manifest: Manifest | Path | str,
    method: Method | str,
    out: Path | str | None = None,
    parent: Path | str | None = None,
    params: TrainParams | None = None,
    layers: Iterable[Layer] = (),
) -> AskedRun:
    """A run by the words that ask for it; what it reads is checked, nothing is written.

    method, params: instances are taken as they are; otherwise the manifest's values stand over the published ones.
    layers: stand over both, the last highest. Raises a WilssError, see `open_inputs` and `with_values`.
    """
    target = None if out is None else local_path(out)  # refused before anything is read
    opened = manifest if isinstance(manifest, Manifest) else load_manifest(Path(manifest))
    name = method if isinstance(method, str) else method.name
    require_method(name)
    method, params = _parameters(opened, step_of_masks(opened, location_of(masks)), method, params, layers)
    inputs = open_inputs(opened, location_of(masks), None if parent is None else data_path(parent), name)
    if isinstance(method, MaskMethod) and os.environ.get("RANK", "0") == "0":
        for doubt in method.doubts(inputs):
            log.warning(doubt)
    return AskedRun(inputs, method, params, target or default_out(opened, inputs.step, name))


def asked_parameters(
    masks: Location, *, manifest: Path, method: str, layers: Iterable[Layer] = ()
) -> tuple[Method, TrainParams]:
    """Method and parameters of `open_run` without what the parent decides, which need not be there."""
    opened = load_manifest(manifest)
    return _parameters(opened, step_of_masks(opened, masks), method, None, layers)


def settled(params: TrainParams, method: Method, inputs: RunInputs) -> TrainParams:
    """The parameters with all filled in that data, parent and backbone decide. Raises ParameterError."""
    from_masks = isinstance(method, MaskMethod)
    if params.logit_adjustment == "always" and not from_masks:
        raise ParameterError(
            f"logit_adjustment=always is for methods that learn a later step from its masks, and {method.name} is none "
            "of these; leave it out."
        )
    if params.negative_images != TrainParams.negative_images and not from_masks:
        raise ParameterError(
            f"negative_images={params.negative_images:g} is for methods that learn from a step's masks or tags, and "
            f"{method.name} is none of these; leave it out."
        )
    if params.trust != "all" or params.least_confidence:
        _require_trusted(params, method, inputs)
    own_heads = isinstance(method, MaskMethod) and method.own_heads
    _require_heads(params, method, inputs, own_heads)
    params = with_input_statistics(params, method, inputs)
    return with_step_prior(params, inputs, from_masks=from_masks, own_heads=own_heads)


def _require_trusted(params: TrainParams, method: Method, inputs: RunInputs) -> None:
    """Raise ParameterError for a method that does not weigh masks, StoreError where no mask is taken."""
    values = {"trust": params.trust, "least_confidence": params.least_confidence}
    asked = " and ".join(f"{name}={value}" for name, value in values.items() if value not in ("all", 0))
    if not learns_masks(method, inputs.step):
        raise ParameterError(
            f"{asked} is for methods that learn from masks of a step, and {method.name} is none of these; leave it out."
        )
    if _count_trusted(inputs, params.trust, params.least_confidence):
        return
    if not _count_trusted(inputs, params.trust, 0):
        raise StoreError(
            f"{inputs.store.path} holds no mask that trust={params.trust} takes; judge some with `wilss-masks review` "
            "and make a store of it with `wilss-masks revise`, or leave trust out."
        )
    confidence = inputs.store.vector("confidence")[inputs.store.vector("area") > 0]
    known = confidence[~np.isnan(confidence)]
    most = f"the most confident one has {known.max():.4f}" if known.size else "nobody said how confident they are"
    raise StoreError(f"{inputs.store.path} holds no mask that {asked} takes: {most}; ask for less, or leave it out.")


def _count_trusted(inputs: RunInputs, trust: str, least_confidence: float) -> int:
    taken = Trust.of(inputs.store, trust, 0, least_confidence=least_confidence)
    return len(MaskedImages(inputs.store, inputs.records).trained_on(0, 0, taken))


def _require_heads(params: TrainParams, method: Method, inputs: RunInputs, own_heads: bool) -> None:
    """Raise ParameterError where heads of single steps are asked for and cannot be, or are there and cannot be kept."""
    if inputs.parent is None:
        return
    if params.heads == "step" and not own_heads:
        raise ParameterError(
            f"heads=step is for methods whose outputs are a sigmoid for each class, and {method.name} is none of "
            "these; leave it out."
        )
    if has_heads(inputs) and (params.heads == "shared" or not own_heads):
        raise ParameterError(
            f"{inputs.parent.path} has heads for single steps, which {'heads=shared' if own_heads else method.name} "
            "cannot train on; "
            + ("leave heads out." if own_heads else "start --from a run that was trained with --set heads=shared.")
        )


def with_input_statistics(params: TrainParams, method: Method, inputs: RunInputs) -> TrainParams:
    """The parameters with mean and standard deviation of the input filled in: the parent's, or the backbone's own.

    Warns where it is not certain that a file's weights were trained with them.
    """
    given = (params.backbone_mean, params.backbone_std)
    if inputs.parent is not None:
        own: tuple[tuple[float, ...], tuple[float, ...]] = (inputs.parent.mean, inputs.parent.std)
        if params.backbone_mean and given != own:
            raise ParameterError(
                f"{inputs.parent.path} takes images of mean {own[0]} and standard deviation {own[1]}, and "
                f"backbone_mean and backbone_std say {given[0]} and {given[1]}; leave them out in a later step."
            )
    elif params.backbone_mean:
        return params
    else:
        statistics = input_statistics(*method.origin(params))
        if statistics.doubt:
            log.warning(statistics.doubt)
        own = (statistics.mean, statistics.std)
    return replace(params, backbone_mean=own[0], backbone_std=own[1])


def require_method(name: str) -> None:
    """Raise ParameterError unless there is a method of this name."""
    if name not in METHODS:
        raise ParameterError(f"there is no method {name!r}{closest(name, METHODS)}.")


def _parameters(
    manifest: Manifest, step: int, method: Method | str, params: TrainParams | None, layers: Iterable[Layer]
) -> tuple[Method, TrainParams]:
    """What is None or a name gets the published values with the manifest's over them; layers stand over all."""
    where = f"{manifest.path}: train"
    run_params, others = from_manifest(manifest.train, step=step, where=where)
    sections = {name: others.pop(name) for name in list(others) if name in METHODS}
    name = method if isinstance(method, str) else method.name
    section = sections.get(name) or {}
    if not isinstance(section, Mapping):
        raise ParameterError(f"{where}.{name} must be a mapping of parameters.")
    run, own = divided(TrainParams, section)
    if params is None:
        params = with_values(run_params, run, where=f"{where}.{name}")
    if isinstance(method, str):
        method = with_values(METHODS[name](), {**others, **own}, where=where, others=names_of(TrainParams))
    for where, values in layers:
        run, own = divided(TrainParams, values)
        method = with_values(method, own, where=where, others=names_of(TrainParams))
        params = with_values(params, run, where=where)
    return method, params
