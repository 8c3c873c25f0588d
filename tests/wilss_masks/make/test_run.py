"""Making shards: bad images stay alone, memory that runs out halves the batch, a disk that is full is said."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults import cli
from tests.faults.standin import StandInManifest, StandInSource, draw_images, make
from wilss.disk import Location, folder
from wilss.disk.files import write_atomically
from wilss.errors import EncoderError, StoreError, UnreachableError
from wilss.store import ImageContent, MaskStore
from wilss_masks.commands.making.outcome import stopped
from wilss_masks.make.cluster import require_safe_address
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.make.run import propose_in_parts
from wilss_masks.sources.base import ImageTask


class OutOfMemoryError(RuntimeError):
    """Called as torch's is."""


@dataclass
class SmallDevice:
    """Proposes for at most `room` images at once; remembers how many it was given."""

    room: int
    asked: list[int] = field(default_factory=list)

    def propose(self, tasks: Any, loaded: Any) -> list[Any]:
        self.asked.append(len(tasks))
        if len(tasks) > self.room:
            raise OutOfMemoryError
        return [f"mask of {task}" for task in tasks]


def test_out_of_memory_halves_the_batch_and_keeps_the_order() -> None:
    device: Any = SmallDevice(room=2)
    numbers: Any = list(range(7))
    assert list(map(str, propose_in_parts(device, numbers, numbers))) == [f"mask of {i}" for i in range(7)]
    assert device.asked == [7, 3, 1, 2, 4, 2, 2]


def test_an_image_too_large_for_the_device_is_named(tmp_path: Path) -> None:
    class Task:
        record = type("Record", (), {"path": tmp_path / "large.png"})

    with pytest.raises(EncoderError, match=r"large.png alone; make the source"):
        propose_in_parts(SmallDevice(room=0), [Task()], [None])  # type: ignore[arg-type, list-item]


def test_other_errors_of_a_source_are_not_swallowed() -> None:
    class Broken:
        def propose(self, tasks: Any, loaded: Any) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        propose_in_parts(Broken(), [1], [1])  # type: ignore[arg-type, list-item]


def test_one_broken_image_fails_alone(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 9)
    whole = make(tmp_path / "images", tmp_path / "whole.zarr")
    assert (whole.done, whole.failed) == (9, {})
    (tmp_path / "images/image_0004.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    summary = make(tmp_path / "images", tmp_path / "broken.zarr")
    assert summary.done == 8
    assert list(summary.failed) == ["image_0004"]
    first, second = (MaskStore.open(tmp_path / name) for name in ("whole.zarr", "broken.zarr"))
    for image in first.image_ids:
        if image != "image_0004":
            assert (first.read(image).masks == second.read(image).masks).all()


def test_an_image_of_which_a_network_gives_nan_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_images(tmp_path / "images", 6)
    make(tmp_path / "images", tmp_path / "whole.zarr")
    one = StandInSource._one

    def diverged(self: StandInSource, task: ImageTask, pixels: Any) -> ImageContent:
        content = one(self, task, pixels)
        if task.record.image_id == "image_0004":
            next(iter(content.planes["score"].values()))[-1, -1] = np.nan
        return content

    monkeypatch.setattr(StandInSource, "_one", diverged)
    summary = make(tmp_path / "images", tmp_path / "nan.zarr")
    assert summary.done == 5
    assert "image_0004.png: the networks gave NaN or infinity for it (in score)" in summary.failed["image_0004"]
    whole, found = (MaskStore.open(tmp_path / name) for name in ("whole.zarr", "nan.zarr"))
    with pytest.raises(StoreError, match="NaN or infinity"):
        found.read("image_0004")
    assert (whole.read("image_0005").masks == found.read("image_0005").masks).all()


def test_a_full_disk_is_said_and_the_run_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_images(tmp_path / "images", 12)
    make(tmp_path / "images", tmp_path / "whole.zarr")
    write, left = write_atomically, [2]

    def full_after_two(path: Path, data: bytes, **how: bool) -> None:
        left[0] -= "mask" in path.parts
        if left[0] < 0 and "mask" in path.parts:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data, **how)

    monkeypatch.setattr(folder, "write_atomically", full_after_two)
    with pytest.raises(StoreError, match=r"No space left on device\); free some space and run the same command"):
        make(tmp_path / "images", tmp_path / "full.zarr")
    monkeypatch.undo()
    with pytest.raises(StoreError, match="is not complete"):
        MaskStore.open(tmp_path / "full.zarr")
    assert make(tmp_path / "images", tmp_path / "full.zarr").done == 12
    for file in sorted((tmp_path / "whole.zarr").rglob("*")):
        if file.is_file():
            assert (
                file.read_bytes() == (tmp_path / "full.zarr" / file.relative_to(tmp_path / "whole.zarr")).read_bytes()
            )


def test_a_second_run_opens_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_images(tmp_path / "images", 5)
    first = make(tmp_path / "images", tmp_path / "s.zarr")
    assert first.made_now == 5

    def never(*_: Any) -> None:
        raise AssertionError("a complete store needs no network")

    monkeypatch.setattr(StandInSource, "prepare", never)
    monkeypatch.setattr(StandInSource, "open", never)
    assert make(tmp_path / "images", tmp_path / "s.zarr").made_now == 0


def test_a_store_made_otherwise_is_refused_with_the_difference(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 5)
    make(tmp_path / "images", tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"threads: 2 asked for, 1 in the store"):
        make(tmp_path / "images", tmp_path / "s.zarr", threads=2)
    draw_images(tmp_path / "images", 6)
    with pytest.raises(StoreError, match=r"images and tags: 1 image \(image_0005\) not in the store\n"):
        make(tmp_path / "images", tmp_path / "s.zarr")
    assert make(tmp_path / "images", tmp_path / "s.zarr", overwrite=True).done == 6


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "localhost:8786", "tls://10.0.0.7:8786", "tcp://[::1]:1"])
def test_safe_addresses_pass(address: str) -> None:
    require_safe_address(address)


@pytest.mark.parametrize("address", ["tcp://10.0.0.7:8786", "node7:8786", "ws://192.168.0.1:1", "0.0.0.0:1"])
def test_addresses_elsewhere_need_tls(address: str) -> None:
    from wilss.errors import WilssError

    with pytest.raises(WilssError, match="neither on this machine nor tls://"):
        require_safe_address(address)


def test_a_run_says_at_once_what_is_to_do_and_shows_batches_before_their_shard_is_there(tmp_path: Path) -> None:
    draw_images(tmp_path / "images", 9)
    told: list[Any] = []
    generate_few(tmp_path, lambda *at: told.append(at), told.append)
    assert told[0] == "step 0 of standin by standin: 9 images, 3 shards of up to 4"
    counts = [done for done, total in told[1:] if total == 9]
    assert sorted(counts) == counts
    assert set(counts) > {0, 4, 8, 9}


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (0, "Stopped. Nothing was finished yet: images are kept 4 at a time. The same command begins again."),
        (2, "Stopped. Nothing was finished yet: images are kept 4 at a time. The same command begins again."),
        (6, "Stopped. 4 of 9 images are kept; run the same command again to go on."),
    ],
)
def test_a_stopped_run_says_how_many_images_are_kept(tmp_path: Path, moment: int, said: str) -> None:
    draw_images(tmp_path / "images", 9)

    def stop(done: int, total: int) -> None:
        if done >= moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_few(tmp_path, stop)
    arguments = {"out": tmp_path / "s.zarr", "step": 0, "overwrite": False}
    assert stopped(None, arguments, Options(shard_size=4)) == said


def test_a_run_that_is_stopped_before_it_overwrites_says_whose_images_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = cli.data_set(tmp_path)
    assert cli.generate(root).code == 0

    def interrupted(*words: object) -> None:
        raise KeyboardInterrupt

    def ended(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("wilss.console.running._exit_now", ended)
    with monkeypatch.context() as patch:
        patch.setattr("wilss_masks.make.generate.create_or_resume", interrupted)
        stopped = cli.generate(root, "--overwrite")
    assert stopped.code == 130
    assert f"Stopped. Nothing was made yet: {root / 'out/s.zarr'} is still the store that was there." in stopped.err
    monkeypatch.setattr("wilss_masks.make.generate.run", interrupted)
    assert "Stopped. Nothing was finished yet" in cli.generate(root, "--overwrite").err


def test_a_stopped_run_whose_store_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(path: Location) -> bool:
        raise UnreachableError(f"{path} cannot be looked for (the server does not answer); what is done is kept.")

    monkeypatch.setattr("wilss.disk.is_there", unanswered)
    arguments = {"out": tmp_path / "s.zarr", "step": 0, "overwrite": False}
    said = stopped(None, arguments, Options(shard_size=4))
    assert said.startswith(f"Stopped. How much is kept cannot be said: {tmp_path}/s.zarr cannot be looked for")


def generate_few(
    folder: Path, progress: Callable[[int, int], None], tell: Callable[[str], None] = lambda sentence: None
) -> None:
    generate(
        StandInManifest(folder=folder / "images"),  # type: ignore[arg-type]
        step=0,
        source=StandInSource(),
        out=folder / "s.zarr",
        options=Options(shard_size=4, batch_size=2, device="cpu"),
        progress=progress,
        tell=tell,
    )
