"""The plan: every image once, in its shard; batches of equal shapes; the same whoever asks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.faults.standin import StandInSource
from wilss.data.layouts import ImageRecord
from wilss.errors import StoreError
from wilss.store import Status
from wilss_masks.make.plan import MaskPlan, make_plan

SIZES = [(8, 12), (12, 8), (8, 8)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    for i, size in enumerate(SIZES):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"")
    return [folder / f"{i}.png" for i in range(len(SIZES))] + [folder / "broken.png"]


def plan(images: list[Path], kinds: list[int], tags: list[tuple[int, ...]], **sizes: Any) -> MaskPlan:
    records = [
        ImageRecord(image_id=f"{i}", path=images[kind], tags=tag)
        for i, (kind, tag) in enumerate(zip(kinds, tags, strict=True))
    ]
    sizes = {"shard_size": 4, "batch_size": 2, **sizes}
    return make_plan(step=1, records=records, categories={7: "seven", 9: "nine"}, source=StandInSource(),
                     keep_soft=True, **sizes)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 14), shard_size=st.integers(1, 5), batch_size=st.integers(1, 4))
def test_every_image_is_made_once_with_mates_of_its_shape(
    images: list[Path], data: st.DataObject, count: int, shard_size: int, batch_size: int
) -> None:
    kinds = [0, *data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))]
    tags = [(7,), *data.draw(st.lists(st.sampled_from([(7,), (9,), (7, 9), (), (3,)]), min_size=count, max_size=count))]
    made = plan(images, kinds, tags, shard_size=shard_size, batch_size=batch_size)
    seen: list[int] = []
    for shard in range(made.layout.num_shards):
        task = made.shard(shard)
        first = made.layout.rows(shard).start
        for batch in task.batches:
            assert 1 <= len(batch) <= batch_size
            assert len({(task.images[i].height, task.images[i].width) for i in batch}) == 1
            seen += [first + i for i in batch]
    wanted = [i for i, (kind, tag) in enumerate(zip(kinds, tags, strict=True)) if kind < 3 and set(tag) & {7, 9}]
    assert sorted(seen) == wanted


def test_the_header_says_what_is_known_beforehand(images: list[Path]) -> None:
    header = plan(images, [0, 1, 3, 2], [(7,), (7, 9), (9,), (3,)]).header({"step": 1})
    assert header.heights.tolist() == [8, 12, 0, 8]
    assert header.widths.tolist() == [12, 8, 0, 8]
    assert header.tags.tolist() == [[True, False], [True, True], [False, True], [False, False]]
    assert header.status.tolist() == [Status.PENDING, Status.PENDING, Status.PENDING, Status.UNTAGGED]
    assert header.layout.canvas == (12, 12)
    assert header.layout.score_grid == (3, 3)


def test_soft_layers_have_no_room_when_nobody_keeps_them(images: list[Path]) -> None:
    layout = make_plan(
        step=1, records=[ImageRecord(image_id="a", path=images[0], tags=(7,))], categories={7: "seven"},
        source=StandInSource(), shard_size=4, batch_size=2, keep_soft=False,
    ).layout  # fmt: skip
    assert layout.score_grid is None
    assert layout.num_seeds == 0


def test_a_step_without_a_usable_image_is_refused(images: list[Path]) -> None:
    with pytest.raises(StoreError, match=r"none of the 1 images of step 1 can be used: .*broken.png"):
        plan(images, [3], [(7,)])
    with pytest.raises(StoreError, match="the step has no images"):
        plan(images, [], [])
