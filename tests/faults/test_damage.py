"""Damage of every kind, at random places: found by `verify`, which names it, and by the trainer before it trains.

Each damage is drawn by its number, so one that slips through can be looked at again.
"""

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs.zstd import Zstd

from tests.drills import forms
from tests.faults.cli import Outcome, content, full_after, wilss_masks
from tests.faults.standin import draw_images, make
from tests.faults.train_cli import result, states, wilss_train, words
from wilss.errors import CheckpointError, StoreError, WilssError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.store import MaskStore
from wilss.store.arrays import write_rows
from wilss_train.memory import MemoryBank
from wilss_train.run import fit
from wilss_train.run.states import latest_state
from wilss_train.run_folder import MEMORY, STATES

#: Each of the ten kinds once, in the short form.
COUNT, COUNT_LONG = 10, 1000
BEGUN = 10
#: A bit, a file that is cut, one with something behind it, an empty one; of a checkpoint any byte is like another.
TRAINED, TRAINED_LONG = (2, 3, 4, 5), 100


def files_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def flip(draw: random.Random, root: Path) -> str:
    """One bit of one file."""
    path = draw.choice([path for path in files_of(root) if path.stat().st_size])
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    data[place] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return f"bit of byte {place} of {path}"


def cut(draw: random.Random, root: Path) -> str:
    """The end of a file is missing."""
    path = draw.choice([path for path in files_of(root) if path.stat().st_size])
    left = draw.randrange(path.stat().st_size)
    os.truncate(path, left)
    return f"{path} cut to {left}"


def lengthen(draw: random.Random, root: Path) -> str:
    """A file with something behind it."""
    path = draw.choice(files_of(root))
    more = draw.randbytes(draw.randrange(1, 40))
    path.write_bytes(path.read_bytes() + more)
    return f"{path} with {more!r}"


def empty(draw: random.Random, root: Path) -> str:
    """A file of zeros, or none."""
    path = draw.choice([path for path in files_of(root) if path.stat().st_size])
    path.write_bytes(draw.choice([b"", bytes(path.stat().st_size)]))
    return f"{path} emptied"


def lose(draw: random.Random, root: Path) -> str:
    """A file is not there."""
    path = draw.choice(files_of(root))
    path.unlink()
    return f"{path} lost"


def swap(draw: random.Random, root: Path) -> str:
    """Two files of an array in each other's place."""
    shards = [path for path in files_of(root) if path.name != "zarr.json"]
    pairs = [
        (one, other)
        for one in shards
        for other in shards
        if one < other and one.parts[-6:-4] == other.parts[-6:-4] and one.read_bytes() != other.read_bytes()
    ]
    if not pairs:
        return flip(draw, root)
    one, other = draw.choice(pairs)
    contents = one.read_bytes(), other.read_bytes()
    other.write_bytes(contents[0])
    one.write_bytes(contents[1])
    return f"{one} and {other} swapped"


def put(draw: random.Random, root: Path) -> str:
    """A file that belongs to nothing."""
    path = draw.choice(files_of(root)).parent / draw.choice(["9", ".DS_Store", "c", "zarr.json~"])
    if path.exists():
        return flip(draw, root)
    path.write_bytes(draw.randbytes(draw.randrange(20)))
    return f"{path} put there"


def edit(draw: random.Random, root: Path) -> str:
    """A value in the metadata is another one."""
    path = draw.choice([path for path in files_of(root) if path.name == "zarr.json"])
    told = json.loads(path.read_text())
    places = list(_leaves(told))
    holder, key = draw.choice(places)
    before = holder[key]
    holder[key] = {
        bool: lambda: not before,
        int: lambda: before + 1,
        float: lambda: before + 1.5,
        str: lambda: "x",
    }.get(type(before), lambda: 7)()
    path.write_text(json.dumps(told, indent=2))
    return f"{path}: {key} was {before!r}"


def _leaves(told: Any) -> Any:
    for key, value in told.items() if isinstance(told, dict) else enumerate(told):
        if isinstance(value, dict | list) and value:
            yield from _leaves(value)
        else:
            yield told, key


KINDS = [flip, flip, flip, cut, lengthen, empty, lose, swap, put, edit]


def damage(root: Path, number: int, kinds: Sequence[Callable[[random.Random, Path], str]] = KINDS) -> str:
    """Do what `number` draws to the files below `root`; says what."""
    draw = random.Random(number)
    return kinds[number % len(kinds)](draw, root)


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three shards with every kind of array."""
    folder = tmp_path_factory.mktemp("damage")
    draw_images(folder / "images", 11)
    (folder / "images/image_0007.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    make(folder / "images", folder / "s.zarr")
    assert wilss_masks("verify", folder / "s.zarr").code == 0
    return folder / "s.zarr"


def found(made: Outcome, what: str, store: Path) -> None:
    """Exit code 1 and what is damaged; never a traceback."""
    assert made.code == 1, f"{what}: {made.said}"
    assert "Traceback" not in made.said, f"{what}: {made.said}"
    named = "damaged: " in made.out or str(store) in made.err
    assert named, f"{what}: {made.said}"


def verify_finds(whole: Path, tmp_path: Path, number: int) -> None:
    store = copied(whole, tmp_path / "s.zarr")
    what = damage(store, number)
    made = wilss_masks("verify", store)
    found(made, what, store)
    if "/mask/c/" in what or "/score/c/" in what or "/seeds/c/" in what:
        assert "shard " in made.out or "foreign" in made.out or "does not belong" in made.said, f"{what}: {made.said}"


def test_verify_finds_any_damage_of_a_store(whole: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        verify_finds(whole, tmp_path, number)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_verify_finds_any_damage_of_a_store_long_form(whole: Path, tmp_path: Path) -> None:
    for number in range(COUNT, COUNT_LONG):
        verify_finds(whole, tmp_path, number)


@pytest.fixture
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """An optimiser step is an error."""

    def never(*given: object) -> None:
        raise AssertionError("it trains")

    monkeypatch.setattr(fit._Run, "_take", never)


def trainer_refuses(root: Path, number: int, part: str, *more: str) -> None:
    """Damage a part of what a run starts from; the command says so before its first step. part: below the root."""
    whole, copy = root / part, root / f"damaged-{number}"
    kept = copied(whole, copy) if whole.is_dir() else shutil.copy(whole, copy)
    try:
        if whole.is_dir():
            what = damage(whole, number)
        else:
            data = bytearray(whole.read_bytes())
            place = random.Random(number).randrange(len(data))
            data[place] ^= 1
            whole.write_bytes(data)
            what = f"byte {place} of {whole}"
        made = wilss_train(*words(root, f"out-{number}", *more))
        assert made.code == 1, f"{what}: {made.said}"
        assert made.err.splitlines()[-1].startswith("Error: "), f"{what}: {made.said}"
        assert "Traceback" not in made.said
        assert str(whole) in made.err, f"{what}: {made.said}"
        assert not states(root / f"out-{number}")
    finally:
        if whole.is_dir():
            copied(Path(kept), whole)
            shutil.rmtree(kept)
        else:
            shutil.move(kept, whole)


PARTS = ["masks/step-1.zarr", f"base/{MEMORY}", f"base/{MODEL_FILE}"]
#: Parts that a run which goes on reads again.
GONE_ON = PARTS[:2]


def short_turns(part: str) -> tuple[int, ...]:
    """The turns of a part that the short form takes; the long form takes the others."""
    return TRAINED[:1] if part.endswith(MODEL_FILE) else TRAINED


def long_turns(part: str) -> list[int]:
    return [number for number in range(TRAINED_LONG) if number not in short_turns(part)]


@pytest.mark.usefixtures("never_trained")
@pytest.mark.parametrize("part", PARTS)
def test_the_trainer_finds_damage_before_it_trains(root: Path, part: str) -> None:
    for number in short_turns(part):
        trainer_refuses(root, number, part)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("never_trained")
@pytest.mark.parametrize("part", PARTS)
def test_the_trainer_finds_damage_before_it_trains_long_form(root: Path, part: str) -> None:
    for number in long_turns(part):
        trainer_refuses(root, number, part)


@pytest.mark.parametrize("part", forms(GONE_ON, short=GONE_ON[:1]))
def test_a_run_that_goes_on_looks_again(root: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    out = root / "stopped"
    shutil.rmtree(out, ignore_errors=True)
    with monkeypatch.context() as patch:
        take = fit._Run._take

        def stop_at_five(run: Any, *given: Any) -> None:
            if run.step == 5:
                raise WilssError("stopped")
            take(run, *given)

        patch.setattr(fit._Run, "_take", stop_at_five)
        assert "stopped" in wilss_train(*words(root, "stopped")).err
    assert states(out)
    kept, whole = copied(root / part, root / "kept"), root / part
    what = damage(whole, 0)
    made = wilss_train(*words(root, "stopped", "--resume"))
    copied(kept, whole)
    assert made.code == 1, f"{what}: {made.said}"
    assert str(whole) in made.err
    again = wilss_train(*words(root, "stopped", "--resume"))
    assert again.code == 0, again.said
    assert result(out) == result(root / "whole")


def bank_refuses(root: Path, tmp_path: Path, number: int) -> None:
    bank = copied(root / "whole" / MEMORY, tmp_path / "memory.zarr")
    what = damage(bank, number)
    with pytest.raises(StoreError) as refused:
        MemoryBank.open(bank).verify()
    assert str(bank) in str(refused.value), what


def test_any_damage_of_a_memory_bank_is_found(root: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        bank_refuses(root, tmp_path, number)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_any_damage_of_a_memory_bank_is_found_long_form(root: Path, tmp_path: Path) -> None:
    for number in range(COUNT, COUNT_LONG):
        bank_refuses(root, tmp_path, number)


def states_refuse(root: Path, tmp_path: Path, number: int) -> None:
    """The state before is taken where the last one is damaged; none where both are."""
    folder = copied(root / "whole" / STATES, tmp_path / "states")
    first, last = sorted(folder.iterdir())
    kinds = [flip, cut, lengthen, empty, lose]
    what = damage(last, number, kinds)
    taken = latest_state(folder)
    assert taken is not None
    untouched = taken.step == int(last.name.removeprefix("step-"))
    assert not untouched or _means_the_same(root / "whole" / STATES / last.name, last), what
    damage(first, number, kinds)
    shutil.rmtree(last)
    if not _means_the_same(root / "whole" / STATES / first.name, first):
        with pytest.raises(CheckpointError, match="no saved state is whole"):
            latest_state(folder)


def _means_the_same(whole: Path, damaged: Path) -> bool:
    """Whether all that is read of a state is as it was: blanks behind its facts change nothing."""
    names = ("networks.safetensors", "optimiser.pt")
    try:
        facts = [json.loads((folder / "state.json").read_text()) for folder in (whole, damaged)]
        contents = [[(folder / name).read_bytes() for name in names] for folder in (whole, damaged)]
    except (OSError, ValueError):
        return False
    return bool(facts[0] == facts[1] and contents[0] == contents[1])


def test_damage_of_a_saved_state_is_found(root: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        states_refuse(root, tmp_path, number)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_damage_of_a_saved_state_is_found_long_form(root: Path, tmp_path: Path) -> None:
    for number in range(COUNT, COUNT_LONG):
        states_refuse(root, tmp_path, number)


@pytest.fixture(scope="module")
def begun(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store as it is after two of its three shards."""
    store = tmp_path_factory.mktemp("begun") / "s.zarr"
    with full_after(2), pytest.raises(StoreError, match="No space left"):
        make(whole.parent / "images", store)
    assert len(MaskStore.open(store, allow_partial=True).pending_shards()) == 1
    return store


def goes_on_or_refuses(whole: Path, begun: Path, tmp_path: Path, number: int) -> bool:
    """A store that was damaged before it was finished becomes what it would have, or is refused; True for the first."""
    store = copied(begun, tmp_path / "s.zarr")
    what = damage(store, number)
    try:
        make(whole.parent / "images", store)
    except WilssError:
        return False
    assert content(store) == content(whole), what
    return True


def test_damage_of_an_unfinished_store_is_fixed_or_refused(whole: Path, begun: Path, tmp_path: Path) -> None:
    ended = {goes_on_or_refuses(whole, begun, tmp_path, number) for number in range(BEGUN)}
    assert ended == {True, False}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_damage_of_an_unfinished_store_is_fixed_or_refused_long_form(whole: Path, begun: Path, tmp_path: Path) -> None:
    for number in range(BEGUN, COUNT_LONG):
        goes_on_or_refuses(whole, begun, tmp_path, number)


@pytest.mark.parametrize(
    ("name", "value"),
    [("confidence", 0.123), ("area", 7), ("fallback", True), ("status", 2), ("error", "x"), ("shard_digest", "0 0")],
)
def test_what_an_unfinished_store_says_of_its_images_is_recreated_where_it_is_false(
    whole: Path, begun: Path, tmp_path: Path, name: str, value: Any
) -> None:
    """Whole bytes that say something else than what was committed."""
    store = copied(begun, tmp_path / "s.zarr")
    opened = MaskStore.open(store, allow_partial=True)
    committed = next(s for s in range(3) if s not in opened.pending_shards())
    row = committed if name == "shard_digest" else opened.layout.rows(committed).start
    values = opened.vector(name)[row : row + 1].copy()
    values[...] = value
    write_rows(store, opened.layout, name, [(slice(row, row + 1), values)])
    assert (
        f"damaged: {'' if name == 'shard_digest' else 'what is said of the images in '}shard {committed} does not"
        in (wilss_masks("verify", store).out)
    )
    make(whole.parent / "images", store)
    assert content(store) == content(whole)


@pytest.mark.parametrize(
    ("name", "values"),
    [("image", ["other"]), ("tags", [[True, True, True]]), ("category", ["other"]), ("category_id", [77])],
)
def test_an_unfinished_store_that_names_other_images_or_classes_is_refused(
    whole: Path, begun: Path, tmp_path: Path, name: str, values: Any
) -> None:
    store = copied(begun, tmp_path / "s.zarr")
    opened = MaskStore.open(store, allow_partial=True)
    changed = np.array(values, dtype=opened.vector(name).dtype)
    write_rows(store, opened.layout, name, [(slice(0, 1), changed)])
    with pytest.raises(StoreError, match="its images, classes or tags are not those that it was begun with"):
        make(whole.parent / "images", store)


@pytest.mark.parametrize("name", [".DS_Store", "mask/c/9", "mask/zarr.json~"])
def test_a_foreign_file_is_not_sealed_in(whole: Path, begun: Path, tmp_path: Path, name: str) -> None:
    store = copied(begun, tmp_path / "s.zarr")
    (store / name).parent.mkdir(exist_ok=True)
    (store / name).write_bytes(b"")
    with pytest.raises(StoreError, match=f"the file {name} does not belong to it"):
        make(whole.parent / "images", store)
    (store / name).unlink()
    make(whole.parent / "images", store)
    assert content(store) == content(whole)


def test_bytes_that_mean_the_same_and_are_others_are_found(begun: Path, tmp_path: Path) -> None:
    """True values whose bytes are 3; a store that holds them would not be the one of an undisturbed run."""
    store = copied(begun, tmp_path / "s.zarr")
    path = store / "tags/c/0/0"
    path.write_bytes(Zstd(level=3).encode(Zstd().decode(path.read_bytes()).replace(b"\1", b"\3")))
    assert "damaged: the vector tags is not as it was written" in wilss_masks("verify", store).out


def test_a_no_number_of_other_bits_is_found(begun: Path, tmp_path: Path) -> None:
    store = copied(begun, tmp_path / "s.zarr")
    path = store / "confidence/c/0/0"
    values = np.frombuffer(Zstd().decode(path.read_bytes()), np.uint32).copy()
    values[np.isnan(values.view(np.float32)).argmax()] |= 1
    path.write_bytes(Zstd(level=3).encode(values.tobytes()))
    assert "damaged: the vector confidence is not as it was written" in wilss_masks("verify", store).out
