"""data_manifest.yaml: which images, which tags and labels, which classes at which step, which encoders."""

from wilss.data.layouts import (
    CocoLabel,
    DataSpec,
    ImageRecord,
    Label,
    LabelTable,
    PngLabel,
    Selection,
    read_label_of,
    require_size,
)
from wilss.data.manifest.encoders import Encoders, EncoderSpec
from wilss.data.manifest.lock import LockedWeights, list_digests, lock_path, record_hub_digest, write_lock
from wilss.data.manifest.manifest import Manifest, StepData, load_manifest
from wilss.data.manifest.supports import SupportList, SupportRow

__all__ = [
    "CocoLabel",
    "DataSpec",
    "EncoderSpec",
    "Encoders",
    "ImageRecord",
    "Label",
    "LabelTable",
    "LockedWeights",
    "Manifest",
    "PngLabel",
    "Selection",
    "StepData",
    "SupportList",
    "SupportRow",
    "list_digests",
    "load_manifest",
    "lock_path",
    "read_label_of",
    "record_hub_digest",
    "require_size",
    "write_lock",
]
