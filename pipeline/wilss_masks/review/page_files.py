"""The files of the page, which lie beside the code in the folder `page`."""

from importlib import resources

#: What is served, by name, and what it is; nothing else is ever read from the folder.
PAGE_FILES = {
    "index.html": "text/html",
    "app.css": "text/css",
    **{f"{name}.js": "text/javascript" for name in
       ("main", "server", "items", "gallery", "viewer", "stage", "tools", "masks", "history", "keys", "parts")},
}  # fmt: skip


def page_text(name: str) -> str:
    """One of the page's files."""
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")
