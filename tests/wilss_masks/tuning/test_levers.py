"""Settings beyond the paper's recipe: lever by lever, few of them, and told in words."""

import dataclasses
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from wilss.errors import ParameterError
from wilss_masks.commands.tune import _section
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.tuning.levers import levers
from wilss_masks.tuning.masks import cost
from wilss_masks.tuning.search import Work
from wilss_masks.tuning.settings import Setting, apart, as_in_the_paper, changes, described, neighbours, settings

BEST = FmwissParams(threshold=0.7, keep="std", keep_amount=1.0, fusion="seeds", draws=5)


def test_all_levers_together_are_fewer_than_two_hundred_settings() -> None:
    known: list[Setting] = [Setting(params=BEST)]
    for lever in levers(["own", "package", "both"]):
        found = apart(lever.settings(BEST), known)
        assert found or (lever.name == "regions" and not find_spec("skimage")), f"{lever.name} changes nothing"
        known += found
    assert len(known) < 200
    values = {
        name: {getattr(one.params, name) for one in known} for name in ("placing", "classes", "regions", "boundaries")
    }
    assert values == {
        "placing": {"drawn", "soft"},
        "classes": {"overlap", "compete"},
        "regions": {"none", "felzenszwalb", "slic"} if find_spec("skimage") else {"none"},
        "boundaries": {"none", "pamr", "guided"},
    }


def test_a_lever_keeps_what_others_have_chosen() -> None:
    chosen = dataclasses.replace(BEST, placing="soft", power=3.0, balance="symmetric", classes="compete")
    for lever in levers(["own"]):
        for one in lever.settings(chosen):
            assert one.params is not None
            changed = {name for name in changes(chosen, one.params) if name in ("placing", "classes")}
            assert not changed or lever.name.startswith(("soft", "classes"))


def test_what_makes_no_other_masks_is_tried_once() -> None:
    soft = dataclasses.replace(BEST, placing="soft")
    same = [dataclasses.replace(soft, draws=9), dataclasses.replace(soft, threshold=0.1)]
    assert not apart([Setting(params=one) for one in same], [Setting(params=soft)])
    assert not apart([Setting(params=dataclasses.replace(BEST, power=4.0))], [Setting(params=BEST)])
    for values in ({"power": 4.0}, {"passes": 2}, {"balance": "symmetric"}, {"fusion": "union"}):
        assert apart([Setting(params=dataclasses.replace(soft, **values))], [Setting(params=soft)])


def test_the_grid_is_the_papers_whatever_the_present_setting_adds() -> None:
    present = dataclasses.replace(BEST, placing="soft", passes=2, classes="compete", boundaries="pamr", unsure=0.6)
    found = settings(present, ["own"])
    control = next(one for one in found if one.control == "present").params
    assert control == dataclasses.replace(present, unsure=0.0)
    free = [one.params for one in found if one.params is not None and not one.control]
    assert all(one.is_literal and not one.has_stages for one in free)
    plain = as_in_the_paper(present)
    assert plain == BEST
    assert len(free) <= len(settings(plain, ["own"]))


def test_a_setting_is_told_in_words() -> None:
    assert described(BEST) == "softmax, threshold 0.7, std 1, seeds, 5 x 9 seeds"
    soft = dataclasses.replace(BEST, placing="soft", passes=2, balance="sinkhorn", classes="compete", boundaries="pamr")
    assert described(soft) == "softmax, std 1, seeds, soft ^2 x 2, sinkhorn, compete, pamr"
    assert "threshold 0.7" in described(dataclasses.replace(soft, fusion="union"))


def test_small_steps_of_soft_seeds_are_of_their_power() -> None:
    near = neighbours(dataclasses.replace(BEST, placing="soft", power=0.25))
    assert {one.params.power for one in near if one.params} == {0.25, 0.75}  # not below 0
    assert {one.params.draws for one in near if one.params} == {5}
    with pytest.raises(ParameterError):
        dataclasses.replace(BEST, power=-0.25)


def test_time_left_is_told_by_what_settings_cost() -> None:
    """Of rounds that lie ahead it is a guess; of those that are done nothing but what they cost."""
    told: list[tuple[int, int]] = []
    plain = [Setting(params=BEST, control="present"), *settings(BEST, ["own"])[:199]]
    soft = Setting(params=dataclasses.replace(BEST, placing="soft"))
    guided = Setting(params=dataclasses.replace(BEST, boundaries="guided"))
    assert (cost(plain), cost([soft]), cost([guided]), cost([soft, guided])) == (200, 20, 90, 110)
    pulled = levers(["own"])[:2]
    work = Work(lambda done, total: told.append((done, total)), 40, 100, plain, pulled)
    guessed = 40 * 200 + 60 * 150 + 100 * (cost(neighbours(BEST)) + sum(cost(one.settings(BEST)) for one in pulled))
    work.add(200)
    work.tell()
    work.begin([])  # nothing new to try
    work.begin([soft, guided])
    work.add(110)
    work.tell()
    work.end()
    assert told[0] == (200, guessed)
    assert told[1] == (200 + 110, 200 + 100 * (110 + cost(pulled[1].settings(BEST))))
    assert told[2] == (310, 310)


def test_what_a_manifest_names_and_the_best_has_no_use_for_is_not_written() -> None:
    present = dataclasses.replace(BEST, boundaries="guided", guided_radius=24, regions="slic", region_size=400)
    best = dataclasses.replace(present, boundaries="pamr", regions="none")
    named: Any = SimpleNamespace(
        present=SimpleNamespace(setting=Setting(params=present), score=0.4),
        best=SimpleNamespace(setting=Setting(params=best), score=0.5),
        sample=SimpleNamespace(kind="labels"),
        found=SimpleNamespace(judged=9),
        calibration=None,
    )
    section = {"threshold": 0.7, "boundaries": "guided", "guided_radius": 24, "regions": "slic", "region_size": 400}
    manifest = SimpleNamespace(masks={"fmwiss": section})
    values, _ = _section(named, manifest, {"assignments": ["stage_size=300"], "step": 1})
    assert values == {"threshold": 0.7, "boundaries": "pamr", "regions": "none", "stage_size": 512}
