"""What the maps that a store keeps are called where they are drawn, and on which an outline says where they are cut."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wilss.store import MaskStore


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a map is headed. note: below that. is_cut: whether something is cut from it, which an outline shows."""

    heading: str
    note: str = ""
    is_cut: bool = True


@dataclass(frozen=True, kw_only=True)
class MapsShown:
    """The maps of a store. attention: None where there is none, or it is the score once more."""

    score: Shown
    attention: Shown | None = None


def maps_shown(store: MaskStore) -> MapsShown:
    """By a store's source, and for fmwiss and cam by what it says of its parameters."""
    noted = store.attributes.get("parameters")
    parameters: Mapping[str, Any] = noted if isinstance(noted, dict) else {}
    if store.layout.attention_grid is None:
        return MapsShown(score=_of_scores(str(store.attributes.get("source"))))
    return _of_cam(parameters) if store.attributes.get("source") == "cam" else _of_fmwiss(parameters)


def _of_scores(source: str) -> Shown:
    if source == "sam3":
        return Shown(heading="SAM 3 score", note="outline: the cut of a tag alone")
    return Shown(heading="Score", note="probability; outline: 0.5")


def _of_fmwiss(parameters: Mapping[str, Any]) -> MapsShown:
    heading = "CLIP Grad-CAM" if parameters.get("score") == "gradcam" else "CLIP score"
    score = Shown(heading=heading, note="outline: M_init")
    if parameters.get("placing", "drawn") == "drawn":
        return MapsShown(score=score, attention=Shown(heading="Seed attention", note="outline: M_seeds, dots: seeds"))
    if parameters.get("fusion") == "seeds":  # nothing is cut from the score, which only weighs the patches
        score = Shown(heading=heading, note="the weight of patches", is_cut=False)
    return MapsShown(score=score, attention=Shown(heading="Spread map", note="of all patches; outline: its cut"))


def _of_cam(parameters: Mapping[str, Any]) -> MapsShown:
    if parameters.get("patches") is True:
        attention = Shown(heading="Learnt patches", note="against background; outline: its cut")
    elif parameters.get("affinity_from", "none") != "none":
        attention = Shown(heading="Spread map", note="outline: its cut")
    else:
        return MapsShown(score=Shown(heading="Activation map", note="outline: its cut"))
    return MapsShown(score=Shown(heading="Activation map", is_cut=False), attention=attention)
