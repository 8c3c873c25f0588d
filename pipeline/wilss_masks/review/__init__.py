"""People judge and correct the masks of a store: what they said, and where that is kept, beside the sealed store."""

from wilss.store.verdicts import VERDICTS, Verdict

from .corrections import Correction
from .journal import Event, Journal

__all__ = ["VERDICTS", "Correction", "Event", "Journal", "Verdict"]
