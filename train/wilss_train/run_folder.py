"""A run's folder: what was asked for, what came of it, and whether a second call may resume it.

    runs/<manifest>/step-<t>/  run.json  log.jsonl  state/  memory.zarr  model.safetensors  report.json  report.html

Everything that decides the outcome stands in run.json. A run that was stopped is resumed only where all of it is equal.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from wilss.disk import make_folder, remove_tree, sweep_partials, unlink, write_atomically, writing
from wilss.errors import CheckpointError
from wilss.models.networks.checkpoint_header import MODEL_FILE
from wilss.models.networks.labeller_file import LABELLER_FILE
from wilss.params import differences, shortened

CURVES, MEMORY, RUN_FILE, STATES = "tensorboard", "memory.zarr", "run.json", "state"
_DONE, _ABOUT = "done.json", "about"
_MOST_SHOWN = 4

Renew = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def prepare(
    folder: Path,
    identity: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    *,
    resume: bool,
    overwrite: bool,
    renew: Renew = lambda former: former,
) -> bool:
    """Make `folder` ready for a run; True where there is one to resume (or one that is complete).

    about: what a reader of run.json wants to know besides; two runs may differ in it.
    renew: makes of the identity that is there what it would be today; a CheckpointError of it is a reason to refuse.

    Raises CheckpointError where a run is there and neither `resume` nor `overwrite` was asked for, or where it was
    started with something else (naming the difference). One that has saved nothing yet is started again.
    """
    with writing_to(folder):
        sweep_partials(folder)
    former = _identity_of(folder, readable=not overwrite)
    if former is None or overwrite or not _has_saved(folder):
        with writing_to(folder / RUN_FILE):
            _clear(folder)
            text = json.dumps({**identity, _ABOUT: dict(about or {})}, indent=2, sort_keys=True) + "\n"
            write_atomically(folder / RUN_FILE, text.encode())
        return False
    if phrases := _differences(former, json.loads(json.dumps(identity)), renew):
        shown = "; ".join(phrases[:_MOST_SHOWN]) + ("; ..." if len(phrases) > _MOST_SHOWN else "")
        raise CheckpointError(
            f"{folder} holds a run that was started otherwise: {shown}. Give another --out, or start again with "
            "--overwrite."
        )
    if not resume and not is_complete(folder):
        raise CheckpointError(
            f"{folder} holds a run that is not finished; resume it with --resume, or start again with --overwrite."
        )
    return True


def is_complete(folder: Path) -> bool:
    """Whether the run came to its end, report included."""
    return (folder / _DONE).exists()


def mark_complete(folder: Path) -> None:
    """Say so, last of all."""
    with writing_to(folder / _DONE):
        write_atomically(folder / _DONE, b"{}\n")


def writing_to(path: Path) -> AbstractContextManager[None]:
    """Turn the errors of a full or forbidden disk into a CheckpointError that says how to resume."""
    resume = "run the same command with --resume: what was saved before is kept"
    return writing(path, raises=CheckpointError, then=resume)


def _identity_of(folder: Path, *, readable: bool = True) -> dict[str, Any] | None:
    """What the run in `folder` was started with; None where there is none. readable: refuse what cannot be read."""
    path = folder / RUN_FILE
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if folder.exists() and any(folder.iterdir()):
            raise CheckpointError(
                f"{folder} is not empty and holds no run of wilss-train; give another --out."
            ) from None
        return None
    except (OSError, ValueError, RecursionError) as error:
        if not readable:
            return {}
        raise CheckpointError(f"{path} cannot be read ({error}); start again with --overwrite.") from error
    return {name: value for name, value in identity.items() if name != _ABOUT} if isinstance(identity, dict) else {}


def _has_saved(folder: Path) -> bool:
    return (folder / MODEL_FILE).exists() or any((folder / STATES).glob("step-*"))


def _clear(folder: Path) -> None:
    """Remove what a run writes, and nothing else; its identity stays, else the rest would be nobody's after a kill."""
    make_folder(folder)
    for name in (STATES, MEMORY, CURVES):
        remove_tree(folder / name)
    results = (MODEL_FILE, LABELLER_FILE, "log.jsonl", "report.json", "report.html")
    for name in (_DONE, *results):
        unlink(folder / name)


def _differences(former: Mapping[str, Any], wanted: Mapping[str, Any], renew: Renew) -> list[str]:
    """What differs between two identities, a phrase each, by name."""
    try:
        former = renew(former)
    except CheckpointError as error:
        return [str(error)]
    values = {name: (was, now) for name, now, was in differences(wanted, former)}
    values |= {name: (was, now) for name, was, now in differences(former, wanted)}
    return [
        "{} was {} and is now {}".format(name, *shortened(was, now, 40))
        for name, (was, now) in sorted(values.items(), key=lambda item: item[0])
    ]
