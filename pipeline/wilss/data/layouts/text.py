"""How many things are told in a sentence."""

from collections.abc import Sequence

__all__ = ["some"]


def some(names: Sequence[str], most: int = 5) -> str:
    """A few of many names: "3 images (a, b, c)", "1 image (a)", "9 images (a, b, c, d, e, ...)"."""
    listed = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} image{'s' if len(names) != 1 else ''} ({listed})"
