"""`fuse`: a new store from the kept maps of another one, with other fusion, thresholds or stages. No forward pass.

Images, statuses, seeds and fallbacks are carried over, and so is, whole, an image of which somebody judged a mask;
other masks and their diagnostics are made by the same `refine` with which `generate` ends, so equal parameters give
equal bytes. The seeds stay those that were drawn at the first store's threshold, which `fused_from` in the attributes
tells. Stages that look at the images themselves read them again; an image that is gone or another one fails, as it
would in `generate`, and so does one whose maps are damaged.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.digests import version_of
from wilss.disk import Folder, Location, folder_at, is_there, location_of, refuse_existing, resolved, writing
from wilss.errors import EncoderError, OneImageError, StoreError
from wilss.params import divided, names_of, with_values
from wilss.process import map_in_threads
from wilss.store import (
    ImageContent,
    MaskStore,
    MaskStoreWriter,
    ShardReceipt,
    Status,
    StoreHeader,
    StoreLayout,
    shows_none,
    write_shard,
)
from wilss.store.carrying import stored_content
from wilss.store.features import kept_bases, kept_planes
from wilss.store.records import records_for
from wilss.store.verdicts import UNJUDGED, review_of, verdicts_of

from ..sources.cam.params import CamParams, CutParams
from ..sources.fmwiss_params import ALWAYS_NOTED, CONFIDENCE_OF, FmwissParams, FusionParams, confidence_noted
from ..sources.fusion import as_content
from ..stages.params import noted, refuse_idle
from ..stages.region_file import images_without_regions
from ..stages.regions import NOTED_OF_REGIONS, refuse_networks, regions_identity, require_regions
from .kept_scores import CutOrFusion, KeptReader, fusion_of
from .pictures import StagePictures

#: All parameters of a source, and those of `fuse` that a store always notes, by the parameters of `fuse`.
_WHOLE: Mapping[type, type] = {FusionParams: FmwissParams, CutParams: CamParams}
_NOTED: Mapping[type, Collection[str]] = {FusionParams: ALWAYS_NOTED, CutParams: ("cut",)}
#: Attributes that follow from the stages.
_OF_STAGES = (*NOTED_OF_REGIONS, CONFIDENCE_OF)
#: Attributes that belong to one store and not to what it was made with.
_OWN = ("format", "format_version", "seal")


def fuse(
    store: MaskStore,
    out: Location | str,
    values: Mapping[str, Any],
    *,
    manifest: Manifest | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> MaskStore:
    """Make the store `out` from the maps that `store` keeps.

    values: parameters of the fusion, or of the cut, and of the stages that shall differ, see `FusionParams` and
    `CutParams`. manifest: of the store's images, for stages that look at them. The new store is built beside `out` and
    renamed when it is whole, so a half-made one is never taken for it.
    Raises StoreError when no maps were kept, `out` exists and is not to be overwritten, or the manifest is missing or
    another; EncoderError for a parameter that needs a forward pass or is wrong; ParameterError for a file of regions
    that knows none of the images.
    """
    out, params = location_of(out), new_params(store, values)
    require_regions(params)
    region_warnings(store, params)
    pictures = StagePictures(store, _records(store, manifest, params), params)
    refuse_bad_target(store, out, overwrite, "to be fused")
    with writing(out):
        folder = folder_at(out)
        with folder.lock(), folder.built_beside() as building:
            _build(store, building, params, pictures, threads, progress)
    return MaskStore.open(out)


def region_warnings(store: MaskStore, params: CutOrFusion) -> tuple[str, ...]:
    """A sentence where a file of regions does not know all images. Raises ParameterError where it knows none."""
    return tuple(images_without_regions(params.regions_file, store.image_ids)) if params.regions == "file" else ()


def newly_failed(store: MaskStore, fused: MaskStore) -> dict[str, str]:
    """The images of which `store` has masks and `fused` has none, by id, and why."""
    rows = np.flatnonzero((store.vector("status") == Status.DONE) & (fused.vector("status") == Status.FAILED))
    errors = fused.vector("error")
    return {fused.image_ids[row]: str(errors[row]) for row in rows.tolist()}


def new_params(store: MaskStore, values: Mapping[str, Any]) -> CutOrFusion:
    """The store's fusion parameters with `values` put in; refuses what only a forward pass can change."""
    params = fusion_of(store)
    cheap, known = names_of(type(params)), names_of(_WHOLE[type(params)])
    for name in values:
        if name not in cheap and name in known:
            keeping = "" if isinstance(params, CutParams) else ", or keep features next time (--keep features)"
            raise EncoderError(
                f"--set {name} needs a forward pass, which fuse does not make; use `wilss-masks generate "
                f"--set {name}={values[name]}`{keeping}. fuse can change {', '.join(cheap)}."
            )
    params = with_values(params, values, where="--set")
    refuse_networks(params)
    refuse_idle(params, values, "--set")
    return params


def _records(store: MaskStore, manifest: Manifest | None, params: CutOrFusion) -> Mapping[str, ImageRecord]:
    """Where the store's images are; nothing where no stage looks at them."""
    if not params.needs_picture:
        return {}
    if manifest is None:
        raise StoreError(
            f"these stages look at the images, of which {store.path} holds none; name its manifest with --manifest."
        )
    return records_for(store, manifest)


def refuse_bad_target(store: MaskStore, out: Location, overwrite: bool, purpose: str) -> None:
    """Raise StoreError unless `out` is new, or another mask store that may be thrown away.

    purpose: what `store` is there for, as in "to be fused".
    """
    refuse_existing(out, overwrite)
    if not is_there(out):
        return
    if resolved(out) == resolved(store.path):
        raise StoreError(f"{out} is the store {purpose}; give another --out.")
    MaskStore.open(out, allow_partial=True)


def _build(
    store: MaskStore,
    folder: Folder,
    params: CutOrFusion,
    pictures: StagePictures,
    threads: int | None,
    progress: Callable[[int, int], None],
) -> None:
    """Write every shard of the new store to `folder`, commit them in order and seal it."""
    header = _header(store, params)
    writer = MaskStoreWriter.create(folder, header)
    maker = _ShardMaker(store, folder, header.layout, params, pictures)
    done, total = 0, store.layout.num_images
    for receipt in map_in_threads(maker.make, range(store.layout.num_shards), threads):
        writer.commit(receipt)
        done += len(receipt.status)
        progress(done, total)
    writer.seal()


class _ShardMaker:
    """Fuses one shard at a time; used by several threads. layout: of the new store."""

    def __init__(
        self, store: MaskStore, folder: Folder, layout: StoreLayout, params: CutOrFusion, pictures: StagePictures
    ) -> None:
        self._store, self._folder, self._layout, self._params, self._pictures = store, folder, layout, params, pictures
        self._reader = KeptReader(store)
        self._status, self._errors = store.vector("status"), store.vector("error")
        self._fallback, self._shows_none = store.vector("fallback"), shows_none(store)
        self._contents = store.vector("content") if store.layout.has_content else None
        self._judged = (verdicts_of(store) != UNJUDGED).any(axis=1)

    def make(self, shard: int) -> ShardReceipt:
        layout = self._layout
        return write_shard(self._folder, layout, shard, [self._content(row) for row in layout.rows(shard)])

    def _content(self, row: int) -> ImageContent:
        status = Status(int(self._status[row]))
        if not self._judged[row] and status is not Status.DONE:
            return ImageContent(status=status, error=str(self._errors[row]))
        try:
            if self._judged[row]:
                return stored_content(self._store, row, self._store.receipt(row // self._layout.shard_size))
            content = ImageContent(status=status) if self._shows_none[row] else self._fused(row)
            content = dataclasses.replace(content, planes={**content.planes, **kept_planes(self._store, row)})
        except OneImageError as error:
            return ImageContent(status=Status.FAILED, error=str(error))
        return content if self._contents is None else dataclasses.replace(content, content=int(self._contents[row]))

    def _fused(self, row: int) -> ImageContent:
        picture, maps = self._pictures(row), self._reader.read(row)
        regions = self._pictures.regions(row, picture)
        return as_content(
            maps.refine(self._params, picture, regions=regions),
            maps.categories,
            score=maps.score,
            attention=maps.attention,
            seeds=maps.seeds,
            fallback=[bool(self._fallback[row, category]) for category in maps.categories],
        )


def _header(store: MaskStore, params: CutOrFusion) -> StoreHeader:
    status, layout = store.vector("status"), store.layout
    has_void = params.has_void or (layout.has_review and layout.has_void)
    return StoreHeader(
        layout=dataclasses.replace(layout, has_void=has_void),
        image_ids=store.image_ids,
        category_ids=store.category_ids,
        category_names=store.category_names,
        heights=store.vector("height"),
        widths=store.vector("width"),
        tags=store.vector("tags"),
        status=np.where(status == Status.UNTAGGED, status, np.int8(Status.PENDING)),
        errors=("",) * store.layout.num_images,
        attributes=_attributes(store, params),
        review=review_of(store) if layout.has_review else None,
        bases=kept_bases(store),
    )


def _attributes(store: MaskStore, params: CutOrFusion) -> dict[str, Any]:
    """The first store's attributes, with what is true of the new masks: their parameters and our versions.

    `fused_from` tells what the maps and seeds were made with, and names the first store by its seal. A fused
    store that is fused again passes it on, since the maps are the first store's still; so the way there makes
    no difference.
    """
    attributes = {key: value for key, value in store.attributes.items() if key not in (*_OWN, *_OF_STAGES)}
    origin = {
        "parameters": attributes.get("parameters", {}),
        "versions": attributes.get("versions", {}),
        "seal": store.attributes.get("seal"),
        **{key: value for key, value in store.attributes.items() if key in NOTED_OF_REGIONS},
    }
    others = divided(type(params), attributes.get("parameters", {}))[1]
    return {
        **attributes,
        "parameters": {**others, **noted(params, _NOTED[type(params)])},
        "versions": {name: version_of(name) for name in attributes.get("versions", {})},
        "fused_from": attributes.get("fused_from", origin),
        **regions_identity(params),
        **confidence_noted(params),
    }
