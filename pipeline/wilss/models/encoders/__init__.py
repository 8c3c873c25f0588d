"""Frozen foundation models: CLIP's dense image and text features, and a vision transformer's last attention.

Importing this package imports no torch; `clip` and `dino` do, when they are imported.
"""

from wilss.models.encoders.multiples import input_multiple
from wilss.models.encoders.weights import digest_of, identity_of

__all__ = ["digest_of", "identity_of", "input_multiple"]
