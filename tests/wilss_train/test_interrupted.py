"""Ctrl-C where a run is not in its loop: what is there is told, and how it is gone on from."""

import sys
from pathlib import Path

import pytest

from tests.faults import train_cli
from wilss_train.run import train as running


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    train_cli.data_set(tmp_path)
    train_cli.make_masks(tmp_path, 0)
    monkeypatch.setattr("wilss.console.running._exit_now", sys.exit)
    return tmp_path


def _words(root: Path, *more: object) -> list[str]:
    return [*train_cli.words(root, "base", "--split", "val", step=0), *map(str, more)]


def test_an_interrupt_while_the_result_is_judged_says_that_resume_goes_on(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_tell_judged", _interrupt)
        stopped = train_cli.wilss_train(*_words(root))
    assert stopped.code == 130
    assert stopped.err.endswith(
        f"Interrupted; saved in {root / 'base'}. Continue with the same command and --resume.\n"
    )
    done = train_cli.wilss_train(*_words(root, "--resume"))
    assert done.code == 0, done.said
    assert "Look at" in done.out


def test_an_interrupt_before_anything_is_written_promises_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "identity_of", _interrupt)
    stopped = train_cli.wilss_train(*_words(root))
    assert stopped.code == 130
    assert stopped.err.endswith("\nInterrupted.\n")


def test_who_threw_a_run_away_does_not_throw_the_next_one_away(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_tell_judged", _interrupt)
    stopped = train_cli.wilss_train(*_words(root, "--overwrite"))
    assert "Continue with the same command and --resume in the place of --overwrite." in stopped.err
    both = train_cli.wilss_train(*_words(root, "--overwrite", "--resume"))
    assert both.code == 2
    assert "--resume continues the run that is there and --overwrite throws it away; give one." in both.err


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
