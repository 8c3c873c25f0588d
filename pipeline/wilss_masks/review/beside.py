"""What was said of a store and is not in it."""

from wilss.errors import StoreError, counted
from wilss.store import MaskStore
from wilss.store.review_folder import folder_beside, is_of

from .journal import Journal


def verdicts_beside(store: MaskStore) -> str:
    """A sentence about the verdicts in the review beside a store; empty where there are none of this very store."""
    folder = folder_beside(store.path)
    if not store.is_complete:  # nobody can have judged it
        return ""
    try:
        said = len(Journal.open(store.path, folder).latest()) if is_of(folder, store) else 0
    except StoreError as error:
        return str(error)
    if not said:
        return ""
    return (
        f"{folder} has {counted(said, 'verdict')} that this store does not hold; make a store with them by "
        f"`wilss-masks revise {store.path}` first."
    )
