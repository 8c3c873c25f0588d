"""How a store is made: the choices of a run that are not the source's own parameters."""

from dataclasses import dataclass

from .cluster import ClusterOptions

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a store is made.

    split: the manifest's split whose images are labelled. keep_scores: keep score map, attention and seeds.
    limit: only the first so many images. shard_size: images per shard. batch_size: images per forward pass.
    threads: CPU threads of a forward pass; its rounding may depend on it. device: "auto", "cpu" or "cuda".
    overwrite: throw away what is there. retry_failed: try the failed images of a complete store again.
    """

    split: str = "train"
    keep_scores: bool = False
    limit: int | None = None
    shard_size: int = 32
    batch_size: int = 8
    threads: int = 1
    device: str = "auto"
    overwrite: bool = False
    retry_failed: bool = False
    cluster: ClusterOptions = ClusterOptions()
