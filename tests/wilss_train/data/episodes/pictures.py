"""Labelled images of three classes in memory, and an embedding of them that costs nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wilss.data.manifest import EncoderSpec
from wilss.data.taxonomy import VOID
from wilss.errors import ImageError
from wilss.models.networks.embedding import Embedding, EmbeddingNet, embedding_of
from wilss.models.networks.embedding_spec import EmbeddingSpec
from wilss_train.data.episodes.draw import Episode, Index, draw_episode, sorted_index

VIT = EncoderSpec(
    library="timm",
    model="vit_tiny_patch16_224",
    pretrained="random:0",
    args={"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 1, "num_heads": 2},
)
SIZES = ((24, 32), (32, 24), (27, 30))
COLOURS = np.array([[90, 90, 90], [200, 60, 60], [60, 200, 60], [60, 60, 200]])


@dataclass
class Pictures:
    """Images `im0` to `im<count - 1>` of three sizes; every one holds two of the classes 1, 2 and 3, and some void.

    asked: how often each image was read. broken: those that cannot be.
    """

    count: int = 12
    broken: frozenset[str] = frozenset()
    asked: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def index(self) -> dict[int, tuple[str, ...]]:
        return {
            one: tuple(sorted(f"im{i}" for i in range(self.count) if one in classes_of(i))) for one in (1, 2, 3)
        }  # fmt: skip

    def image(self, image_id: str) -> NDArray[np.uint8]:
        self.asked[image_id] = self.asked.get(image_id, 0) + 1
        if image_id in self.broken:
            raise ImageError(f"{image_id} is damaged.")
        label, noise = self.label(image_id), np.random.default_rng(int(image_id[2:]))
        pixels = COLOURS[np.where(label == VOID, 0, label)] + noise.integers(-30, 30, (*label.shape, 3))
        return pixels.astype(np.uint8)

    def label(self, image_id: str) -> NDArray[np.uint8]:
        number = int(image_id[2:])
        label = np.zeros(SIZES[number % 3], np.uint8)
        first, second = classes_of(number)
        label[3 : 12 + number % 5, 2:13] = first
        label[14:22, 12 : 20 + number % 4] = second
        label[-2:] = VOID
        return label


def classes_of(number: int) -> tuple[int, int]:
    return (1 + number % 3, 1 + (number + 1 + number // 6 % 2) % 3)


def frozen() -> Embedding:
    return embedding_of(EmbeddingNet(EmbeddingSpec(size=0)), VIT)


def episodes(index: Index, *, ways: int, shots: int, count: int, seed: int, run: int = 0) -> Iterator[Episode]:
    """The `count` episodes of one run of an evaluation."""
    for number in range(count):
        yield draw_episode(sorted_index(index), ways=ways, shots=shots, seed=seed, names=("episode", run, number))
