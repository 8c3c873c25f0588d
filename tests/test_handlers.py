"""What handlers catch, read from the sources: a server that does not answer must not pass for the fault of one image.

`UnreachableError` is a WilssError and a StoreError, so whoever catches these of a single image leaves the image out of
the run though nobody knows anything of it. Such a handler catches `OneImageError`, which nothing of the whole is.
"""

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from tests.test_imports import PACKAGES
from wilss.data.images import read_image
from wilss.data.layouts.lists import load_array
from wilss.disk import UrlPath
from wilss.disk.urls import fetching
from wilss.errors import ImageError, MasksError, OneImageError, StoreError, SupportError, UnreachableError, WilssError

#: Functions in which a wide handler is right, since what failed there is the whole, or no image at all, each once for
#: every such handler in it.
OF_THE_WHOLE = [
    "wilss/data/layouts/kept_numbers.py:KeptNumbers.save",
    "wilss/data/manifest/lock.py:record_hub_digest",
    "wilss/data/manifest/overlap.py:told_overlap",  # lists that whoever judges need not have
    "wilss/disk/object_lock.py:_Holder.beat",
    "wilss/disk/object_lock.py:_Holder.release",
    "wilss/models/networks/checkpoint.py:read_info",
    "wilss/store/collecting.py:seal_parts",
    "wilss/store/parts.py:StoreParts._is_open",
    "wilss/store/records.py:_protocol_of",  # what a store notes, which was read before
    "wilss/store/review_folder.py:judged_beside",
    "wilss/store/row_state.py:RowStates.consistently",  # which raises it
    "wilss/store/store.py:MaskStore._fetch",  # ahead of a reader, who is told
    "wilss_masks/commands/audit.py:command",
    "wilss_masks/commands/making/outcome.py:stopped",
    "wilss_masks/make/generate.py:_keep_stamps",
    "wilss_masks/review/beside.py:verdicts_beside",
    "wilss_masks/review/compared.py:Comparison._run",
    "wilss_masks/review/server.py:_answer.endpoint",
    "wilss_masks/review/server.py:_answer.endpoint",
    "wilss_masks/review/server.py:_said.endpoint",
    "wilss_masks/sources/section.py:_on_disk",
]
WIDE = {"WilssError", "StoreError", "UnreachableError"}


def wide_handlers() -> Iterator[str]:
    """`file:class.function` of a handler that catches what may be of the whole and does more than to let it pass."""
    for package, root in PACKAGES.items():
        for path in root.rglob("*.py"):
            name = f"{package}/{path.relative_to(root)}"
            for function, body in _functions(ast.parse(path.read_text(encoding="utf-8"))):
                yield from [f"{name}:{function}"] * sum(map(_is_wide, _own(body)))


def _functions(node: ast.AST, *outer: str) -> Iterator[tuple[str, ast.AST]]:
    """All functions within a node, by their names behind those of what they stand in."""
    for child in ast.iter_child_nodes(node):
        names = outer
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = (*outer, child.name)
            if not isinstance(child, ast.ClassDef):
                yield ".".join(names), child
        yield from _functions(child, *names)


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            yield from _own(node)


def _is_wide(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(WIDE & _names(argument) for argument in node.args)
    if not isinstance(node, ast.ExceptHandler) or node.type is None or not WIDE & _names(node.type):
        return False
    return ast.unparse(node.body[0]) != "raise" or "UnreachableError" in _names(node.type)


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def test_only_handlers_of_the_whole_catch_what_may_be_of_the_whole() -> None:
    assert sorted(wide_handlers()) == OF_THE_WHOLE


def test_what_is_of_one_image_is_caught_under_every_name_that_it_had() -> None:
    for error, also in ((ImageError, WilssError), (MasksError, StoreError), (SupportError, WilssError)):
        assert issubclass(error, OneImageError)
        assert issubclass(error, also)
    assert not issubclass(UnreachableError, OneImageError)


@pytest.mark.parametrize("read", [read_image, load_array])
def test_a_file_whose_server_does_not_answer_is_not_damaged(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswered(url: object) -> None:
        raise UnreachableError(f"{url} cannot be read (the server does not answer)")

    for name in ("read", "read_kept", "opened"):
        monkeypatch.setattr(fetching, name, unanswered)
    with pytest.raises(UnreachableError):
        read(UrlPath("s3://bucket/file"))
