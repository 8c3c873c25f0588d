"""The second verb: a mask store in, a checkpoint and a report out.

wilss_train.train("masks/shapes-15-5/step-0.zarr", manifest="data_manifest.yaml")
model = wilss_train.load_model("runs/shapes-15-5/step-0")
labels = model.predict("photo.jpg")  # uint8 [H, W], ids of model.classes
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.mask_dataset import MaskDataset
    from .params import TrainParams
    from .results.model import Model, load_model
    from .results.report.log import Progress
    from .run.fit import Stopped
    from .run.train import Options, Summary, train

_HOMES = {
    "MaskDataset": "data.mask_dataset",
    "Model": "results.model",
    "Options": "run.train",
    "Progress": "results.report.log",
    "Stopped": "run.fit",
    "Summary": "run.train",
    "TrainParams": "params",
    "load_model": "results.model",
    "train": "run.train",
}
__all__ = ["MaskDataset", "Model", "Options", "Progress", "Stopped", "Summary", "TrainParams", "load_model", "train"]


def __getattr__(name: str) -> Any:
    """Load what is asked for, so that importing wilss_train costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, and no module that happens to be loaded."""
    return __all__
