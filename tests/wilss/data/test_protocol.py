from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wilss.data.protocol import PRESETS, StepProtocol, name_of_steps, preset
from wilss.data.taxonomy import BACKGROUND, COCO, VOC, VOID, Taxonomy
from wilss.errors import ProtocolError


@st.composite
def protocols(draw: st.DrawFn) -> StepProtocol:
    """Any split of up to eight of ten classes, in any order, into steps."""
    count = draw(st.integers(1, 8))
    ids = draw(st.permutations(range(1, 11)))[:count]
    cuts = sorted(draw(st.sets(st.integers(1, count - 1), max_size=4))) if count > 1 else []
    steps = tuple(tuple(ids[a:b]) for a, b in zip([0, *cuts], [*cuts, count], strict=True))
    names = ("background", *(f"c{i}" for i in range(1, 11)))
    setting: Any = draw(st.sampled_from(["overlap", "disjoint"]))
    return StepProtocol(name="p", taxonomy=Taxonomy(name="t", class_names=names), steps=steps, setting=setting)


@given(protocols())
def test_channels_are_places_in_seen(protocol: StepProtocol) -> None:
    for step in range(protocol.num_steps):
        seen = protocol.seen(step)
        assert [seen[c] for c in protocol.new_channels(step)] == list(protocol.new(step))
        assert [seen[c] for c in protocol.old_channels(step)] == [BACKGROUND, *protocol.old(step)]
        assert sorted(protocol.old_channels(step) + protocol.new_channels(step)) == list(range(len(seen)))
        if step:
            assert protocol.seen(step - 1) == seen[: len(protocol.old_channels(step))]


@given(protocols(), st.sets(st.integers(1, 10)), st.booleans())
def test_admits_is_the_definition_in_sets(protocol: StepProtocol, classes: set[int], void: bool) -> None:
    pixels = classes | {BACKGROUND} | ({VOID} if void else set())
    for step in range(protocol.num_steps):
        allowed = {BACKGROUND, *(i for ids in protocol.steps[: step + 1] for i in ids)}
        wanted = bool(classes & set(protocol.steps[step]))
        if protocol.setting == "disjoint":
            wanted = wanted and classes <= allowed
        assert protocol.admits(pixels, step) is wanted


def test_a_class_is_the_same_however_its_umlauts_are_composed() -> None:
    def named(name: str) -> StepProtocol:
        return StepProtocol(
            name="p", taxonomy=Taxonomy(name="t", class_names=("background", name, "cat")), steps=((1,), (2,))
        )

    def difference(other: str) -> str | None:
        return named("B\u00e4r").difference(named(other), 1, here="one", there="the other")

    assert difference("Ba\u0308r") is None
    assert difference("Bar") == "class 1 is 'B\u00e4r' to one and 'Bar' to the other"


@given(st.lists(st.sets(st.integers(1, 20), min_size=1, max_size=4), min_size=1, max_size=60))
def test_the_counts_of_the_field_hold_in_kind(images: list[set[int]]) -> None:
    """On VOC: disjoint steps share no image and fill the list; the last step is the same in both settings."""
    for name in ("15-5", "10-10", "19-1", "15-1", "10-5", "10-2"):
        overlap, disjoint = preset(name, VOC, "overlap"), preset(name, VOC, "disjoint")
        chosen = {
            p.setting: [[i for i, c in enumerate(images) if p.admits(c, t)] for t in range(p.num_steps)]
            for p in (overlap, disjoint)
        }
        assert sorted(i for step in chosen["disjoint"] for i in step) == list(range(len(images)))
        assert chosen["overlap"][-1] == chosen["disjoint"][-1]
        assert all(set(d) <= set(o) for d, o in zip(chosen["disjoint"], chosen["overlap"], strict=True))


def test_every_pair_of_classes_goes_to_the_steps_that_the_field_sends_it_to() -> None:
    """All images with two of VOC's classes, counted by hand: C(15,2) + 15 * 5 + C(5,2) = 105 + 75 + 10."""
    images = [set(pair) for pair in combinations(VOC.class_ids, 2)]
    overlap, disjoint = preset("15-5", VOC), preset("15-5", VOC, "disjoint")
    counted = [[sum(p.admits(c, t) for c in images) for t in (0, 1)] for p in (overlap, disjoint)]
    assert counted == [[180, 85], [105, 85]]


def test_coco_to_voc_leaves_out_every_coco_image_with_a_voc_class_at_step_0() -> None:
    protocol = preset("coco-voc", COCO, "disjoint")
    assert [len(ids) for ids in protocol.steps] == [60, 20]
    assert [COCO.name_of(i) for i in protocol.new(1)[:5]] == ["airplane", "bicycle", "bird", "boat", "bottle"]
    zebra, person = COCO.class_names.index("zebra"), COCO.class_names.index("person")
    assert protocol.admits({zebra}, 0)
    assert not protocol.admits({zebra, person}, 0)
    assert protocol.admits({zebra, person}, 1)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_cover_each_class_once(name: str) -> None:
    protocol = preset(name, COCO if name == "coco-voc" else VOC)
    assert sorted(i for ids in protocol.steps for i in ids) == list(protocol.taxonomy.class_ids)
    assert name_of_steps(protocol.steps) == {"5i-3": "15-5"}.get(name, name)  # the same classes twice


def test_steps_of_no_preset_are_named_by_their_sizes() -> None:
    assert name_of_steps([(1, 2, 3), (4,)]) == "3-1"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ((), "no steps"),
        (((1,), ()), "step 1 .* no classes"),
        (((0, 1),), "background"),
        (((1, 21),), "lists class 21"),
        (((1, 2), (2,)), r"step 1 .* class 2 \(bicycle\), which came at step 0"),
        (((1, 255),), "lists class 255"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps: tuple[tuple[int, ...], ...], told: str) -> None:
    with pytest.raises(ProtocolError, match=told):
        StepProtocol(name="p", taxonomy=VOC, steps=steps)


@pytest.mark.parametrize("step", [-1, 2])
def test_a_step_that_there_is_not_is_refused(step: int) -> None:
    protocol = preset("15-5", VOC)
    for method in (protocol.new, protocol.old, protocol.seen, protocol.new_channels, protocol.old_channels):
        with pytest.raises(ProtocolError, match="steps are 0 to 1"):
            method(step)


def test_a_preset_for_other_classes_is_refused() -> None:
    with pytest.raises(ProtocolError, match="20 classes.*80"):
        preset("15-5", COCO)
    with pytest.raises(ProtocolError, match="did you mean '15-5'"):
        preset("15-6", VOC)
    with pytest.raises(ProtocolError, match="neither overlap nor disjoint"):
        StepProtocol(name="p", taxonomy=VOC, steps=((1,),), setting="both")  # type: ignore[arg-type]


@pytest.mark.parametrize("fold", range(4))
def test_a_fold_of_few_shot_segmentation_holds_five_classes_out(fold: int) -> None:
    protocol = preset(f"5i-{fold}", VOC)
    first = 5 * fold + 1
    assert protocol.later(0) == protocol.new(1) == tuple(range(first, first + 5))
    assert len(protocol.new(0)) == 15
    assert protocol.later(1) == ()


def test_what_comes_later_is_all_that_comes_later() -> None:
    protocol = preset("15-1", VOC)
    assert protocol.later(2) == (18, 19, 20)
    with pytest.raises(ProtocolError, match="has no step 6"):
        protocol.later(6)


def test_a_step_that_there_is_not_is_met_with_those_that_there_are() -> None:
    taxonomy = Taxonomy(name="pets", class_names=("background", "cat", "dog"))
    for steps, told in ((((1,), (2,)), "its steps are 0 to 1."), (((1, 2),), "its only step is 0.")):
        protocol = StepProtocol(name="pets", taxonomy=taxonomy, steps=steps, setting="overlap")
        with pytest.raises(ProtocolError, match=f"has no step 2; {told}"):
            protocol.new(2)
