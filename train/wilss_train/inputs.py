"""What a run reads, all of it checked before the first step: mask store, manifest, parent checkpoint."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wilss.data.images import ALL_BITS
from wilss.data.layouts import ImageRecord, odd_looks
from wilss.data.manifest import Manifest, require_locked_contents
from wilss.data.protocol import StepProtocol
from wilss.disk import Location
from wilss.errors import CheckpointError, StoreError, WeightsError, counted
from wilss.models.encoders.weights import check_digest, sha256_of
from wilss.models.networks.checkpoint import CheckpointInfo, read_info, read_weights
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.pretrained import pretrained_file
from wilss.store import MaskStore, coverage_of, empty_masks
from wilss.store.changes import require_unchanged
from wilss.store.records import records_for
from wilss.store.review_folder import judged_beside
from wilss.store.tags import other_tags

from .memory import MemoryBank
from .params import TrainParams
from .run_folder import MEMORY

RUNS = Path("runs")
_FIRST_METHOD = "fmwiss"
#: Images of which some may be dark.
_LOOKED_AT = 20
#: Methods by what their outputs are, a sigmoid of each class or one softmax: a family's step 0 is one and the same.
_SIGMOIDS = (_FIRST_METHOD, "finetune", "distill", "wilson")
SOFTMAX = ("mib", "plop")


@dataclass(frozen=True, kw_only=True)
class RunInputs:
    """A store of masks with the images it is of, and the checkpoint of the step before (None at step 0).

    store_digest: the store's seal. memory: the parent's memory bank, None where there is none.
    """

    manifest: Manifest
    store: MaskStore
    records: Mapping[str, ImageRecord]
    step: int
    parent: CheckpointInfo | None
    store_digest: str
    memory: Path | None

    @property
    def protocol(self) -> StepProtocol:
        """The manifest's, which is the store's, too, and up to its step the parent's."""
        return self.manifest.protocol

    @property
    def bits(self) -> int:
        """How many of 16 bits of the step's images hold values; where it says nothing, as in the step before."""
        bits = self.manifest.data[self.manifest.steps[self.step].data].bits
        return self.parent.bits if bits == ALL_BITS and self.parent is not None else bits

    @property
    def is_weak(self) -> bool:
        """Whether the step's classes come without pixel labels of every image, so that its masks are not sure."""
        return self.manifest.supervision(self.step) != "pixel"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about classes of the step that the store has no mask of, and whatever else will not be learnt."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        path, coverage = self.store.path, coverage_of(self.store)
        left_out = "no mask shows it"
        if self.store.attributes.get("uses_tags") is not False:
            left_out += "; images that are tagged with it are left out, lest it be learnt as background"
        for place in coverage.without_mask:
            images = counted(coverage.tagged[place], "image")
            yield f"{path}: {coverage.names[place]!r} is tagged in {images}, and {left_out}."
        for place in coverage.without_image:
            yield f"{path}: no image is tagged {coverage.names[place]!r}, so nothing is learnt of it."
        for sentence in (*empty_masks(self.store), other_tags(self.store, self.records)):
            if sentence:
                yield f"{path}: {sentence}"
        yield from filter(None, (judged_beside(self.store), *odd_looks(self._few_records)))

    @property
    def _few_records(self) -> list[ImageRecord]:
        """Of the store's images, evenly spread."""
        ids = self.store.image_ids
        places = range(0, len(ids), max(1, -(-len(ids) // _LOOKED_AT)))
        return [self.records[ids[place]] for place in places if ids[place] in self.records]

    def verify(self, *, check_digests: bool = False) -> None:
        """Hold every byte of store, parent and memory against their digests; takes as long as reading them once.

        The images or labels that the masks were made of are compared by size and time, and by content where these are
        others, or with `check_digests`. Raises StoreError or CheckpointError for the first that is damaged or changed.
        """
        for damage in self.store.verify():
            raise StoreError(
                f"{self.store.path} is damaged: {damage.what}; make it again with `wilss-masks generate --overwrite`."
            )
        if check_digests:
            require_locked_contents(self.manifest, self.step, str(self.store.attributes.get("split", "train")))
        require_unchanged(self.store, self.records, every_byte=check_digests)
        if self.parent is not None:
            read_weights(self.parent)
        if self.memory is not None:
            MemoryBank.open(self.memory).verify()


def open_inputs(manifest: Manifest, masks: Location, parent: Path | None, method: str) -> RunInputs:
    """Open everything and check that it belongs together; `RunInputs.verify` then looks at every byte.

    parent: None for the step before in its default place. Raises StoreError for a store that is incomplete or of other
    data or classes; CheckpointError for a parent that is missing, damaged, of other classes or of a step that the
    store's does not follow.
    """
    store = MaskStore.open(masks)
    step = _step_of(store, manifest)
    info = _parent_of(manifest, step, parent, store, method)
    memory = None if info is None else info.path.parent / MEMORY
    return RunInputs(
        manifest=manifest,
        store=store,
        records=records_for(store, manifest),
        step=step,
        parent=info,
        store_digest=store.digest,
        memory=memory if memory is not None and memory.exists() else None,
    )


def step_of_masks(manifest: Manifest, masks: Location) -> int:
    """The step that a store holds. Raises StoreError for one that is incomplete or of other classes."""
    return _step_of(MaskStore.open(masks), manifest)


def default_out(manifest: Manifest, step: int, method: str) -> Path:
    """`runs/<manifest name>/step-<t>`, and the method behind it where its result is not that of the first one."""
    own = method if step else _base_of(method)
    return RUNS / manifest.name / f"step-{step}{'' if own == _FIRST_METHOD else f'-{own}'}"


def default_parent(manifest: Manifest, step: int, method: str) -> Path:
    """Where the checkpoint of the step before lies if it was trained by the same method and nobody said where."""
    return default_out(manifest, step - 1, method)


def _base_of(method: str) -> str:
    """The method whose step 0 a method begins with."""
    return next((family[0] for family in (_SIGMOIDS, SOFTMAX) if method in family), method)


def weights_path(word: str, backbone: str, manifest: Manifest) -> Path:
    """The file that a word names, see `wilss.models.networks.pretrained`; paths are relative to the manifest."""
    return pretrained_file(word, backbone, manifest.path.parent)


def digest_of_backbone(params: TrainParams, manifest: Manifest) -> str:
    """sha256 of the backbone's weights. Raises WeightsError where they cannot be read, or are not `backbone_sha256`."""
    try:
        path = weights_path(params.backbone_weights, params.backbone, manifest)
        digest = sha256_of(path)
    except WeightsError as error:
        raise WeightsError(
            f"{error} Other weights are named by --set backbone_weights=..., `timm`, a file or package:NAME/FILE; "
            "--set backbone_weights= starts from random ones, from which little is learnt."
        ) from None
    return check_digest(path, params.backbone_sha256, "backbone_sha256") if params.backbone_sha256 else digest


def _step_of(store: MaskStore, manifest: Manifest) -> int:
    """The store's step, if its classes are the manifest's of that step."""
    attributes = store.attributes
    step = store.step
    if step >= manifest.protocol.num_steps or sorted(store.category_ids) != sorted(manifest.protocol.new(step)):
        raise StoreError(
            f"{store.path} holds masks of step {step} of {attributes.get('protocol')} "
            f"({', '.join(store.category_names)}), which {manifest.path} does not have; pass the "
            "manifest that it was made with, or make the masks again."
        )
    return step


def _parent_of(
    manifest: Manifest, step: int, parent: Path | None, store: MaskStore, method: str
) -> CheckpointInfo | None:
    if step == 0:
        if parent is not None:
            raise CheckpointError(f"{store.path} holds step 0, which starts from no checkpoint; leave --from out.")
        return None
    path = parent if parent is not None else default_parent(manifest, step, method)
    if parent is None and not (path / MODEL_FILE).exists():
        base = _base_of(method) if step == 1 else method
        told = "" if base == _FIRST_METHOD else f" --method {base}"
        raise CheckpointError(
            f"step {step} starts from the checkpoint of step {step - 1}, and {path / MODEL_FILE} is not there; make "
            f"it with `wilss-train{told} --masks {_masks_of(store, step - 1)}`, or say --from."
        )
    info = read_info(path)
    info.require_same_classes(manifest)
    _require_outputs(info, step, method)
    if info.step != step - 1:
        raise CheckpointError(
            f"{info.path} has learnt step {info.step}, and {store.path} holds masks of step {step}; pass the "
            f"checkpoint of step {step - 1} with --from, or the masks of step {info.step + 1}."
        )
    return info


def _require_outputs(info: CheckpointInfo, step: int, method: str) -> None:
    """What old classes are held by are the old outputs, which methods of different families read differently."""
    if info.kind == "embedding":
        raise CheckpointError(
            f"{info.path} holds an embedding ({info.method}), and step {step} starts from a segmenter; pass one with "
            "--from, and use the embedding for masks (`--source panet --set embedding=...`)."
        )
    if info.method in SOFTMAX and method not in SOFTMAX:
        raise CheckpointError(
            f"{info.path} was trained by {info.method}, whose outputs are one softmax, and {method} reads a sigmoid of "
            f"each class; pass --method {' or '.join(SOFTMAX)}, or --from a run of {', '.join(_SIGMOIDS)}."
        )
    if info.method not in (*_SIGMOIDS, *SOFTMAX):
        source = "pseudoseg --set kind=decoder" if info.method == "unimatch" else info.method
        raise CheckpointError(
            f"{info.path} was trained by {info.method}, whose outputs are no probabilities of one class each, as step "
            f"{step} needs them; let it label step {info.step} (`wilss-masks generate --step {info.step} --source "
            f"{source} --checkpoint {info.path.parent}`), train that step from the store, and start from there."
        )


def _masks_of(store: MaskStore, step: int) -> Location:
    """The store of another step, beside this one."""
    return store.path.with_name(f"step-{step}.zarr")
