"""The built-in data set: friendly things on cluttered grounds, drawn in code. Needs numpy and Pillow only."""

from wilss.data.shapes.drawing import Drawing, Style, draw
from wilss.data.shapes.outlines import CLASS_NAMES
from wilss.data.shapes.voc import write_voc

__all__ = ["CLASS_NAMES", "Drawing", "Style", "draw", "write_voc"]
