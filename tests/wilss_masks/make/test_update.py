"""Lists that have changed: what is kept, what is made anew, and that the store is the one made from the start."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import cli
from tests.faults.cli import IMAGES, SIZES, content, generate
from tests.wilss.data import data_on_disk as disk
from wilss.store import MaskStoreWriter

KEEPING = ("--keep", "scores")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return cli.data_set(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that the source was asked about, sorted at the end by who looks."""
    found: list[str] = []
    propose = cli.CliStandIn.propose

    def noted(source: cli.CliStandIn, tasks: object, loaded: object) -> object:
        found.extend(task.record.image_id for task in tasks)  # type: ignore[attr-defined]
        return propose(source, tasks, loaded)  # type: ignore[arg-type]

    monkeypatch.setattr(cli.CliStandIn, "propose", noted)
    return found


def named(root: Path, *images: str) -> None:
    disk.text(root / "data/ImageSets/Segmentation/train.txt", *images)


def bigger(root: Path, image: str) -> None:
    size = (SIZES[0][0] + 8, SIZES[0][1] + 8)
    disk.image(root / f"data/JPEGImages/{image}.jpg", size, seed=99)
    disk.label(root / f"data/SegmentationClass/{image}.png", [1, 3], size)


def retagged(root: Path, image: str) -> None:
    path = root / "data/ImageSets/Main/cat_train.txt"
    path.write_text(re.sub(rf"{image}\s+-1", f"{image}  1", path.read_text()))


#: What happens to the list of seven images in shards of three -> the images that must be made anew.
CHANGES: dict[str, tuple[int, Callable[[Path], None], tuple[str, ...]]] = {
    "two more at the end": (5, lambda root: named(root, *IMAGES), IMAGES[3:]),
    "one more shard": (6, lambda root: named(root, *IMAGES), IMAGES[6:]),
    "the first shard taken away": (7, lambda root: named(root, *IMAGES[3:]), ()),
    "one taken out of the middle": (7, lambda root: named(root, *IMAGES[:4], *IMAGES[5:]), ("im3", "im5", "im6")),
    "one put before all": (6, lambda root: named(root, IMAGES[6], *IMAGES[:6]), ("im6", *IMAGES[:6])),
    "tags of another step": (7, lambda root: retagged(root, "im5"), ()),
    "a larger one at the end": (6, lambda root: (named(root, *IMAGES), bigger(root, "im6"))[0], IMAGES[6:]),
}


@pytest.mark.few(3)
@pytest.mark.parametrize("name", CHANGES)
def test_only_touched_shards_are_made_anew(root: Path, asked: list[str], name: str) -> None:
    before, change, anew = CHANGES[name]
    named(root, *IMAGES[:before])
    assert generate(root, *KEEPING).code == 0
    change(root)
    refused = generate(root, *KEEPING)
    assert refused.code == 1
    assert "or make it again with --overwrite; --update keeps what is the same." in refused.err
    asked.clear()
    made = generate(root, *KEEPING, "--update")
    assert made.code == 0, made.said
    assert sorted(asked) == sorted(anew)
    assert generate(root, *KEEPING, out="out/anew.zarr").code == 0
    assert content(root / "out/s.zarr") == content(root / "out/anew.zarr")
    asked.clear()
    assert "complete" in generate(root, *KEEPING, "--update").out
    assert not asked
    assert sorted(path.name for path in (root / "out").iterdir() if path.suffix == ".zarr") == ["anew.zarr", "s.zarr"]


def test_a_longer_limit(root: Path, asked: list[str]) -> None:
    assert generate(root, "--limit", 3).code == 0
    asked.clear()
    assert generate(root, "--update").code == 0
    assert sorted(asked) == list(IMAGES[3:])


def test_a_shard_with_a_failed_image_is_made_anew(root: Path, asked: list[str]) -> None:
    image = root / f"data/JPEGImages/{IMAGES[0]}.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    named(root, *IMAGES[:6])
    assert generate(root).code == 3
    image.write_bytes(whole)
    named(root, *IMAGES)
    asked.clear()
    assert generate(root, "--update").code == 0
    assert sorted(asked) == [*IMAGES[:3], IMAGES[6]]


def test_encoders_are_looked_at_where_there_is_something_to_make(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their libraries take seconds to load; before a run that will make masks it is done first of all."""
    looked: list[bool] = []
    monkeypatch.setattr("wilss_masks.make.generate.require_known_names", lambda source: looked.append(True))
    assert generate(root).code == 0
    assert looked
    looked.clear()
    assert generate(root).code == 0
    assert not looked
    named(root, *IMAGES[:5])
    assert generate(root, "--update").code == 0
    assert looked


def test_other_masks_are_not_kept(root: Path) -> None:
    named(root, *IMAGES[:6])
    assert generate(root).code == 0
    before = content(root / "out/s.zarr")
    named(root, *IMAGES)
    made = generate(root, "--update", "--set", "threshold=0.7")
    assert made.code == 1
    assert "parameters.threshold" in made.err
    assert "--update" not in made.err
    assert content(root / "out/s.zarr") == before


def test_a_store_that_is_not_finished_is_updated(root: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    named(root, *IMAGES[:6])
    with monkeypatch.context() as patch:
        patch.setattr(MaskStoreWriter, "seal", lambda writer: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_until_sealed(root)
    named(root, *IMAGES)
    asked.clear()
    assert generate(root, "--update").code == 0
    assert sorted(asked) == [IMAGES[6]]


def run_until_sealed(root: Path) -> None:
    from wilss.data.manifest import load_manifest
    from wilss_masks.make import generate as generation
    from wilss_masks.make.options import Options

    manifest = load_manifest(root / "data_manifest.yaml")
    options = Options(shard_size=3, batch_size=2, device="cpu")
    source = cli.CliStandIn.from_manifest(manifest, 1)
    generation.generate(manifest, step=1, source=source, out=root / "out/s.zarr", options=options)
