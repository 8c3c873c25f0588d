import pytest

from wilss.data.taxonomy import COCO, COCO_CATEGORY_IDS, VOC, Taxonomy, closest
from wilss.errors import ManifestError

# VOC id -> COCO's own category id, as counted in the field's code
VOC_TO_COCO = {
    1: 5, 2: 2, 3: 16, 4: 9, 5: 44, 6: 6, 7: 3, 8: 17, 9: 62, 10: 21, 11: 67, 12: 18, 13: 19, 14: 4, 15: 1, 16: 64,
    17: 20, 18: 63, 19: 7, 20: 72,
}  # fmt: skip


def test_voc_classes_are_found_in_coco_by_name() -> None:
    found = {i: COCO.find(VOC.name_of(i)) for i in VOC.class_ids}
    assert {i: COCO_CATEGORY_IDS[c] for i, c in found.items() if c is not None} == VOC_TO_COCO


def test_coco_classes_are_found_in_voc_by_name_and_only_twenty_of_them() -> None:
    assert sum(VOC.find(name) is not None for name in COCO.class_names[1:]) == 20
    assert VOC.find("tv") == 20
    assert VOC.find("Potted_Plant") == 16
    assert VOC.find("zebra") is None


def test_ids_and_names_are_each_others_inverse() -> None:
    assert [COCO.find(name) for name in COCO.class_names] == list(range(81))
    assert [VOC.name_of(VOC.class_names.index(name)) for name in VOC.class_names] == list(VOC.class_names)


@pytest.mark.parametrize("identity", [-1, 21, 255])
def test_an_id_that_is_none_is_refused(identity: int) -> None:
    with pytest.raises(ManifestError, match="0 to 20"):
        VOC.name_of(identity)


def test_a_misspelt_class_is_refused_with_the_one_that_was_meant() -> None:
    assert closest("potedplant", VOC.class_names) == "; did you mean 'pottedplant'"


def test_closest_lists_what_there_is_when_nothing_is_near() -> None:
    assert closest("xyz", ["train", "val"]) == "; there are train, val"
    assert closest("trian", ["train", "val"]) == "; did you mean 'train'"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("background",), "1 to 254"),
        (("background", "a", "a"), "'a' twice"),
        (("background", " "), "class 1 .* no name"),
        (tuple(str(i) for i in range(256)), "256 names"),
    ],
)
def test_names_that_cannot_be_told_apart_are_refused(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(ManifestError, match=told):
        Taxonomy(name="t", class_names=names)


def test_a_name_of_its_own_wins_over_the_other_taxonomys_name() -> None:
    both = Taxonomy(name="t", class_names=("background", "couch", "sofa"))
    assert (both.find("sofa"), both.find("couch")) == (2, 1)
