"""SVG as elements of an XML tree: what comes out is well-formed, and text in it is text, whatever it says."""

import re
from xml.etree import ElementTree

Element = ElementTree.Element

#: What XML 1.0 has no way to say.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(tag: str, *children: Element, **attributes: str | float) -> Element:
    """An element; `class_` is the attribute class, and `stroke_width` is stroke-width."""
    named = {name.rstrip("_").replace("_", "-"): _value(value) for name, value in attributes.items()}
    drawn = Element(tag, named)
    drawn.extend(children)
    return drawn


def text(words: str, **attributes: str | float) -> Element:
    """A text element."""
    drawn = element("text", **attributes)
    drawn.text = _NO_XML.sub("\ufffd", words)
    return drawn


def titled(drawn: Element, words: str) -> Element:
    """`drawn` with a title that shows under the pointer."""
    title = Element("title")
    title.text = _NO_XML.sub("\ufffd", words)
    drawn.insert(0, title)
    return drawn


def rect(x: str | float, y: str | float, width: str | float, height: str | float, **attributes: str | float) -> Element:
    """A rectangle."""
    return element("rect", x=x, y=y, width=width, height=height, **attributes)


def line(x1: str | float, y1: str | float, x2: str | float, y2: str | float, **attributes: str | float) -> Element:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def picture(label: str, *children: Element, **attributes: str | float) -> str:
    """The text of a whole <svg>; `label` is read out in its place."""
    root = element("svg", *children, role="img", **attributes)
    root.set("aria-label", _NO_XML.sub("\ufffd", label))
    return ElementTree.tostring(root, encoding="unicode")


def number(value: float) -> str:
    """A coordinate, to a hundredth."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _value(value: str | float) -> str:
    return _NO_XML.sub("\ufffd", value) if isinstance(value, str) else number(value)
