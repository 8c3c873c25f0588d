"""Which version of wilss made a figure: the one that trained a run, whichever tabulates it later."""

import datetime
import json
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What is said of a run that was trained without a note.
UNKNOWN = {"version": "unknown", "commit": "unknown", "date": "unknown"}


def version_now() -> dict[str, str]:
    """The version that runs, the commit of its checkout, and today's date."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"version": version("wilss"), "commit": commit_of(ROOT), "date": today}


def commit_of(checkout: Path) -> str:
    """The commit that is checked out, in short; "unknown" where git says nothing."""
    words = ("git", "-C", str(checkout), "rev-parse", "--short", "HEAD")
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def note_version(run: Path) -> None:
    """Write beside a run's folder that this version trains it: one note for each version that does."""
    now, before = version_now(), _notes(run)
    if now not in before:
        run.parent.mkdir(parents=True, exist_ok=True)
        _path(run).write_text(json.dumps([*before, now]) + "\n", encoding="utf-8")


def version_of_runs(runs: Iterable[Path]) -> dict[str, str]:
    """The version, or versions, that trained these runs, and the last day on which one of them was begun or resumed."""
    notes = [note for run in runs for note in _notes(run) or [UNKNOWN]]
    notes.sort(key=lambda note: note["date"])
    joined = {key: ", ".join(dict.fromkeys(note[key] for note in notes)) for key in ("version", "commit")}
    return {**joined, "date": max((note["date"] for note in notes if note != UNKNOWN), default="unknown")}


def _notes(run: Path) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = json.loads(_path(run).read_text(encoding="utf-8")) if _path(run).exists() else []
    return found


def _path(run: Path) -> Path:
    """Beside the folder, since training wants an empty one."""
    return run.with_name(f"{run.name}.versions.json")
