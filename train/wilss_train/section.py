"""The section `train` of a manifest: what a run would refuse of it, found before one is begun."""

from collections.abc import Iterator, Mapping
from typing import Any

from wilss.data.manifest import Manifest
from wilss.data.taxonomy import closest
from wilss.errors import ParameterError, WeightsError
from wilss.models.networks.pretrained import is_local
from wilss.params import divided, faults_of, names_of

from .inputs import digest_of_backbone, weights_path
from .methods import METHODS
from .methods.segmenter import spec_of_params
from .params import STEP_SECTIONS, TrainParams, from_manifest

_OF_METHODS = {name: names_of(method) for name, method in METHODS.items()}
_OWN = (name for own in _OF_METHODS.values() for name in own)
_ALL = tuple(dict.fromkeys([*names_of(TrainParams), *STEP_SECTIONS, *METHODS, *_OWN]))


def faults(manifest: Manifest, weights: bool) -> Iterator[str]:
    """A sentence for every parameter that is misspelt or impossible, in every part of the section.

    weights: also build the backbone, and read its weights where they lie in a file.
    """
    where = f"{manifest.path}: train"
    plain = {key: value for key, value in manifest.train.items() if key not in (*STEP_SECTIONS, *METHODS)}
    found = list(_faults_of_part(plain, tuple(METHODS), where))
    for part in (*STEP_SECTIONS, *METHODS):
        values = manifest.train.get(part) or {}
        if not isinstance(values, Mapping):
            found.append(f"{where}.{part} must be a mapping of parameters.")
            continue
        found += _faults_of_part(values, (part,) if part in METHODS else tuple(METHODS), f"{where}.{part}")
    yield from found or (_faults_of_weights(manifest, where) if weights else ())


def _faults_of_part(values: Mapping[str, Any], methods: tuple[str, ...], where: str) -> Iterator[str]:
    """methods: those of which a parameter may be."""
    run, own = divided(TrainParams, values)
    yield from faults_of(TrainParams(), run, where=where)
    for name, value in own.items():
        known = [method for method in methods if name in _OF_METHODS[method]]
        if not known:
            yield f"{where}: there is no parameter {name!r}{closest(name, _ALL)}."
        for method in known[:1]:
            yield from faults_of(METHODS[method](), {name: value}, where=where)


def _faults_of_weights(manifest: Manifest, where: str) -> Iterator[str]:
    """Of the backbone and its weights, where these lie in a file: nothing is fetched for this."""
    from wilss.models.networks.segmenter import build
    from wilss.models.networks.weights import load_backbone
    from wilss.models.shapes_only import undrawn

    try:
        params, _ = from_manifest(manifest.train, step=0, where=where)
        with undrawn():
            network = build(spec_of_params(params, 2), seed=0)
        if params.backbone_weights and is_local(params.backbone_weights):
            digest_of_backbone(params, manifest)
            load_backbone(network, weights_path(params.backbone_weights, params.backbone, manifest))
    except ParameterError as error:
        yield str(error) if str(error).startswith(where) else f"{where}: {error}"
    except WeightsError as error:
        yield f"{where}.backbone_weights: {error}"
