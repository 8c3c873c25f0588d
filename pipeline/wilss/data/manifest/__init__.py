"""data_manifest.yaml: which images, which tags and labels, which classes at which step, which encoders."""

from wilss.data.manifest.earlier import as_known_before
from wilss.data.manifest.encoders import Encoders, EncoderSpec
from wilss.data.manifest.lock import (
    LockedWeights,
    content_digests_of,
    list_digests,
    lock_path,
    record_hub_digest,
    require_locked_contents,
    write_lock,
)
from wilss.data.manifest.manifest import Manifest, load_manifest, require_manifest
from wilss.data.manifest.overlap import told_overlap
from wilss.data.manifest.supports import SupportRow
from wilss.data.manifest.unlisted import (
    strangers_of,
    told_files,
    told_namesakes,
    told_repeats,
    told_rows,
    told_unlisted,
)

__all__ = [
    "EncoderSpec",
    "Encoders",
    "LockedWeights",
    "Manifest",
    "SupportRow",
    "as_known_before",
    "content_digests_of",
    "list_digests",
    "load_manifest",
    "lock_path",
    "record_hub_digest",
    "require_locked_contents",
    "require_manifest",
    "strangers_of",
    "told_files",
    "told_namesakes",
    "told_overlap",
    "told_repeats",
    "told_rows",
    "told_unlisted",
    "write_lock",
]
