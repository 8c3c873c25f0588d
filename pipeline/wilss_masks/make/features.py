"""Features that a run keeps, and those that stand for images: settled before the first shard is made."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from wilss.data.layouts import ImageRecord, Records
from wilss.disk import Location
from wilss.errors import ParameterError, counted
from wilss.models.devices import resolve_device
from wilss.store import MaskStore
from wilss.store.features import kept_bases

from ..sources.bank import BankSource
from ..sources.base import ImageTask, MaskSource
from ..sources.features.fitting import SAMPLE, FittedFeatures, fitted, most_patches
from ..sources.features.identity import FEATURES_KEY, require_keepable
from ..sources.features.kept_in import without_features
from ..sources.fmwiss import FmwissSource
from ..sources.shots import ShotsSource
from .options import Options
from .plan import MaskPlan


def require_keepable_features(source: MaskSource, options: Options) -> None:
    """Raise ParameterError where features are to be kept of which nothing could be made, or that are kept already."""
    if not options.keep_features:
        return
    keeping = _keeping(source)
    require_keepable(keeping)
    if keeping.features_from:
        raise ParameterError(
            "--keep features and --features-from: the features are kept already, where they are read; leave one out."
        )


def features_of(source: MaskSource, options: Options) -> dict[str, Any]:
    """What a store notes of the features that it keeps; nothing where it keeps none.

    Raises what `require_keepable_features` raises.
    """
    if not options.keep_features:
        return {}
    require_keepable_features(source, options)
    own = _keeping(source).features_identity()
    fit = {"sample": SAMPLE} if options.feature_projection == "pca" else {}
    more = {"parts": list(options.feature_parts)} if options.feature_parts else {}
    kept = {"dims": options.feature_dims, "projection": options.feature_projection}
    return {FEATURES_KEY: {**own, **kept, **more, **fit}}


def kept_options(store: MaskStore, options: Options) -> Options:
    """A store that keeps features is resumed as it was begun, also when nobody asks for features again."""
    noted = store.attributes.get(FEATURES_KEY)
    if options.keep_features or not isinstance(noted, dict):
        return options
    return dataclasses.replace(
        options,
        keep_features=True,
        feature_dims=noted["dims"],
        feature_projection=noted["projection"],
        feature_parts=tuple(noted.get("parts", ())),
    )


def with_feature_parts(source: MaskSource, options: Options) -> MaskSource:
    """The source, asking the ViT for what shall be kept beside what its own masks need."""
    if not (options.keep_features and options.feature_parts):
        return source
    return dataclasses.replace(_keeping(source), keeps_parts=options.feature_parts)


def with_features_from(
    source: MaskSource, paths: Sequence[Location], records: Sequence[ImageRecord], tell: Callable[[str], None]
) -> MaskSource:
    """The source, with features in these stores in the place of images; tells how many images have none.

    Raises StoreError for a store whose features are not those of the source.
    """
    if not isinstance(source, FmwissSource | BankSource | ShotsSource):
        raise ParameterError(_refusal(source))
    source = source.with_features_from(paths)
    stores = source.features_from
    if missing := without_features(stores, Records.of(records).ids()):
        tell(
            f"{counted(missing, 'image')} of {len(records)} {'has' if missing == 1 else 'have'} no features in "
            f"{', '.join(map(str, paths))}; {'it is' if missing == 1 else 'they are'} decoded and encoded as usual"
        )
    if isinstance(source, FmwissSource) and source.params.placing == "drawn":
        tell(
            "placing: drawn takes seeds among the patches above the threshold, of which kept features may have one "
            "more or less: others are drawn then, as with another --seed"
        )
    return source


def planned_features(
    plan: MaskPlan,
    existing: MaskStore | None,
    source: MaskSource,
    options: Options,
    tell: Callable[[str], None],
) -> MaskPlan:
    """The plan with what its store keeps of features: as an existing store has it, else fitted now, in this process."""
    if not options.keep_features:
        return plan
    if existing is not None and existing.layout.features:
        found = _as_there(plan, existing)
    else:
        found = _fitted(plan, _keeping(source), options, tell)
    return dataclasses.replace(plan, layout=dataclasses.replace(plan.layout, features=found.layouts), bases=found.bases)


def _keeping(source: MaskSource) -> FmwissSource:
    if not isinstance(source, FmwissSource):
        raise ParameterError(_refusal(source))
    return source


def _refusal(source: MaskSource) -> str:
    return f"{source.name} keeps no features: {_WHY_NOT.get(source.name, _OTHER)}."


_OTHER = "its masks do not come from dense features of the manifest's encoders"
_WHY_NOT = {
    "bank": "it reads those that a store of fmwiss keeps, with --features-from",
    "annotation": "its masks are the pixel labels themselves",
    "cam": "its classifier is trained on the images, and its maps need the gradient of a pass",
    "insid3": "it reads those that a store of fmwiss keeps, with --features-from",
    "panet": "it reads those that a store of fmwiss keeps, with --features-from",
    "pseudoseg": "its masks come from a trained checkpoint that looks at the images",
    "sam3": "its network is told the classes while it looks at an image",
}


def _as_there(plan: MaskPlan, store: MaskStore) -> FittedFeatures:
    """As the store has them, with room for the plan's images."""
    most = most_patches(plan.grids.values())
    layouts = tuple(
        dataclasses.replace(layout, tokens=layout.prefix + most[layout.name]) for layout in store.layout.features
    )
    return FittedFeatures(layouts=layouts, bases=kept_bases(store))


def _fitted(plan: MaskPlan, source: FmwissSource, options: Options, tell: Callable[[str], None]) -> FittedFeatures:
    device = resolve_device("auto" if options.cluster.is_elsewhere else options.device)
    tasks: list[ImageTask] = [task for task in plan.images if task.categories and task.problem is None]
    if options.feature_projection == "pca":
        tell(f"features: a projection is fitted on {counted(min(SAMPLE, len(tasks)), 'image')} first")
    return fitted(
        source.prepare(device).open_networks(device, options.threads),
        tasks,
        list(plan.grids.values()),
        dims=options.feature_dims,
        projection=options.feature_projection,
        seed=source.seed,
    )
