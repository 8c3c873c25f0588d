"""The memory bank: a few instances per class, archived after a step for copy-paste in later ones (FMWISS Sec. 3.4)."""

from .bank import MemoryBank
from .fill import fill
from .writing import Instance, InstanceInfo

__all__ = ["Instance", "InstanceInfo", "MemoryBank", "fill"]
