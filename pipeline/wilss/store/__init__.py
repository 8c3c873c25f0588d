"""The mask store: the noun between the two verbs. See `schema` for what it holds."""

from wilss.disk import writer_lock

from .collecting import seal_parts
from .coverage import Look, compared_masks, coverage_of, empty_masks, look_at, seeded, shows_none
from .parts import PartsGoneError, StoreParts
from .schema import FeatureLayout, Status, StoreHeader, StoreLayout, StoreReview
from .shards import ImageContent, ShardReceipt, write_shard
from .store import ImageMasks, MaskStore
from .view import LabelMaps, label_map, open_masks
from .writer import MaskStoreWriter

__all__ = [
    "FeatureLayout",
    "ImageContent",
    "ImageMasks",
    "LabelMaps",
    "Look",
    "MaskStore",
    "MaskStoreWriter",
    "PartsGoneError",
    "ShardReceipt",
    "Status",
    "StoreHeader",
    "StoreLayout",
    "StoreParts",
    "StoreReview",
    "compared_masks",
    "coverage_of",
    "empty_masks",
    "label_map",
    "look_at",
    "open_masks",
    "seal_parts",
    "seeded",
    "shows_none",
    "write_shard",
    "writer_lock",
]
