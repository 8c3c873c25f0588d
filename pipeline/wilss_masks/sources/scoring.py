"""How images score for their tags: what each patch says, or Grad-CAM of what the whole image says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .base import ImageTask
from .placing import MapMaker

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.models.encoders.both import Both
    from wilss.models.encoders.clip.encoder import DenseClip
    from wilss.models.encoders.vit.trunks import State

    from .fmwiss import FmwissSource


class Scorer:
    """What CLIP says of a batch, and the scores that its images get by that.

    text: unit features [M, D] of all prompts: of the source's classes in their order, then of its background words; as
    many a class as `source.name_counts` says.
    """

    def __init__(self, source: "FmwissSource", clip: "DenseClip", text: "Tensor", maker: MapMaker) -> None:
        self._source, self._clip, self._text, self._maker = source, clip, text, maker

    def told(self, images: "Tensor", proxy: "Tensor | None") -> "Tensor | State":
        """Dense features [B, D, h, w], or for Grad-CAM what CLIP's last block is given.

        images: uint8 [B, 3, H, W]; proxy: for that form of the features, see `DenseClip.features`.
        """
        params = self._source.params
        if params.score == "gradcam":
            return self._clip.before_last(images)
        if not params.window:
            return self._clip.features(images, proxy)
        from wilss.models.encoders.clip.windows import Windows, features_by_windows

        windows = Windows(size=params.window, stride=params.window_stride or params.window // 2)
        return features_by_windows(self._clip, images, windows, proxy)

    def told_of(self, both: "Both", state: "State", images: "Tensor", proxy: "Tensor | None") -> "Tensor | State":
        """The same, where what the last block is given is known, so that an image is encoded once but for windows."""
        params = self._source.params
        if params.window:
            return self.told(images, proxy)
        return state if params.score == "gradcam" else both.features(state, proxy)

    def scores(self, tasks: Sequence[ImageTask], told: "Tensor | State") -> "list[Tensor]":
        """The scores float32 [T, h, w] of each image's tags. told: of these images."""
        import torch

        if not isinstance(told, torch.Tensor):
            return [self._by_gradient(told, i, task.categories) for i, task in enumerate(tasks)]
        tags, words = similarity_of(told, self._text, self._source)
        own = (torch.stack([tags[i, category] for category in task.categories]) for i, task in enumerate(tasks))
        return [self._maker.score(one, words[i]) for i, one in enumerate(own)]

    def _by_gradient(self, state: "State", image: int, categories: tuple[int, ...]) -> "Tensor":
        import torch

        from wilss.models.encoders.clip.gradcam import gradcam

        classes, counts = len(self._source.classes), self._source.name_counts
        wanted = [*categories, *range(classes, len(counts))]
        by_word = torch.split(self._text, list(counts))
        text = torch.cat([by_word[word] for word in wanted])
        return gradcam(self._clip, state, image, text, [counts[word] for word in wanted], len(categories))


def similarity_of(features: "Tensor", text: "Tensor", source: "FmwissSource") -> "tuple[Tensor, Tensor]":
    """Cosines of patches with a source's classes [B, C, h, w] and its background words [B, G, h, w].

    features: [B, D, h, w]; text: as for `Scorer`.
    """
    from wilss.equations.kernels import score_map

    return of_tags_and_words(score_map(features, text), source)


def of_tags_and_words(similarity: "Tensor", source: "FmwissSource") -> "tuple[Tensor, Tensor]":
    """The same of the cosines [B, M, h, w] with all prompts."""
    from wilss.equations.gradcam import greatest_of_names

    if source.params.synonyms == "greatest":
        similarity = greatest_of_names(similarity, source.name_counts)
    return similarity[:, : len(source.classes)], similarity[:, len(source.classes) :]
