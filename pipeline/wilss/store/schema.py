"""What a mask store holds: its arrays, their dimensions, and the attributes that describe them.

One Zarr v3 group per step, readable with nothing but `xarray.open_zarr(path)`. The category axis is there
because masks of two classes may overlap; a plane that is all background is not stored, so classes that an
image is not tagged with cost nothing.
"""

import enum
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

FORMAT = "wilss-masks"
FORMAT_VERSION = 1
#: The attribute that a complete store has, see `seal`.
SEAL_KEY = "seal"

#: Whose features a store can keep, see `FeatureLayout`.
FEATURES = ("clip", "vit")
#: The sharded arrays of these; they have no category axis.
FEATURE_ARRAYS = tuple(f"{name}_{what}" for name in FEATURES for what in ("features", "scale"))

#: Vectors are chunked by this many shards: a commit rewrites a bounded piece, whatever the store's length.
SHARDS_PER_VECTOR_CHUNK = 32
ZSTD_LEVEL = 3
#: Filters of warnings are the process's: of two threads that each set one, the first to end takes both away.
_FILTERING = threading.Lock()


class Status(enum.IntEnum):
    """State of one image; a reader trusts this, never the presence of a chunk."""

    PENDING = 0
    DONE = 1
    FAILED = 2
    UNTAGGED = 3
    UNLABELLED = 4


@dataclass(frozen=True, kw_only=True)
class ArraySpec:
    """One sharded array: its dimensions, its shape, the shape of one plane and what a missing plane reads as.

    attributes: of the array, which say what its numbers are.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    plane: tuple[int, ...]
    dtype: str
    fill: float | bool | int
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def planes_per_image(self) -> int:
        """Planes of one image: one per category, or a single one for arrays without that axis."""
        return self.shape[1] if len(self.shape) == len(self.plane) + 2 else 1


@dataclass(frozen=True, kw_only=True)
class VectorSpec:
    """One of the small arrays. dims: its first axis, alone or with the category axis. dtype: object for strings.

    attributes: of the array, which say what its numbers mean (CF conventions, 3.5).
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    fill: float | bool | int | str
    attributes: Mapping[str, Any] = field(default_factory=dict)


def _vectors() -> dict[str, VectorSpec]:
    image, both, nan = ("image",), ("image", "category"), float("nan")
    rows: tuple[tuple[str, tuple[str, ...], str, float | bool | int | str], ...] = (
        ("image", image, "object", ""),
        ("height", image, "int32", 0),
        ("width", image, "int32", 0),
        ("tags", both, "bool", False),
        ("status", image, "int8", 0),
        ("error", image, "object", ""),
        ("confidence", both, "float32", nan),
        ("agreement", both, "float32", nan),
        ("area", both, "int32", 0),
        ("fallback", both, "bool", False),
        ("category", ("category",), "object", ""),
        ("category_id", ("category",), "int32", 0),
        ("shard_digest", ("shard",), "object", ""),
        ("content", image, "uint64", 0),
        ("verdict", both, "int8", 0),
        ("author", both, "object", ""),
        ("origin", both, "object", ""),
        *((f"{name}_mean", (f"{name}_width",), "float32", nan) for name in FEATURES),
        *((f"{name}_basis", (f"{name}_feature", f"{name}_width"), "float32", nan) for name in FEATURES),
    )
    flags = {"verdict": {"flag_values": [0, 1, 2, 3], "flag_meanings": "unjudged accepted rejected corrected"}}
    return {
        name: VectorSpec(name=name, dims=dims, dtype=dtype, fill=fill, attributes=flags.get(name, {}))
        for name, dims, dtype, fill in rows
    }


#: The small arrays that a revised store has besides, see `verdicts`.
REVIEW_VECTORS = ("verdict", "author", "origin")
#: The small arrays by name: unsharded, chunked along their first axis only.
VECTORS = _vectors()


@dataclass(frozen=True, kw_only=True)
class FeatureLayout:
    """The sizes of an encoder's kept features, see `wilss.equations.features`.

    name: one of FEATURES. tokens: the most of an image, those of its patches in raster order after `prefix` others.
    dims: numbers of a token that are kept, of `width` that it had. notes: JSON values that say what the widths are.
    """

    name: str
    tokens: int
    dims: int
    width: int
    prefix: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def vectors(self) -> tuple[str, str]:
        """The small arrays that say how they were projected: the mean [width] and the basis [dims, width]."""
        return f"{self.name}_mean", f"{self.name}_basis"

    def arrays(self, num_images: int) -> tuple[ArraySpec, ArraySpec]:
        """Whole numbers of eight bits, and their scales: zero for an image without any."""
        token, feature = f"{self.name}_token", f"{self.name}_feature"
        plane = (self.tokens, self.dims)
        return (
            ArraySpec(name=f"{self.name}_features", dims=("image", token, feature), shape=(num_images, *plane),
                      plane=plane, dtype="int8", fill=0, attributes={**self.notes, "prefix": self.prefix}),
            ArraySpec(name=f"{self.name}_scale", dims=("image", feature), shape=(num_images, self.dims),
                      plane=(self.dims,), dtype="float32", fill=0.0),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StoreLayout:
    """The sizes of a store, and nothing of its content: all that a writer of shards has to know.

    canvas: (H, W) of the largest image; masks lie anchored top-left on it.
    score_grid, attention_grid: (h, w) of the largest patch grids, or None where soft layers are not kept.
    num_seeds: seeds kept per category, 0 for none. has_content: whether there is a digest of what each image's masks
    were made of, see `changes`; older stores have none. has_review: whether it says what people said of its masks, see
    `verdicts`. features: what is kept of the encoders' features.
    """

    num_images: int
    num_categories: int
    canvas: tuple[int, int]
    shard_size: int
    score_grid: tuple[int, int] | None = None
    attention_grid: tuple[int, int] | None = None
    num_seeds: int = 0
    has_void: bool = False
    has_content: bool = False
    has_review: bool = False
    features: tuple[FeatureLayout, ...] = ()

    @property
    def num_shards(self) -> int:
        """Shards along the image axis; the last one may be short."""
        return -(-self.num_images // self.shard_size)

    @property
    def vectors(self) -> dict[str, VectorSpec]:
        """The small arrays of this store by name."""
        absent = {*(() if self.has_content else ("content",)), *(() if self.has_review else REVIEW_VECTORS)}
        kept = {one.name for one in self.features}
        absent |= {f"{name}_{what}" for name in FEATURES for what in ("mean", "basis") if name not in kept}
        return {name: spec for name, spec in VECTORS.items() if name not in absent}

    def vector_shape(self, name: str) -> tuple[int, ...]:
        """The shape of the small array `name`."""
        lengths = {"image": self.num_images, "category": self.num_categories, "shard": self.num_shards}
        for one in self.features:
            lengths |= {f"{one.name}_feature": one.dims, f"{one.name}_width": one.width}
        return tuple(lengths[dim] for dim in VECTORS[name].dims)

    def chunk_rows(self, name: str) -> int:
        """Rows in one chunk of the small array `name`: those of a bounded number of shards."""
        rows = SHARDS_PER_VECTOR_CHUNK * (1 if VECTORS[name].dims[0] == "shard" else self.shard_size)
        return min(rows, max(self.vector_shape(name)[0], 1))

    def rows(self, shard: int) -> range:
        """Positions of the images in `shard`."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.num_images))

    def row_slice(self, shard: int) -> slice:
        """The same as a slice of the image axis."""
        rows = self.rows(shard)
        return slice(rows.start, rows.stop)

    @cached_property
    def arrays(self) -> tuple[ArraySpec, ...]:
        """The sharded arrays of this store, in a fixed order."""
        per_category = (self.num_images, self.num_categories)

        def soft(name: str, grid: tuple[int, int], axes: tuple[str, str]) -> ArraySpec:
            return ArraySpec(name=name, dims=("image", "category", *axes), shape=(*per_category, *grid),
                             plane=grid, dtype="float16", fill=float("nan"))  # fmt: skip

        specs = [ArraySpec(name="mask", dims=("image", "category", "y", "x"), shape=(*per_category, *self.canvas),
                           plane=self.canvas, dtype="bool", fill=False)]  # fmt: skip
        if self.has_void:
            specs.append(ArraySpec(name="void", dims=("image", "y", "x"), shape=(self.num_images, *self.canvas),
                                   plane=self.canvas, dtype="bool", fill=False))  # fmt: skip
        if self.score_grid:
            specs.append(soft("score", self.score_grid, ("yp", "xp")))
        if self.attention_grid:
            specs.append(soft("attention", self.attention_grid, ("ya", "xa")))
        if self.num_seeds:
            specs.append(ArraySpec(name="seeds", dims=("image", "category", "seed", "point"),
                                   shape=(*per_category, self.num_seeds, 2), plane=(self.num_seeds, 2),
                                   dtype="int16", fill=-1))  # fmt: skip
        for one in self.features:
            specs.extend(one.arrays(self.num_images))
        return tuple(specs)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoreReview:
    """What people said of a store's masks: verdict int8 [N, C]; author, origin: texts [N, C], "" where nobody did."""

    verdict: NDArray[np.int8]
    author: NDArray[Any]
    origin: NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class StoreHeader:
    """Everything that is known before the first mask is made.

    heights, widths: int32 [N], true sizes in pixels, 0 for an image that could not be opened.
    tags: bool [N, C].  status: int8 [N].  errors: N sentences, "" where there is none.
    attributes: what the store was made with; JSON values only, and nothing that differs between two equal runs.
    review: of a layout that has one. bases: the small arrays of a layout's features by name.
    """

    layout: StoreLayout
    image_ids: Sequence[str]
    category_ids: tuple[int, ...]
    category_names: tuple[str, ...]
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    tags: NDArray[np.bool_]
    status: NDArray[np.int8]
    errors: tuple[str, ...]
    attributes: Mapping[str, Any]
    review: StoreReview | None = None
    bases: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def consolidate(group: zarr.Group) -> zarr.Group:
    """Gather the metadata of all arrays in the group's own file, so that opening reads one file."""
    with _FILTERING, warnings.catch_warnings():
        # zarr warns that consolidated metadata is not in the v3 specification; other readers ignore the field.
        warnings.filterwarnings("ignore", message="Consolidated metadata", category=UserWarning)
        return zarr.consolidate_metadata(group.store)


def create_sharded(group: zarr.Group, spec: ArraySpec, shard_size: int) -> None:
    """Write the metadata of a sharded array, `shard_size` entries of its first axis to a shard."""
    lead = len(spec.shape) - len(spec.plane)
    group.create_array(
        spec.name,
        shape=spec.shape,
        dtype=spec.dtype,
        chunks=(*(1,) * lead, *spec.plane),
        shards=(shard_size, *spec.shape[1:]),
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attributes) or None,
    )


def create_vector(group: zarr.Group, spec: VectorSpec, shape: tuple[int, ...], chunk_rows: int) -> Any:
    """Write the metadata of a small array, chunked along its first axis; zarr's array."""
    return group.create_array(
        spec.name,
        shape=shape,
        dtype=str if spec.dtype == "object" else spec.dtype,
        chunks=(chunk_rows, *shape[1:]),
        compressors=ZstdCodec(level=ZSTD_LEVEL),
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=dict(spec.attributes) or None,
    )
