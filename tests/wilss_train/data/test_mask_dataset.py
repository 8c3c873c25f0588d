"""A mask store as a dataset of torch: what a sample holds, in batches, in workers, and what is left out."""

import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.transforms import v2

import wilss
import wilss_train
from tests.drills import turns
from tests.wilss_train.data.semi.world import IMAGES, make, masks
from wilss.data.manifest import load_manifest
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError, StoreError
from wilss.store import MaskStore, MaskStoreWriter
from wilss_masks.make.generate import generate
from wilss_masks.make.options import Options
from wilss_masks.sources.annotation import AnnotationSource
from wilss_train import MaskDataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


def dataset(root: Path, **more: Any) -> MaskDataset:
    return MaskDataset(masks(root), root / "data_manifest.yaml", **more)


def test_a_sample_is_an_image_with_a_mask_of_every_class(root: Path) -> None:
    images, store = dataset(root), MaskStore.open(masks(root))
    assert len(images) == len(IMAGES)
    assert images.categories == store.category_ids
    assert tuple(images.classes.items()) == tuple(zip(store.category_ids, store.category_names, strict=True))
    for number, name in enumerate(IMAGES):
        sample, read = images[number], store.read(name)
        height, width = read.masks.shape[1:]
        assert sample["image_id"] == name
        assert (sample["image"].dtype, sample["image"].shape) == (torch.uint8, (3, height, width))
        with Image.open(root / f"data/JPEGImages/{name}.jpg") as image:
            assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), np.asarray(image))
        assert (sample["masks"].dtype, sample["masks"].shape) == (torch.bool, (len(images.categories), height, width))
        for place, mask in enumerate(sample["masks"].numpy()):
            held = place in read.categories
            assert np.array_equal(mask, read.masks[read.categories.index(place)]) if held else not mask.any()
        assert read.void is not None
        assert np.array_equal(sample["void"].numpy(), read.void)
        assert sample["category_ids"].tolist() == list(images.categories)
        assert sample["label"].dtype == torch.uint8
        assert np.array_equal(sample["label"].numpy(), images.label(number))


def test_labels_are_those_of_open_masks(root: Path) -> None:
    images, whole = dataset(root), wilss.open_masks(masks(root)).label
    for number, name in enumerate(IMAGES):
        label = images.label(number)
        height, width = label.shape
        assert label.dtype == np.uint8
        assert np.array_equal(label, whole.sel(image=name).values[:height, :width])
        assert (label == VOID).any()


def test_it_counts_as_a_list_does(root: Path) -> None:
    images = dataset(root)
    assert images[-1]["image_id"] == images[np.int64(len(IMAGES) - 1)]["image_id"] == IMAGES[-1]  # type: ignore[index]
    assert [sample["image_id"] for sample in images] == list(IMAGES)
    for index in (len(IMAGES), -len(IMAGES) - 1):
        with pytest.raises(IndexError, match=r"there is no image"):
            images[index]


def test_transforms_move_image_and_masks_together(root: Path) -> None:
    plain = dataset(root)
    flipped = dataset(root, transform=v2.RandomHorizontalFlip(p=1))
    turned = dataset(root, transform=v2.Compose([v2.Resize((20, 24)), v2.RandomRotation(30)]))
    for number in range(len(plain)):
        before, after = plain[number], flipped[number]
        assert isinstance(after["image"], tv_tensors.Image)
        assert isinstance(after["masks"], tv_tensors.Mask)
        for name in ("image", "masks", "void", "label"):
            assert torch.equal(after[name], before[name].flip(-1))
        sample = turned[number]
        assert sample["image"].shape == (3, 20, 24)
        assert (sample["masks"].shape[1:], sample["masks"].dtype) == ((20, 24), torch.bool)
        assert (sample["void"].shape, sample["void"].dtype) == ((20, 24), torch.bool)
        assert sample["image_id"] == before["image_id"]


def test_what_a_transform_puts_around_an_image_is_void_where_that_is_asked_for(root: Path) -> None:
    plain, filled = dataset(root), {tv_tensors.Image: 7, tv_tensors.Mask: 255}
    for fill, label, void in (({}, 0, False), ({"fill": filled}, VOID, True)):
        before, after = plain[0], dataset(root, transform=v2.Pad(4, **fill))[0]
        assert torch.equal(after["label"][4:-4, 4:-4], before["label"])
        assert torch.equal(after["masks"][:, 4:-4, 4:-4], before["masks"])
        rim = torch.ones_like(after["void"])
        rim[4:-4, 4:-4] = False
        assert (after["label"][rim] == label).all()
        assert (after["void"][rim] == void).all()
        assert (after["masks"][:, rim] == void).all()


class Kept:
    """A transform that gives something other than a sample."""

    def __call__(self, sample: dict[str, Any]) -> tuple[Any, Any]:
        return sample["image_id"], sample["masks"].float().mean().item()


def test_a_transform_may_give_anything(root: Path) -> None:
    images = dataset(root)
    given = dataset(root, transform=Kept())[3]
    assert given == (IMAGES[3], pytest.approx(images[3]["masks"].float().mean().item()))


@pytest.mark.parametrize("start", turns(["fork", "spawn"], short=["fork"]))
def test_workers_give_the_same_batches_and_no_warning(root: Path, start: str) -> None:
    images = dataset(root, transform=v2.Resize((24, 24)))
    alone = [images[number] for number in range(len(images))]
    loader = DataLoader(images, batch_size=3, num_workers=2, multiprocessing_context=start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = list(loader)
    assert [name for batch in batches for name in batch["image_id"]] == list(IMAGES)
    for name in ("image", "masks", "void", "label", "category_ids"):
        assert torch.equal(torch.cat([batch[name] for batch in batches]), torch.stack([one[name] for one in alone]))


def test_images_of_one_size_need_no_transform(root: Path) -> None:
    (batch,) = DataLoader(torch.utils.data.Subset(dataset(root), [0, 3, 6]), batch_size=3)
    assert batch["image"].shape == (3, 3, 24, 32)
    assert batch["masks"].shape[2:] == (24, 32)


def test_a_pickled_dataset_opens_its_own_store(root: Path) -> None:
    images = dataset(root)
    again = pickle.loads(pickle.dumps(images))
    assert torch.equal(again[2]["masks"], images[2]["masks"])
    assert np.array_equal(again.label(2), images.label(2))
    assert again.failed == images.failed == {}


def test_another_store_in_its_place_is_refused(tmp_path: Path) -> None:
    root = make(tmp_path)
    images = pickle.dumps(dataset(root))
    masks(root).rename(tmp_path / "away.zarr")
    masks(root, 1).rename(masks(root))
    with pytest.raises(StoreError, match=r"step-0\.zarr was removed or replaced while it was read; open it again"):
        pickle.loads(images)[0]


def test_what_has_no_masks_is_left_out_and_named(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "data/SegmentationClass/im4.png").unlink()
    manifest = load_manifest(root / "data_manifest.yaml")
    source = AnnotationSource.from_manifest(manifest, 0)
    generate(manifest, step=0, source=source, out=tmp_path / "again.zarr", options=Options(device="cpu"))
    images = MaskDataset(str(tmp_path / "again.zarr"), manifest)
    assert [sample["image_id"] for sample in images] == [name for name in IMAGES if name != "im4"]
    assert list(images.failed) == ["im4"]
    assert "it has no pixel labels" in images.failed["im4"]


def test_a_store_that_is_not_complete_is_taken_when_asked_for(tmp_path: Path) -> None:
    root, part = make(tmp_path), tmp_path / "part.zarr"
    manifest = load_manifest(root / "data_manifest.yaml")
    source = AnnotationSource.from_manifest(manifest, 0)
    generate(manifest, step=0, source=source, out=part, options=Options(device="cpu", shard_size=4))
    store = MaskStore.open(part)
    sizes = SimpleNamespace(
        heights=store.vector("height"), widths=store.vector("width"), status=store.vector("status") * 0
    )
    MaskStoreWriter(store).reopen([1], sizes)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"part\.zarr is not complete"):
        MaskDataset(part, manifest)
    images = MaskDataset(part, manifest, allow_partial=True)
    assert [sample["image_id"] for sample in images] == [*IMAGES[:4], *IMAGES[8:]]
    assert list(images.failed) == list(IMAGES[4:8])
    assert "not made yet" in images.failed["im4"]


def test_an_image_that_has_changed_is_named(tmp_path: Path) -> None:
    root = make(tmp_path)
    images = dataset(root)
    Image.new("RGB", (21, 16)).save(root / "data/JPEGImages/im2.jpg")
    with pytest.raises(ImageError, match=r"im2\.jpg is 21 x 16 pixels, its masks in .* are 28 x 28; the image has"):
        images[2]


def test_masks_of_labels_that_were_replaced_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path)
    label = root / "data/SegmentationClass/im2.png"
    with Image.open(label) as before:
        Image.fromarray(np.zeros_like(np.array(before))).save(label)
    with pytest.raises(StoreError, match=r"1 label has changed: .*im2\.png; make those masks again"):
        dataset(root)


def test_it_is_the_public_name() -> None:
    assert wilss_train.MaskDataset is MaskDataset
    assert "MaskDataset" in dir(wilss_train)
