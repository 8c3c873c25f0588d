"""Parameters of the stages between evidence and masks. torch is not needed to read them."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from wilss.params import Params, Rule

Side = Annotated[int, Rule("between 16 and 16384", lambda value: 16 <= value <= 16384)]


@dataclass(frozen=True, kw_only=True)
class StageParams(Params):
    """Which stages there are; each is off by default, as in the papers.

    classes: `overlap`, every tag for itself against the background, or `compete`: a pixel goes to the strongest.
    stage_size: longer side in pixels at which regions and boundaries are looked for; no image is made larger.
    """

    classes: Literal["overlap", "compete"] = "overlap"
    stage_size: Side = 512

    @property
    def has_stages(self) -> bool:
        """Whether anything but the method's own masks is asked for."""
        return self.classes != "overlap" or self.needs_picture

    @property
    def needs_picture(self) -> bool:
        """Whether a stage looks at the image itself."""
        return False


def noted(params: Any, always: Collection[str]) -> dict[str, Any]:
    """Parameters as a store notes them: those of `always`, and of the others what is not at its default.

    So a store that was made before there was a parameter says what one says today that leaves it off.
    """
    defaults = type(params)()
    values = dataclasses.asdict(params)
    return {name: value for name, value in values.items() if name in always or value != getattr(defaults, name)}
