"""How a store is made: the choices of a run that are not the source's own parameters."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wilss.errors import ParameterError
from wilss.models.devices import require_device_word, resolve_device

from .cluster import ClusterOptions, require_usable_address

if TYPE_CHECKING:
    from wilss.models.encoders.vit.attention import Part as BlockPart

#: Numbers of a token that are kept by default; what fewer cost is measured (pipeline/README.md).
FEATURE_DIMS = 128
_WHY_ALONE = {
    "--overwrite": "each part would throw the others' work away; remove the store once, before they start",
    "--update": "one process carries over what is the same; run it without --part",
    "--retry-failed": "one process tries the failed images of a finished store again; run it without --part",
    "--scheduler": "a part is made by this process and its own --workers or --devices; leave one of them out",
}


@dataclass(frozen=True)
class Part:
    """One of `count` independent processes that make a store together. index: from 1 to `count`.

    Raises ParameterError for one that there is not.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ParameterError(
                f"there is no part {self}: parts go from 1/{self.count} to {self.count}/{self.count}; to an index that "
                "begins at 0, as that of a Kubernetes job, add 1."
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part that `3/64` names. Raises ParameterError."""
        index, _, count = text.partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(count)):
            raise ParameterError(f"{text!r} is no part; write e.g. 3/64 for the third of 64.")
        return cls(int(index), int(count))


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a store is made.

    split: the manifest's split whose images are labelled. keep_scores: keep score map, attention and seeds.
    keep_features: keep the encoders' features, each token in `feature_dims` numbers of a byte, projected along the
    directions in which features differ most (`pca`) or along random ones. feature_parts: of the ViT's last block beside
    queries and keys, for other recipes than the one at hand.
    limit: only the first so many images. shard_size: images per shard. batch_size: images per forward pass.
    threads: CPU threads of a forward pass; its rounding may depend on it. device: "auto", "cpu" or "cuda".
    shard_seconds: how long a worker process may take for a shard before it is considered hung; None for half an hour,
    or a minute an image where that is more; 0 for any time.
    overwrite: throw away what is there. update: where only images, labels or their list are others, keep the shards of
    which nothing has changed. retry_failed: try the failed images of a complete store again. check_digests: read every
    image or label that masks were made of, also those whose size and time are as they were.
    part: make a share of the store as one of many processes, and what is left of the others'; None to make all of it.
    """

    split: str = "train"
    keep_scores: bool = False
    keep_features: bool = False
    feature_dims: int = FEATURE_DIMS
    feature_projection: Literal["pca", "random"] = "pca"
    feature_parts: "tuple[BlockPart, ...]" = ()
    limit: int | None = None
    shard_size: int = 32
    batch_size: int = 8
    threads: int = 1
    device: str = "auto"
    overwrite: bool = False
    update: bool = False
    retry_failed: bool = False
    check_digests: bool = False
    shard_seconds: float | None = None
    part: Part | None = None
    cluster: ClusterOptions = ClusterOptions()

    @property
    def kept(self) -> list[str]:
        """What is kept beside the masks."""
        return [*(["scores"] if self.keep_scores else []), *(["features"] if self.keep_features else [])]

    @property
    def patience(self) -> float:
        """Seconds after which a worker is considered hung, 0 for none."""
        return max(1800.0, 60.0 * self.shard_size) if self.shard_seconds is None else self.shard_seconds


def require_consistent(options: Options) -> None:
    """Raise ParameterError for a part of what one process alone can do, and for choices of features that none keeps."""
    alone = {
        "--overwrite": options.overwrite,
        "--update": options.update,
        "--retry-failed": options.retry_failed,
        "--scheduler": options.cluster.is_elsewhere,
    }
    for option, is_given in alone.items():
        if options.part is not None and is_given:
            raise ParameterError(f"--part {options.part} cannot be given with {option}: {_WHY_ALONE[option]}.")
    idle = {
        "--feature-dims": options.feature_dims != Options.feature_dims,
        "--feature-projection": options.feature_projection != Options.feature_projection,
        "--feature-parts": options.feature_parts != Options.feature_parts,
    }
    for option, is_given in idle.items():
        if is_given and not options.keep_features:
            raise ParameterError(f"{option} says how features are kept, and none are; add --keep features.")


def require_means(options: Options) -> None:
    """Refuse devices that are not there and a scheduler that must not be talked to, before anything is done."""
    cluster = options.cluster
    if cluster.is_elsewhere:
        require_usable_address(cluster)
    require_device_word(options.device)
    if options.device != "auto" and not cluster.is_elsewhere:
        resolve_device(options.device)
    option = f"--devices {','.join(map(str, cluster.devices))}"
    if cluster.devices and options.device == "cpu":
        raise ParameterError(f"{option} and --device cpu ask for different things; leave one of them out.")
    for index in cluster.devices:
        if index < 0 or cluster.devices.count(index) > 1:
            raise ParameterError(f"{option} is no list of different GPUs; name each once, as in --devices 0,1.")
        resolve_device(f"cuda:{index}", option)
