"""`tune`: the networks once over a sample, a search without them, and what it found."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wilss.data.manifest import Manifest
from wilss.disk import Location, writing
from wilss.errors import ManifestError, ParameterError, StoreError
from wilss.models.devices import resolve_device

from ..make.options import Options
from ..make.request import plan_for
from ..sources.fmwiss import FmwissSource
from ..stages.regions import OF_A_PASS
from .levers import levers
from .sample import Sample
from .scratch import Scratch, default_folder
from .search import Found, Ranked, may_be_chosen, search
from .settings import Setting, settings

if TYPE_CHECKING:
    from .calibrating import Calibration
    from .judging import Judge

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What a search found. sources: by set of background words, with which a sheet makes masks again.

    scratch: what the networks said of the images, on disk. calibration: how sure the masks of the best setting are,
    where something is labelled.
    """

    sample: Sample
    found: Found
    sources: dict[str, FmwissSource]
    scratch: Scratch
    calibration: "Calibration | None" = None

    @property
    def best(self) -> Ranked:
        """The best setting that may be chosen."""
        return next(one for one in self.found.ranked if may_be_chosen(one.setting))

    @property
    def present(self) -> Ranked:
        """The setting that the manifest has now."""
        return next(one for one in self.found.ranked if one.setting.control == "present")

    @property
    def image_ids(self) -> list[str]:
        """The images that it was chosen on."""
        return [r.image_id for r in self.sample.records if r.image_id not in self.found.failed]


def tune(
    manifest: Manifest,
    step: int,
    sample: Sample,
    *,
    values: dict[str, Any] | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int = 1,
    folder: Path | None = None,
    features_from: Sequence[Location] = (),
    seen: Progress = lambda done, total: None,
    judged: Progress = lambda done, total: None,
) -> Tuning:
    """Compare settings of fmwiss on a sample of a step's images.

    values: parameters in the place of the manifest's, as with `generate --set`. folder: where what the networks say is
    kept; a run that was stopped resumes from there. features_from: stores whose features stand for the images that
    they are of. seen: told of the images that the networks are through with.
    judged: told of the steps of the search, each of which takes about as long.
    Raises ParameterError without a folder; what `generate` raises for manifest, encoders and images.
    """
    import torch

    sources, here = _sources(manifest, step, dict(values or {}), seed), resolve_device(device)
    torch.set_num_threads(threads)
    sources = {words: _ready(source, features_from, here) for words, source in sources.items()}
    first = next(iter(sources.values()))
    plan = plan_for(manifest, step, first, sample.records, Options())
    scratch = Scratch(_place(manifest, step, folder), plan, sources, here, threads)
    with writing(scratch.folder, raises=StoreError, then="run the same command again, or give another --scratch"):
        scratch.see(seen)
    guesses = sample.kind == "nothing"

    def judge(chosen: Sequence[Setting]) -> "Judge":
        from .judging import Judge

        return Judge(chosen, sources, sample.classes, guesses=guesses)

    candidates, pulled = settings(first.params, tuple(sources)), () if guesses else levers(tuple(sources))
    found = search(scratch, sample, candidates, judge, levers=pulled, progress=judged)
    found.failed.update({plan.images[row].record.image_id: why for row, why in plan.images.problems.items()})
    _require_judged(found)
    tuning = Tuning(sample=sample, found=found, sources=sources, scratch=scratch)
    return tuning if guesses else dataclasses.replace(tuning, calibration=_calibration(tuning, manifest))


def _ready(source: FmwissSource, features_from: Sequence[Location], device: str) -> FmwissSource:
    """The source with its prompts encoded, and with the features of these stores, where there are any."""
    return (source.with_features_from(features_from) if features_from else source).prepare(device)


def _require_judged(found: Found) -> None:
    if not found.judged:
        why = next(iter(found.failed.values()), "none could be read")
        raise ManifestError(f"no image of the sample could be judged: {why}")


def _place(manifest: Manifest, step: int, folder: Path | None) -> Path:
    """Where what the networks say is kept. Raises ParameterError where there is no home for it."""
    place = folder or default_folder(manifest, step)
    if place is None:
        raise ParameterError("there is no home folder to keep the networks' answers in; name one with --scratch.")
    return place


def _calibration(tuning: Tuning, manifest: Manifest) -> "Calibration | None":
    from .calibrating import calibrate

    params = tuning.best.setting.params
    assert params is not None
    names = {identity: manifest.taxonomy.name_of(identity) for identity in tuning.sample.classes}
    return calibrate(tuning.scratch, tuning.sample, tuning.sources[params.words], params, names)


def _sources(manifest: Manifest, step: int, values: dict[str, Any], seed: int) -> dict[str, FmwissSource]:
    """The source as it is set now, then with the other sets of background words, where these are others."""
    present = FmwissSource.from_manifest(manifest, step, values, seed)
    if present.params.score != "text":
        raise ParameterError(
            "tune compares settings of score: text; leave score: gradcam out of it (--set score=text)."
        )
    if present.params.regions in OF_A_PASS:
        raise ParameterError(
            f"tune makes no regions: {present.params.regions}, which take networks; search without them (--set "
            "regions=none) and set them again."
        )
    sources: dict[str, FmwissSource] = {present.params.words: present}
    for words in ("own", "package", "both"):
        source = FmwissSource.from_manifest(manifest, step, {**values, "words": words}, seed)
        if source.background_words not in [other.background_words for other in sources.values()]:
            sources[words] = source
    return sources
