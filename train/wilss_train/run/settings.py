"""What a run is asked for: method and parameters from the manifest and whatever is said over it, and the folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wilss.data.manifest import Manifest, load_manifest
from wilss.data.taxonomy import closest
from wilss.errors import ParameterError
from wilss.params import with_values

from ..inputs import RunInputs, default_out, open_inputs
from ..methods import METHODS, Method
from ..params import TrainParams, divided, from_manifest

__all__ = ["Layer", "open_run", "require_method"]

#: Parameters by name, of the run or of its method, and where they were said.
Layer = tuple[str, Mapping[str, Any]]


def open_run(
    masks: Path | str,
    *,
    manifest: Manifest | Path | str,
    method: Method | str,
    out: Path | str | None = None,
    parent: Path | str | None = None,
    params: TrainParams | None = None,
    layers: Iterable[Layer] = (),
) -> tuple[RunInputs, Method, TrainParams, Path]:
    """What a run reads, its method and parameters, and its folder; everything is checked, nothing is written.

    method, params: instances are taken as they are; otherwise the manifest's values stand over the published ones.
    layers: stand over both, the last highest. Raises a WilssError, see `open_inputs` and `with_values`.
    """
    opened = manifest if isinstance(manifest, Manifest) else load_manifest(Path(manifest))
    name = method if isinstance(method, str) else method.name
    require_method(name)
    inputs = open_inputs(opened, Path(masks), None if parent is None else Path(parent), name)
    method, params = _parameters(opened, inputs.step, method, params)
    for where, values in layers:
        run, own = divided(values)
        method, params = with_values(method, own, where=where), with_values(params, run, where=where)
    return inputs, method, params, default_out(opened, inputs.step, name) if out is None else Path(out)


def require_method(name: str) -> None:
    """Raise ParameterError unless there is a method of this name."""
    if name not in METHODS:
        raise ParameterError(f"there is no method {name!r}{closest(name, METHODS)}.")


def _parameters(
    manifest: Manifest, step: int, method: Method | str, params: TrainParams | None
) -> tuple[Method, TrainParams]:
    """What is None or a name gets the published values with the manifest's over them."""
    where = f"{manifest.path}: train"
    run_params, others = from_manifest(manifest.train, step=step, where=where)
    sections = {name: others.pop(name) for name in list(others) if name in METHODS}
    name = method if isinstance(method, str) else method.name
    section = sections.get(name) or {}
    if not isinstance(section, Mapping):
        raise ParameterError(f"{where}.{name} must be a mapping of parameters.")
    run, own = divided(section)
    if params is None:
        params = with_values(run_params, run, where=f"{where}.{name}")
    if isinstance(method, str):
        method = with_values(METHODS[name](), {**others, **own}, where=where)
    return method, params
