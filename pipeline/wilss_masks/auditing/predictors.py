"""What a trained network says of images: a run's own network, or the label maps that it or another one wrote."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from wilss.data.images import normalise, read_image, read_palette_label, to_pixels
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import Manifest
from wilss.equations.label_errors import presence
from wilss.errors import CheckpointError, ManifestError
from wilss.models.networks.checkpoint import CheckpointInfo, load_segmenter, read_info

from .evidence import SHARE, Prediction, Predictor

_MODEL = "model.safetensors"


def predictor_of(path: Path, manifest: Manifest, class_ids: Sequence[int], device: str = "cpu") -> Predictor:
    """For a run of `wilss-train`, its model.safetensors, or a folder of label maps named by image ids (PNG).

    class_ids: that the maps of a folder speak of. Raises CheckpointError, also for a network that means other classes
    by these ids, and ManifestError for a folder without label maps.
    """
    if path.suffix == ".safetensors" or (path / _MODEL).is_file():
        network = NetworkPredictor(path, device)
        _require_same_classes(network.info, manifest, class_ids)
        return network
    if not path.is_dir():
        raise ManifestError(f"{path} is neither a run of wilss-train nor a folder of label maps; check --predictions.")
    return FolderPredictor(path, class_ids)


def _require_same_classes(info: CheckpointInfo, manifest: Manifest, class_ids: Sequence[int]) -> None:
    """Raise CheckpointError where ids stand for other classes in the checkpoint than in the manifest."""
    theirs = info.protocol.taxonomy
    for identity in set(class_ids) & set(info.seen):
        if theirs.name_of(identity) != manifest.taxonomy.name_of(identity):
            raise CheckpointError(
                f"{info.path} takes class {identity} for {theirs.name_of(identity)!r}, and {manifest.path} for "
                f"{manifest.taxonomy.name_of(identity)!r}; give the network of this manifest's classes."
            )


class NetworkPredictor:
    """A segmenter of `wilss-train`; a class is as present as the channels' softmax says where that is greatest."""

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.name = str(path)
        self.info, self._device = read_info(path), device
        self._segmenter = load_segmenter(self.info, device)

    @torch.inference_mode()
    def __call__(self, record: ImageRecord) -> Prediction:
        """Of the image at its own size. Raises ImageError."""
        image = torch.from_numpy(read_image(record.path, record.bits)).permute(2, 0, 1)[None].to(self._device)
        logits = self._segmenter(normalise(image, self.info.mean, self.info.std).contiguous())[0].float()
        ids, shares = self.info.seen, presence(logits.softmax(dim=0).cpu().numpy(), SHARE)
        labels = to_pixels(logits, int(image.shape[-2]), int(image.shape[-1])).argmax(dim=0).cpu().numpy()
        present = {identity: float(share) for identity, share in zip(ids, shares, strict=True) if identity}
        return Prediction(np.array(ids, np.uint8)[labels], present)


class FolderPredictor:
    """Label maps in PNGs that are called as the images are; a class is as present as it covers of `SHARE`."""

    def __init__(self, folder: Path, class_ids: Sequence[int]) -> None:
        self.name, self._folder, self._ids = str(folder), folder, tuple(class_ids)
        if next(folder.rglob("*.png"), None) is None:
            raise ManifestError(
                f"{folder} holds no label maps (PNG); write some with `wilss-predict RUN IMAGES --out {folder}`."
            )

    def __call__(self, record: ImageRecord) -> Prediction | None:
        """None where no map has the image's name. Raises ImageError for one that cannot be read."""
        path = self._folder / f"{record.image_id}.png"
        if not path.is_file():
            path = self._folder / f"{record.path.stem}.png"
        if not path.is_file():
            return None
        labels = read_palette_label(path)
        whole = SHARE * labels.size
        shares = np.bincount(labels.ravel(), minlength=256) / max(whole, 1)
        return Prediction(labels, {identity: float(min(1.0, shares[identity])) for identity in self._ids})
