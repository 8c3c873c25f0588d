"""What a student learns from masks, a frozen dataclass each; `fit` is handed one and knows none by name."""

from collections.abc import Mapping

from .base import Method
from .distill import Distill
from .finetune import Finetune
from .fmwiss import Fmwiss
from .mib import Mib
from .panet import Panet
from .plop import Plop
from .pseudoseg import Pseudoseg
from .unimatch import Unimatch
from .wilson import Wilson

__all__ = ["METHODS", "Method"]

METHODS: Mapping[str, type[Method]] = {
    "fmwiss": Fmwiss,
    "finetune": Finetune,
    "distill": Distill,
    "wilson": Wilson,
    "mib": Mib,
    "plop": Plop,
    "pseudoseg": Pseudoseg,
    "unimatch": Unimatch,
    "panet": Panet,
}
