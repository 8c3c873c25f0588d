"""INSID3 with its encoder: clusters of an image's patches, and the masks that they become."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wilss.data.images import to_pixels

from .base import ImageTask
from .shots import content_of

if TYPE_CHECKING:
    from torch import Tensor

    from wilss.store import ImageContent

    from .insid3 import Insid3Source


class Insid3Proposer:
    """`Insid3Source` with its encoder loaded on one device."""

    def __init__(self, source: "Insid3Source", device: str) -> None:
        import torch

        self.source, self.device = source, device
        self.embedding = source.encoder.open(device)
        self.grouping = None if source.grouping is None else source.grouping.open(device)
        self.kept = source.encoder.patches(device)
        self.kept_groups = None if source.grouping is None else source.grouping.patches(device)
        self.basis, self.prototypes = (torch.from_numpy(one).to(device) for one in (source.basis, source.prototypes))
        self.shown = [
            (torch.from_numpy(one.features).to(device), torch.from_numpy(one.labels).to(device), one.classes)
            for one in source.shown
        ]

    def load(self, task: ImageTask) -> "tuple[Tensor, Tensor | None]":
        """The image as the encoders' inputs, uint8 [3, H, W] each, or kept features; None for one that is not asked."""
        more = self.source.grouping
        kept, groups = (None if one is None else one.read(task) for one in (self.kept, self.kept_groups))
        if groups is None and more is not None:
            groups = more.load(task.record)
        return self.source.encoder.load(task.record) if kept is None else kept, groups

    def propose(
        self, tasks: Sequence[ImageTask], loaded: "Sequence[tuple[Tensor, Tensor | None]]"
    ) -> "list[ImageContent]":
        """One forward pass for the batch, then each image by itself."""
        import torch

        from .features.patches import embedded

        with torch.inference_mode():
            features = embedded(self.embedding, [one for one, _ in loaded])
            plain = [self._plain(one, more) for one, (_, more) in zip(features, loaded, strict=True)]
            return [self._one(task, features[row], plain[row]) for row, task in enumerate(tasks)]

    def _plain(self, features: "Tensor", image: "Tensor | None") -> "Tensor":
        """What is clustered, at unit length, [D', L]: the encoder's features or another's, on the grid of the first."""
        import torch

        from wilss.equations.kernels import unit

        from .features.patches import embedded

        if self.grouping is not None and image is not None:
            others = embedded(self.grouping, [image])[0][None]
            features = torch.nn.functional.interpolate(others, features.shape[-2:], mode="bilinear")[0]
        return unit(features.flatten(1), dim=0)

    def _one(self, task: ImageTask, features: "Tensor", plain: "Tensor") -> "ImageContent":
        """features: [D, h, w]; plain: [D', L]. Patches are labelled, and labels upsampled, as in the paper."""
        import torch

        from wilss.equations import fmwiss, insid3
        from wilss.equations.kernels import first_greatest

        grid = features.shape[-2:]
        scores = self.scores(features, plain, task.categories)
        labels = insid3.patch_labels(scores, self.source.params.least)
        each = torch.nn.functional.one_hot(labels, 1 + len(scores)).T.reshape(-1, *grid).to(scores.dtype)
        written = first_greatest(to_pixels(each, task.height, task.width))
        masks = written == torch.arange(1, 1 + len(scores), device=written.device)[:, None, None]
        soft = scores.clamp(0, 1).reshape(-1, *grid)
        confidence = fmwiss.confidence(to_pixels(soft, task.height, task.width), masks)
        self.source.put_own(task, masks, confidence)
        return content_of(task.categories, masks, confidence, soft.half())

    def scores(self, features: "Tensor", plain: "Tensor", categories: Sequence[int]) -> "Tensor":
        """How much every patch's cluster belongs to each of these categories, [T, L].

        features: [D, h, w]; plain: [D', L], what is clustered.
        """
        import torch

        from wilss.equations import insid3

        params = self.source.params
        clean = insid3.debiased(features, self.basis).flatten(1)
        found = [insid3.nearest(clean, patches) for patches, _, _ in self.shown]
        cosines = torch.stack([one for one, _ in found])
        seen = torch.stack([labels[at] for (_, labels, _), (_, at) in zip(self.shown, found, strict=True)])
        numbers = insid3.clusters(plain, params.tau).to(plain.device)
        won = insid3.winners(cosines, seen) if params.rivals else None
        maps = []
        for position in categories:
            alike = self.prototypes[position] @ clean
            own = [row for row, (_, _, classes) in enumerate(self.shown) if position in classes]
            backward = seen[own] if won is None else won[None]
            candidates = insid3.candidates(insid3.similar(alike), backward == 1 + position)
            if params.is_there:
                found_in = insid3.cluster_scores(alike, candidates, plain, numbers)
            else:
                found_in = insid3.cluster_shares(alike, candidates, numbers)
            maps.append(found_in[numbers])
        return torch.stack(maps)
