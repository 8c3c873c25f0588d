"""The built-in data: drawn when it is missing."""

import logging

from wilss.data.layouts import DataSpec
from wilss.errors import ManifestError

log = logging.getLogger("wilss")

_STAMP = "shapes.json"


def ensure(spec: DataSpec) -> None:
    """Draw the data set if the manifest says `generate` and it is not there; announced, since it takes a while."""
    if spec.generate is None:
        return
    from wilss.data.shapes import write_voc

    splits = {name: count for name, count in spec.generate if name not in ("what", "seed") and count}
    stamp = spec.root / _STAMP
    before = stamp.stat().st_mtime_ns if stamp.is_file() else None
    if before is None:
        log.info("drawing %d pictures into %s (once)", sum(splits.values()), spec.root)
    try:
        write_voc(spec.root, splits=splits, seed=spec.generate.seed)
    except OSError as error:
        if before is None:
            raise ManifestError(
                f"{spec.at('path')}: the built-in data cannot be drawn into {spec.root} ({error.strerror}); correct "
                "`path`, or free the disk."
            ) from None
        return  # a complete set on a disk that may only be read
    if before is not None and stamp.stat().st_mtime_ns != before:
        log.info("%s was drawn again: the manifest asks for other pictures than it held", spec.root)
