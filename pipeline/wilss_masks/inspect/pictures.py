"""The images of a store once more, for the stages that look at them: as they were when its maps were made, or not."""

from collections.abc import Mapping

import torch
from torch import Tensor

from wilss.data.contents import UNKNOWN, content_of
from wilss.data.images import read_image
from wilss.data.layouts import ImageRecord
from wilss.errors import ImageError
from wilss.store import MaskStore

from ..stages.chain import stage_picture
from ..stages.params import StageParams
from ..stages.regions import stage_regions


class StagePictures:
    """Reads the images of a store at the size of the stages; several threads may ask at once.

    records: by image id; they may be none where the stages of `params` look at no image.
    """

    def __init__(self, store: MaskStore, records: Mapping[str, ImageRecord], params: StageParams) -> None:
        self._store, self._records, self._params = store, records, params
        self._heights, self._widths = store.vector("height"), store.vector("width")
        self._contents = store.vector("content") if store.layout.has_content else None

    def __call__(self, row: int) -> Tensor | None:
        """The image at `row` as the stages take it, uint8 [3, h, w]; None where none of them looks at it.

        Raises ImageError where it cannot be read, and where it is another one than the maps were made of.
        """
        if not self._params.needs_picture:
            return None
        record = self._records[self._store.image_ids[row]]
        noted = UNKNOWN if self._contents is None else int(self._contents[row])
        now = content_of(record, "images") if noted != UNKNOWN else UNKNOWN  # first: it may be replaced meanwhile
        image = torch.from_numpy(read_image(record.path, record.bits)).permute(2, 0, 1)
        shape = int(self._heights[row]), int(self._widths[row])
        if now != noted or (image.shape[-2], image.shape[-1]) != shape:
            raise ImageError(
                f"{record.path} is not the image that the maps of {self._store.path.name} were made of; bring it back, "
                f"or make the masks again with `wilss-masks generate --step {self._store.step} --update`."
            )
        return stage_picture(image, self._params)

    def regions(self, row: int, picture: Tensor | None) -> Tensor | None:
        """The regions of that picture, see `stage_regions`. Raises ImageError for a file of others."""
        if picture is None:
            return None
        record = self._records[self._store.image_ids[row]]
        return stage_regions(record, int(self._heights[row]), int(self._widths[row]), picture, self._params)
