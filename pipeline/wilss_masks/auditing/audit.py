"""`audit`: a manifest, and a store of its masks where there is one, looked through for what is likely wrong."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wilss.data.manifest import Manifest, require_manifest
from wilss.disk import data_path
from wilss.errors import ManifestError
from wilss.store import MaskStore, Status
from wilss.store.records import records_for

from .decisions import class_findings, error_scores, tag_doubts
from .duplicates import conflicts_of_ids, duplicate_findings, leaking_lists
from .evidence import Evidence, Item, Predictor, evidence_of
from .findings import Audit, in_order
from .lists import ImageList, lists_of, pictures_of
from .predictors import predictor_of

#: Is told how many looks are done, and how many there are: one for every picture, and one for its tags and masks.
Progress = Callable[[int, int], None]


def audit(
    manifest: Manifest,
    store: MaskStore | None = None,
    *,
    predictions: Path | str | None = None,
    labels: bool = True,
    duplicates: bool = True,
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Likely errors of tags, masks and lists; the same whatever the number of threads.

    store: whose masks are looked at; without one tags are held against pixel labels, of all lists that are trained on.
    predictions: a run of `wilss-train` or a folder of label maps. labels: whether pixel labels are asked, where there
    are any. duplicates: whether pictures are compared, which reads all of them once (see `hashes`).
    Raises ManifestError, StoreError, CheckpointError where there is nothing to be looked at.
    """
    require_manifest(manifest)
    lists = lists_of(manifest)
    class_ids, items = _items(manifest, lists, store)
    names = tuple(manifest.taxonomy.name_of(identity) for identity in class_ids)
    predictor = None if predictions is None else predictor_of(data_path(predictions), manifest, class_ids, device)
    findings = [*leaking_lists(manifest, lists), *conflicts_of_ids(lists, manifest.taxonomy)]
    failed: dict[str, str] = {}
    pictures = pictures_of(lists) if duplicates else []
    whole = len(pictures) + len(items)
    if duplicates:
        found, failed = duplicate_findings(
            lists, pictures, manifest.taxonomy, threads=threads, progress=lambda done, _: progress(done, whole)
        )
        findings += found
    evidence = evidence_of(
        items, class_ids, names, store=store, predictor=predictor, labels=labels, threads=threads,
        progress=lambda done, _: progress(len(pictures) + done, whole),
    )  # fmt: skip
    doubts = tag_doubts(evidence)
    findings += class_findings(evidence, doubts)
    return Audit(
        title=_title(manifest, store),
        findings=in_order(findings),
        images=max(len(pictures), len(items)),
        looked_at=_looked_at(manifest, lists, store, predictor, evidence, duplicates),
        scores=error_scores(evidence, doubts),
        failed=dict(sorted({**failed, **evidence.failed}.items())),
        warnings=tuple(_warnings(evidence, predictor)),
    )


def _items(
    manifest: Manifest, lists: Sequence[ImageList], store: MaskStore | None
) -> tuple[tuple[int, ...], list[Item]]:
    """The classes whose tags and masks are looked at, and the images."""
    if store is None:
        return _tagged_items(manifest, lists)
    records = records_for(store, manifest)
    wanted = np.flatnonzero(np.isin(store.current_status(), (Status.DONE, Status.UNTAGGED)))
    done = store.current_status() == Status.DONE
    place = ", ".join(manifest.list_of(store.step, str(store.attributes.get("split", "train"))))
    rows = ((records[store.image_ids[row]], row if done[row] else -1) for row in wanted.tolist())
    return store.category_ids, [Item(record, row, place) for record, row in rows]


def _tagged_items(manifest: Manifest, lists: Sequence[ImageList]) -> tuple[tuple[int, ...], list[Item]]:
    """All classes that steps with tags or labels learn, and the images of their lists, each once with the same tags."""
    steps = [step for step in range(manifest.protocol.num_steps) if manifest.supervision(step) != "shots"]
    class_ids = tuple(sorted({identity for step in steps for identity in manifest.protocol.new(step)}))
    items: dict[tuple[Path, tuple[int, ...]], Item] = {}
    for one in lists:
        if set(one.steps) & set(steps):
            for record in (record for record in one.records if not record.tags_unknown):
                items.setdefault((record.path, tuple(record.tags)), Item(record, -1, one.name))
    return class_ids, list(items.values())


def _looked_at(
    manifest: Manifest,
    lists: Sequence[ImageList],
    store: MaskStore | None,
    predictor: Predictor | None,
    evidence: Evidence,
    duplicates: bool,
) -> dict[str, Any]:
    labelled = int((~np.isnan(evidence.facts["label"])).any(axis=1).sum())
    return {
        "manifest": manifest.name,
        "manifest_sha256": manifest.digest,
        "store": None if store is None else store.path.name,
        "step": None if store is None else store.step,
        "source": None if store is None else store.attributes.get("source"),
        "predictions": None if predictor is None else Path(predictor.name).name,
        "lists": {one.name: len(one.records) for one in lists},
        "compared": duplicates,
        "tags_of": len(evidence.items),
        "labelled": labelled,
        "held_against": evidence.reference or None,
    }


def _title(manifest: Manifest, store: MaskStore | None) -> str:
    if store is None:
        return manifest.title
    return f"{manifest.title}, {store.path.name}"


def _warnings(evidence: Evidence, predictor: Predictor | None) -> Iterator[str]:
    """What was not looked at, and why."""
    if not evidence.tags.any():
        yield "no image is tagged with a class that is looked at, so that nothing is said of tags."
    elif all(np.isnan(evidence.facts[kind]).all() for kind in ("label", "predicted", "score")):
        yield (
            "there are no pixel labels, no kept scores and no predictions, so that nothing is said of tags; name a "
            "store made with --keep scores, or a trained network with --predictions."
        )
    if predictor is None:
        return
    shown = (evidence.facts["predicted"] > 0).any(axis=0)
    if not shown.any():
        raise ManifestError(
            f"{predictor.name} says nothing of any image or class that is looked at; give the label maps of these "
            "images, or a network that was trained on these classes."
        )
    never = np.flatnonzero(~shown & evidence.tags.any(axis=0)).tolist()
    if never:  # label maps do not say which classes their network knows
        yield (
            f"{predictor.name} shows {', '.join(evidence.names[place] for place in never)} on no image; where its "
            "network has not learnt that, scores of such tags say nothing."
        )
