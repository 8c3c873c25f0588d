"""From a folder to a network and to what turns images into its inputs; offline, and whole or not at all."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wilss.disk import copied
from wilss.errors import WeightsError, WilssError, first_line
from wilss.models.encoders.arithmetic import Precision, precision_context, precision_for
from wilss.models.proposers.folders import NetworkFolder
from wilss.models.tensor_files import told

#: By model_type: names of tensors that transformers itself reads under others. It saves the tracker of a checkpoint for
#: video under this name twice (5.24), and reads it from there under the same name once.
_RENAMED = {"sam3_video": {r"^tracker_model\.tracker_model\.": "tracker_model."}}
_FAULTS = {"missing_keys": "missing", "unexpected_keys": "unexpected", "mismatched_keys": "of another shape"}


class OpenedNetwork:
    """A network that is only asked, on one device, with its image processor. side: of its square inputs, in pixels."""

    def __init__(self, folder: NetworkFolder, device: str, precision: Precision | None = None) -> None:
        self.folder, self.device = folder, torch.device(device)
        self.precision = precision_for(self.device, precision)
        with _silence():
            self.network: Any = _network(folder).to(self.device).eval().requires_grad_(False)
            self.processor: Any = _from_folder(folder, folder.processor_class, folder.small_files)
        self.side = _side(self.network.config)

    def inputs(self, images: Sequence[Tensor], **options: Any) -> Tensor:
        """Images uint8 [3, H, W] of any sizes as float32 [B, 3, side, side], on the CPU. options: of the processor."""
        values: Tensor = self.processor(images=list(images), return_tensors="pt", **options).pixel_values
        if tuple(values.shape[-2:]) != (self.side, self.side):
            raise WeightsError(
                f"{self.folder.path}: its processor makes images of {values.shape[-1]} x {values.shape[-2]}, and its "
                f"network was built for {self.side} x {self.side}; copy both from one place."
            )
        return values

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """No gradients, and the precision of the forward passes."""
        with torch.inference_mode(), precision_context(self.device, self.precision):
            yield


def tokenizer_of(folder: NetworkFolder) -> Any:
    """The tokenizer of a network that is asked by words."""
    with _silence():
        return _from_folder(folder, "AutoTokenizer", folder.small_files, trust_remote_code=False)


def _network(folder: NetworkFolder) -> nn.Module:
    """The network with all its weights. Raises WeightsError where they are not those of the config."""
    how: dict[str, Any] = {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    if folder.way == "points" and folder.model_type in _RENAMED:
        how["key_mapping"] = _RENAMED[folder.model_type]
    network, report = _from_folder(folder, folder.network_class, folder.files, **how)
    if faults := {kind: sorted(map(str, report[key])) for key, kind in _FAULTS.items() if report[key]}:
        raise WeightsError(f"{folder.path}: its weights do not fit its config.json: {told(faults)}; copy both again.")
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise WeightsError(f"{folder.path} has NaN or infinite values in {name}; copy the weights again.")
    return network  # type: ignore[no-any-return]


def _from_folder(folder: NetworkFolder, name: str, files: Sequence[str], **options: Any) -> Any:
    """`from_pretrained` of the class of this name, which reads these files.

    Raises WeightsError with the reason that transformers gives.
    """
    import transformers

    try:
        kind = getattr(transformers, name)
        with copied(folder.path, files) as place:
            return kind.from_pretrained(str(place), local_files_only=True, **options)
    except WilssError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise what they like
        raise WeightsError(
            f"transformers cannot read {name} from {folder.path} ({first_line(error)}); copy the whole folder again."
        ) from error


def _side(config: Any) -> int:
    """Of the images that the network was built for."""
    inner = getattr(config, "detector_config", None) or config
    inner = getattr(inner, "prompt_encoder_config", inner)
    side = inner.image_size
    return int(side if isinstance(side, int) else side[0])


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No bars and no warnings of transformers: what is wrong is said by us, in a sentence."""
    from transformers import utils

    logging: Any = utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
