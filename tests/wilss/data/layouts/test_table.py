"""Image records in columns: the same as a tuple of them in all that one can ask, and small."""

import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from wilss.data.layouts import ImageRecord, Label, LabelTable, PngLabel, Records, RecordsById

TABLES = [LabelTable.of([(0, 0), (1, 1)]), LabelTable.of([(0, 0), (1, 2)])]


@dataclass(frozen=True)
class Flat:
    """A label that is no file."""

    value: int

    def read(self) -> NDArray[np.uint8]:
        return np.full((1, 1), self.value, np.uint8)


IDS = st.one_of(st.text("ab/.", max_size=4), st.text("ab\u00e9\ud800", max_size=3))
FOLDERS = st.sampled_from(["/data", "/data/a", "pictures", "."])


@st.composite
def paths(draw: st.DrawFn, image_id: str) -> Path:
    """As a rule the id is in the path, but it need not be, and may be there twice."""
    name = draw(st.sampled_from([image_id, image_id + image_id, "other"]))
    return Path(draw(FOLDERS), f"{name.lstrip('/')}{draw(st.sampled_from(['.jpg', '.JPG', '']))}")


@st.composite
def records(draw: st.DrawFn) -> ImageRecord:
    image_id = draw(IDS)
    label: Label | None = draw(
        st.one_of(
            st.none(),
            st.builds(Flat, st.integers(0, 2)),
            st.builds(PngLabel, path=paths(image_id), table=st.sampled_from(TABLES)),
        )
    )
    return ImageRecord(
        image_id=image_id,
        path=draw(paths(image_id)),
        tags=draw(st.sampled_from([(), (1,), (1, 2)])),
        label=label,
        problem=draw(st.sampled_from([None, None, "it is broken.", ""])),
        tags_unknown=draw(st.booleans()),
    )


MANY = st.lists(records(), max_size=12).map(tuple)
SOME = settings(max_examples=30)  # each is a dozen records


@SOME
@given(plain=MANY, data=st.data())
def test_a_table_is_a_tuple_of_records(plain: tuple[ImageRecord, ...], data: st.DataObject) -> None:
    table = Records(plain)
    assert tuple(table) == plain
    assert len(table) == len(plain)
    assert [table[place] for place in range(-len(plain), len(plain))] == [*plain, *plain]
    assert table == plain
    assert plain == table
    assert hash(table) == hash(plain)
    assert pickle.loads(pickle.dumps(table)) == plain
    assert Records.of(table) is table
    where = data.draw(st.slices(len(plain)))
    _require_same(table[where], plain[where])
    _require_same(table[where][::-1], plain[where][::-1])
    chosen = data.draw(st.lists(st.booleans(), min_size=len(plain), max_size=len(plain)))
    kept = tuple(one for one, keep in zip(plain, chosen, strict=True) if keep)
    _require_same(table.where(chosen), kept)
    _require_same(table.where(chosen)[1:], kept[1:])
    _require_same(table[::-1].where(chosen[::-1]), kept[::-1])


def _require_same(table: Records, plain: tuple[ImageRecord, ...]) -> None:
    assert isinstance(table, Records)
    assert table == plain
    assert list(table.ids()) == [one.image_id for one in plain]
    assert list(table.facts()) == [(one.image_id, one.tags, one.problem) for one in plain]
    assert list(table.are_unknown()) == [one.tags_unknown for one in plain]
    assert list(table.have_labels()) == [one.label is not None for one in plain]
    tags, kinds = table.kinds_of_tags()
    assert [tags[kind] for kind in kinds] == [one.tags for one in plain]


@SOME
@given(plain=st.lists(records(), max_size=12, unique_by=lambda record: record.image_id), data=st.data())
def test_records_by_id_are_a_dict_of_records(plain: list[ImageRecord], data: st.DataObject) -> None:
    where = data.draw(st.slices(len(plain)))
    by_id = RecordsById(Records(plain)[where])
    expected = {record.image_id: record for record in plain[where]}
    assert list(by_id.items()) == list(expected.items())
    assert RecordsById.of(by_id) is by_id
    assert list(RecordsById.of(expected).items()) == list(expected.items())
    assert pickle.loads(pickle.dumps(by_id)) == expected
    asked = [record.image_id for record in plain] + data.draw(st.lists(IDS, max_size=4))
    assert [by_id.get(name) for name in asked] == [expected.get(name) for name in asked]
    order = {name: row for row, name in enumerate(expected)}
    assert by_id.rows(asked).tolist() == [order.get(name, -1) for name in asked]


@SOME
@given(plain=MANY, other=MANY)
def test_tables_differ_where_their_records_do(plain: tuple[ImageRecord, ...], other: tuple[ImageRecord, ...]) -> None:
    assert (Records(plain) == Records(other)) == (plain == other)
    assert Records(plain) != list(plain), "as with a tuple"


@SOME
@given(plain=MANY, data=st.data())
def test_a_table_takes_other_tags_and_leaves_the_first_as_it_was(
    plain: tuple[ImageRecord, ...], data: st.DataObject
) -> None:
    fact = st.tuples(st.sampled_from([(), (3,)]), st.sampled_from([None, "no tags."]), st.booleans())
    facts = data.draw(st.lists(fact, min_size=len(plain), max_size=len(plain)))
    table = Records(plain)
    made = table.tagged(facts)
    assert [(one.tags, one.problem, one.tags_unknown) for one in made] == facts
    assert [(one.image_id, one.path, one.label) for one in made] == [(p.image_id, p.path, p.label) for p in plain]
    assert table == plain


def test_a_slice_takes_no_other_tags() -> None:
    table = Records([ImageRecord(image_id=name, path=Path(name)) for name in "abc"])
    with pytest.raises(ValueError, match="whole"):
        table[1:].tagged([((), None, False)] * 2)


def test_an_image_takes_60_bytes_with_its_paths_label_and_tags() -> None:
    """Measured 16, of which 2 are for the half of them that is chosen; 720 as a tuple of records."""
    count = 4000

    def images() -> Iterator[ImageRecord]:
        for number in range(count):
            name = f"image_{number:07d}"
            label = PngLabel(path=Path(f"/data/labels/{name}.png"), table=TABLES[0])
            yield ImageRecord(image_id=name, path=Path(f"/data/{name}.jpg"), tags=(number % 5,), label=label)

    tracemalloc.start()
    try:
        table = Records(images())
        kept = table.where(number % 2 == 0 for number in range(count))
        # not what pathlib interned: the interpreter's own table of strings grows by leaps
        mine = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/wilss/data/layouts/*")])
    finally:
        tracemalloc.stop()
    assert (len(table), len(kept)) == (count, count // 2)
    assert sum(trace.size for trace in mine.traces) / count < 60


def test_finding_by_id_takes_20_bytes_an_image() -> None:
    """Measured 12, where a dict of the records takes 835."""
    table = Records(ImageRecord(image_id=f"image_{n:07d}", path=Path(f"/data/image_{n:07d}.jpg")) for n in range(4000))
    tracemalloc.start()
    try:
        by_id = RecordsById(table)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(by_id) == 4000
    assert size / 4000 < 20
