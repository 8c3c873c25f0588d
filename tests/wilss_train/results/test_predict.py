"""Streaming predictions: every image once, whole, and the same label map whatever the batches and threads."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tests.wilss_train.colours import ColourNet, blocks, info, picture, save
from wilss.data.layouts import ImageRecord
from wilss.errors import CheckpointError
from wilss.models.networks import strips
from wilss.models.networks.segmenter import build
from wilss.models.networks.spec import SegmenterSpec
from wilss_train.results import predict
from wilss_train.results.predict import Predicted, Sample, predictions, read_sample

SIZES = [(24, 32), (32, 24), (24, 32), (24, 32), (17, 23), (32, 24), (24, 32), (1, 1), (24, 32)]


@pytest.fixture
def records(tmp_path: Path) -> list[ImageRecord]:
    made = []
    for number, size in enumerate(SIZES):
        path = save(tmp_path / f"im{number}.png", picture(blocks([0, 1 + number % 4, 2], size)))
        made.append(ImageRecord(image_id=f"im{number}", path=path))
    return made


def by_id(found: Iterator[Predicted]) -> dict[str, Predicted]:
    listed = list(found)
    named = {one.record.image_id: one for one in listed}
    assert len(named) == len(listed)
    return named


def slow(record: ImageRecord, net: ColourNet, seen: tuple[int, ...]) -> np.ndarray:
    """One image, all channels, in float64."""
    pixels = torch.from_numpy(np.array(Image.open(record.path))).permute(2, 0, 1)[None].contiguous()
    logits = net(pixels / 255).double()
    grown = F.interpolate(logits, pixels.shape[-2:], mode="bilinear", align_corners=False)
    return np.asarray(np.array(seen)[grown[0].argmax(dim=0).numpy()])


@pytest.mark.parametrize("at_once", [1 << 26, 24 * 32 * 2])
def test_label_maps_are_those_of_single_images(
    records: list[ImageRecord], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "_VALUES_AT_ONCE", at_once)
    told = info(step=1)
    net = ColourNet(told.seen).eval()
    found = by_id(predictions(net, told, records, batch_size=3, threads=2))
    assert set(found) == {record.image_id for record in records}
    for record, size in zip(records, SIZES, strict=True):
        labels = found[record.image_id].labels
        assert labels is not None
        assert labels.dtype == np.uint8
        assert labels.shape == size
        assert (labels == slow(record, net, told.seen)).mean() > 0.95, "but for ties at the borders"
    labels = found["im3"].labels
    assert labels is not None
    assert set(np.unique(labels).tolist()) == {0, 4, 2}, "ids, not channels"


def test_equal_sizes_share_a_batch_whatever_the_threads(records: list[ImageRecord]) -> None:
    told = info()
    runs = []
    for threads in (1, 4):
        net = ColourNet(told.seen)
        order = [one.record.image_id for one in predictions(net, told, records, batch_size=3, threads=threads)]
        runs.append((net.shapes, order))
    assert runs[0] == runs[1]
    assert sorted(shape[0] for shape in runs[0][0]) == [1, 1, 2, 2, 3]


def test_large_images_share_a_batch_with_fewer(records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    told = info()
    monkeypatch.setattr(predict, "_PIXELS_PER_IMAGE", 24 * 32 // 2)
    net = ColourNet(told.seen)
    assert len(by_id(predictions(net, told, records, batch_size=4))) == len(records)
    assert max(shape[0] for shape in net.shapes) == 2
    monkeypatch.setattr(predict, "_PIXELS_PER_IMAGE", 1)
    net = ColourNet(told.seen)
    assert len(by_id(predictions(net, told, records, batch_size=4))) == len(records)
    assert {shape[0] for shape in net.shapes} == {1}


def test_few_images_wait_for_others_of_their_size(records: list[ImageRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest group goes when too many pixels are held, so that odd sizes do not pile up."""
    monkeypatch.setattr(predict, "_BATCHES_HELD", 0)
    told = info()
    net = ColourNet(told.seen)
    assert len(by_id(predictions(net, told, records, batch_size=3))) == len(records)
    assert {shape[0] for shape in net.shapes} == {1}


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(records: list[ImageRecord], tmp_path: Path) -> None:
    (tmp_path / "im1.png").write_bytes(b"\x89PNG\r\n\x1a\n rubbish")
    (tmp_path / "im2.png").unlink()
    odd = ImageRecord(image_id="odd", path=tmp_path / "im3.png", problem="im3.png is listed twice; drop one.")
    told = info()
    found = by_id(predictions(ColourNet(told.seen), told, [*records, odd], batch_size=2))
    failed = {name: one.error for name, one in found.items() if one.labels is None}
    assert set(failed) == {"im1", "im2", "odd"}
    assert "im1.png is damaged" in str(failed["im1"])
    assert "im2.png is not there" in str(failed["im2"])
    assert failed["odd"] == odd.problem


def test_images_are_decoded_while_the_device_works(records: list[ImageRecord]) -> None:
    """The first forward pass waits until an image of a later batch is decoded: without overlap, in vain."""
    begun = threading.Event()

    def read(record: ImageRecord) -> Sample:
        if record.image_id == "im2":
            begun.set()
        return read_sample(record)

    class Waiting(ColourNet):
        def forward(self, images: Tensor) -> Tensor:
            assert begun.wait(timeout=20)
            return super().forward(images)

    told = info()
    assert len(by_id(predictions(Waiting(told.seen), told, records, batch_size=1, threads=1, read=read))) == 9


def test_a_batch_that_memory_does_not_hold_goes_one_by_one(records: list[ImageRecord]) -> None:
    class Small(ColourNet):
        def forward(self, images: Tensor) -> Tensor:
            if images.shape[0] > 1 or images.shape[2] > images.shape[3]:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(images)

    told = info()
    found = by_id(predictions(Small(told.seen), told, records, batch_size=4))
    failed = {name: str(one.error) for name, one in found.items() if one.error}
    assert set(failed) == {"im1", "im5"}
    assert "im1.png is 24 x 32 pixels, too large for the memory of cpu; scale it down" in failed["im1"]
    assert len(found) == len(records)


def test_values_that_are_not_finite_are_refused(records: list[ImageRecord]) -> None:
    told = info()
    net = ColourNet(told.seen)
    net.colours[1] = torch.nan
    with pytest.raises(CheckpointError, match=r"model\.safetensors gives values that are not finite on .*; it did not"):
        list(predictions(net, told, records))


def test_the_network_is_left_as_it_was(records: list[ImageRecord]) -> None:
    told, before = info(), threading.active_count()
    net = ColourNet(told.seen).train()
    found = predictions(net, told, records, batch_size=1, threads=1)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert net.training
    assert threading.active_count() == before
    assert list(predictions(net, told, [])) == []


def test_images_come_upright_and_normalised(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = Image.fromarray(picture(blocks([1, 4], (16, 24))))
    pixels.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    seen: list[Tensor] = []

    class Looking(ColourNet):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images * 0.25 + 0.5)

    told = info(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    record = ImageRecord(image_id="turned", path=tmp_path / "turned.jpg")
    (one,) = predictions(Looking(told.seen), told, [record])
    assert one.labels is not None
    assert one.labels.shape == (24, 16)
    assert (one.labels[:10] == 1).all()
    assert (one.labels[-10:] == 4).all()
    assert float(seen[0].min()) == pytest.approx(-2, abs=0.05)
    assert float(seen[0].max()) == pytest.approx(2, abs=0.05)


# -- large images -------------------------------------------------------------------------------------------


def test_a_large_image_is_predicted_as_a_small_one_and_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, form = info(step=1), {"channels": [8, 8, 8, 8]}
    spec = SegmenterSpec(
        backbone="resnet18", args=form, head_width=8, num_channels=len(told.seen), output_stride=8, rates=(1, 2)
    )
    network = build(spec, seed=3).eval()
    with torch.no_grad():  # so that all classes are seen
        network.classifier.weight.mul_(50)
        pooled = predict.logits_of(network, told, torch.randint(0, 256, (1, 90, 70, 3), dtype=torch.uint8))
        assert network.classifier.bias is not None
        network.classifier.bias.sub_(pooled.mean(dim=(0, 2, 3)))
    pixels = np.random.default_rng(4).integers(0, 256, (90, 70, 3), np.uint8)
    record = ImageRecord(image_id="a", path=save(tmp_path / "a.png", pixels))
    seen: list[Sample] = []
    run = partial(predictions, network, told, [record], probabilities="float32", on_large=seen.append)
    (whole,) = run()
    assert not seen
    monkeypatch.setattr(predict, "LARGE", 1000)
    monkeypatch.setattr(predict, "_VALUES_AT_ONCE", 1000)
    monkeypatch.setattr(strips, "_PIXELS", 1000)
    (large,) = run()
    assert [one.record.image_id for one in seen] == ["a"]
    assert whole.labels is not None
    assert large.labels is not None
    assert len(np.unique(whole.labels)) > 1
    assert (large.labels == whole.labels).mean() > 0.999, "the same but where two classes are equal to the last bit"
    assert whole.probabilities is not None
    assert large.probabilities is not None
    np.testing.assert_allclose(large.probabilities, whole.probabilities, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_label_map_is_the_same_channel_by_channel(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(count, 6, 5, generator=torch.Generator().manual_seed(0))
    logits[count // 2] = logits[0]  # the first of equal ones counts
    ids = torch.arange(count, dtype=torch.uint8) * 3
    expected = predict.label_map(logits, ids, 40, 33)
    monkeypatch.setattr(predict, "_VALUES_AT_ONCE", 1)
    assert torch.equal(predict.label_map(logits, ids, 40, 33), expected)
    assert expected.dtype == torch.uint8
