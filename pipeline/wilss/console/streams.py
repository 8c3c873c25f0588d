"""Standard streams that are there, and that show text: nothing that is printed can steer a terminal.

Names of images and classes, and what a store or a checkpoint says of itself, come from files of other people. An
escape sequence among them could clear a screen, hide a line or rename a window.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

#: C0 but for tab and line feed, C1, and the marks that turn the direction of text.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_STEERING_BYTES = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]")
_RETURN = "\r"
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed_streams() -> None:
    """Where standard streams were closed by whoever began this process, open them on nothing.

    Else the next file that is opened gets their number, and what a library or a child prints lands inside it.
    """
    for number in range(len(_STREAMS)):
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            os.set_inheritable(number, True)
    for name, mode in _STREAMS:
        if getattr(sys, name) is None:  # its number may be somebody else's file by now
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we run


@contextlib.contextmanager
def plain_streams() -> Iterator[None]:
    """Within, standard output and error show a mark in the place of every character that could steer a terminal."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Plain(before[0], keep=""), _Plain(before[1], keep=_RETURN)  # a progress bar returns
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Plain:
    """A text stream, and the bytes below it, without what steers; in all else the stream that it is made from.

    keep: a character that may pass.
    """

    def __init__(self, stream: Any, keep: str) -> None:
        self._stream, self._keep = stream, keep

    def write(self, text: Any) -> Any:
        mark = "\N{REPLACEMENT CHARACTER}" if _can_show_mark(self._stream) else "?"
        if isinstance(text, str):
            return self._stream.write(_STEERING.sub(lambda found: self._instead(found[0], mark), text))
        return self._stream.write(
            _STEERING_BYTES.sub(lambda found: self._instead(found[0].decode(), mark).encode(), bytes(text))
        )

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    @property
    def buffer(self) -> "_Plain":
        return _Plain(self._stream.buffer, self._keep)

    def _instead(self, found: str, mark: str) -> str:
        return found if found == self._keep else mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _can_show_mark(stream: Any) -> bool:
    return "utf" in str(getattr(stream, "encoding", None) or "").lower()
