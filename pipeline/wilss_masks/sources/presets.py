"""Whole sets of parameters by name: what `preset=paper` stands for, and what a new manifest begins with."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from wilss.data.manifest import Manifest, require_manifest
from wilss.data.taxonomy import closest
from wilss.disk import joined
from wilss.errors import ParameterError
from wilss.params import with_values

from ..stages.params import refuse_idle

P = TypeVar("P")

PAPER, RECOMMENDED = "paper", "recommended"
_PRESET = ("preset",)  # what may stand beside the parameters of a source
#: Values by preset and source, in the place of the defaults of the source's parameters, which are the paper's; those of
#: `bank` are not, so that ModuSeg's way is a preset. The recommended ones were chosen on several kinds of pictures and
#: judged on others (workflows/presets).
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    PAPER: {"bank": {"entries": "masks", "vote": "nearest", "first": 0.0, "spread": "none"}},
    RECOMMENDED: {
        "fmwiss": {
            "placing": "soft",
            "power": 1.0,
            "passes": 2,
            "fusion": "seeds",
            "keep": "std",
            "keep_amount": 0.8,
            "classes": "compete",
            "boundaries": "guided",
            "guided_radius": 24,
            "guided_eps": 0.0001,
            "guided_step": 4,
        },
        "cam": {
            "affinity_from": "own",
            "patches": True,
            "patch_rounds": 12,
            "classes": "compete",
            "regions": "felzenszwalb",
            "region_size": 100,
            "boundaries": "pamr",
            "cut": 0.6,
        },
    },
}


def params_of(
    defaults: P, manifest: Manifest, name: str, values: Mapping[str, Any] = MappingProxyType({}), *, where: str
) -> P:
    """The parameters of the source `name`: a preset's, then those of the manifest's section, then `values`.

    A `preset` among `values` is taken in the place of all that the manifest says. Files and folders that the section
    names are seen from the manifest, those of `values` from where the command is given. Raises ParameterError, also for
    what changes nothing (`refuse_idle`).
    """
    require_manifest(manifest)
    section = manifest.masks.get(name, {})
    said = f"{manifest.path}: masks.{name}"
    of_section: set[str] = set()
    if "preset" in values:
        params = _preset(defaults, name, values["preset"], where)
    else:
        begun = section.get("preset", manifest.preset or None)
        params = defaults if begun is None else _preset(defaults, name, begun, said)
        params = with_values(params, _seen_from(manifest, params, section), where=said, others=_PRESET)
        of_section = set(getattr(params, "idle", ())) & set(section)
    found = with_values(params, _but_preset(values), where=where, others=_PRESET)
    refuse_idle(found, values, where)
    refuse_idle(found, of_section, said)  # which `values` may have given an effect, and may take it from others
    return found


def _preset(defaults: P, name: str, preset: object, where: str) -> P:
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ParameterError(f"{where}: there is no preset {preset!r}{closest(str(preset), PRESETS)}.")
    return with_values(defaults, PRESETS[preset].get(name, {}), where=where)


def named_values(manifest: Manifest, name: str, values: Mapping[str, Any]) -> set[str]:
    """The parameters that `params_of` takes from the manifest's section and from `values`, and not from a preset."""
    section = {} if "preset" in values else manifest.masks.get(name, {})
    return {*_but_preset(section), *_but_preset(values)}


def _seen_from(manifest: Manifest, params: object, section: Mapping[str, Any]) -> dict[str, Any]:
    """A section's values but `preset`, with what says where something lies as a path that holds everywhere."""
    places, folder = getattr(params, "places", ()), manifest.path.absolute().parent
    return {
        name: _place(folder, value) if name in places and value and isinstance(value, str) else value
        for name, value in _but_preset(section).items()
    }


def _place(folder: Path, word: str) -> str:
    return str(joined(folder, os.path.expanduser(word)))


def _but_preset(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "preset"}
