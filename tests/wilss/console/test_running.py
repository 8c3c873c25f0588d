"""Manners, exit codes and sentences that every command line of the project has."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from wilss import console
from wilss.errors import CheckpointError, ManifestError, ParameterError, ProtocolError, StoreError, WilssError, counted
from wilss_masks.cli import main


def ended(body: Callable[[], Any], *words: str) -> int:
    @click.command()
    @click.option("--steps", type=int, default=1)
    def command(steps: int) -> Any:
        """Does what a test wants."""
        click.echo(f"steps {steps}")
        return body()

    with pytest.raises(SystemExit) as end:
        console.run(command, prog_name="wilss-try", package="wilss_train", env_prefix="WILSS_TRY", arguments=[*words])
    return int(end.value.code or 0)


def fails(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


def test_a_command_that_ends_well(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_TRY_STEPS", "7")
    assert ended(lambda: None) == 0
    assert capsys.readouterr() == ("steps 7\n", "")
    assert ended(lambda: sys.exit(console.FINISHED_WITH_FAILURES)) == 3


@pytest.mark.parametrize(("said", "meant"), [(None, "passive"), ("active", "active")])
def test_threads_that_wait_do_not_spin_unless_somebody_says_so(
    monkeypatch: pytest.MonkeyPatch, said: str | None, meant: str
) -> None:
    """What a command starts has it as well."""
    monkeypatch.setenv("OMP_WAIT_POLICY", said or "")
    if said is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    told: list[str] = []
    words = [sys.executable, "-c", "import os; print(os.environ['OMP_WAIT_POLICY'])"]
    assert ended(lambda: told.append(subprocess.check_output(words, text=True).strip())) == 0
    assert told == [meant]


DRAWS = """
import click
from wilss import console

@click.command()
def draws():
    import matplotlib
    matplotlib.get_configdir()

console.run(draws, prog_name="wilss-try", package="wilss_train", env_prefix="WILSS_TRY")
"""


def test_a_home_that_cannot_be_written_is_nothing_to_tell_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "file")}
    ran = subprocess.run([sys.executable, "-c", DRAWS], env=env, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")


def test_manners(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: None, "--version") == 0
    assert re.fullmatch(r"wilss-try \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)
    assert ended(lambda: None, "-h") == 0
    shown = capsys.readouterr().out
    assert all(shown.count(word) == 1 for word in ("--verbose", "--quiet", "--version", "--help"))
    quiet: list[bool] = []
    assert ended(lambda: quiet.append(console.is_quiet()), "-q") == 0
    assert ended(lambda: quiet.append(console.is_quiet()), "-v") == 0
    assert quiet == [True, False]
    assert logging.getLogger("wilss_train").level == logging.DEBUG


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreError, 1), (CheckpointError, 1), (ManifestError, 2), (ProtocolError, 2), (ParameterError, 2)],
)
def test_errors_are_sentences(error: type[WilssError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(fails(error("a.zarr is not there; copy it."))) == code
    assert capsys.readouterr().err == "Error: a.zarr is not there; copy it.\n"


def test_verbose_shows_the_traceback(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert ended(fails(StoreError("no.")), "-v") == 1
    assert "Traceback" in caplog.text
    assert capsys.readouterr().err.endswith("Error: no.\n")


def test_what_the_machine_refuses_and_what_should_not_happen(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(fails(OSError(28, "No space left on device", "/x/y"))) == 1
    assert capsys.readouterr().err.startswith("Error: /x/y: No space left on device; fix that")
    assert ended(fails(ValueError("odd"))) == 1
    assert "ValueError: odd\nThis should not happen" in capsys.readouterr().err
    assert ended(lambda: None, "--stepps", "2") == 2
    assert re.search(r"No such option '?--stepps'?", capsys.readouterr().err)


def test_ctrl_c_is_130() -> None:
    code = (
        "import click; from wilss import console\n"
        "@click.command()\ndef command(): raise KeyboardInterrupt\n"
        "console.run(command, prog_name='x', package='wilss_train', env_prefix='X', arguments=[])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (130, "\nInterrupted.\n")


def test_groups_pass_their_manners_on() -> None:
    @click.group()
    def group() -> None:
        """A group."""

    @group.command()
    def below() -> None:
        """A command."""

    console.add_common_options(group)
    console.add_common_options(group)
    for command in (group, below):
        assert [option.name for option in command.params] == ["verbose", "quiet", "version"]


# -- what commands leave behind -----------------------------------------------------------------------------


def test_tables_are_aligned() -> None:
    assert console.aligned([("%", "IoU"), ("cat", "5.0"), ("mean", "-")], {1}) == [
        "%     IoU",
        "---------",
        "cat   5.0",
        "mean    -",
    ]
    assert [console.percent(value) for value in (0.1234, 1.0, None, float("nan"))] == ["12.3", "100.0", "-", "-"]


def test_json_is_written_whole_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.write_json({"a": "\u00fc"}, str(tmp_path / "new/a.json"))
    console.write_json({"a": "\u00fc"}, "-")
    text = capsys.readouterr().out
    assert text == (tmp_path / "new/a.json").read_text(encoding="utf-8") == '{\n  "a": "\u00fc"\n}\n'
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/b\.json cannot be written .*; give a path that can be written"):
        console.write_json({}, str(tmp_path / "file/b.json"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.write_json({"iou": float("nan")}, str(tmp_path / "nan.json"))
    assert not (tmp_path / "nan.json").exists()


def test_failures_are_named_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    console.tell_failures({f"im{i}": "is broken." for i in range(12)}, "--json names them all.")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Failed: im0: is broken."
    assert lines[-1] == "... and 2 more; --json names them all."
    assert len(lines) == 11


def test_progress_is_a_line_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with console.ProgressDisplay("steps") as display:
        display(0, 4)
        display(4, 4)
        display(4, 4)
    assert re.fullmatch(r"4 of 4 steps, \S+ steps/s\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [(0, ("image",), "0 images"), (1, ("image",), "1 image"), (2, ("image",), "2 images"),
     (1, ("class", "classes"), "1 class"), (3, ("class", "classes"), "3 classes")],
)  # fmt: skip
def test_a_number_of_things(count: int, words: tuple[str, ...], said: str) -> None:
    assert counted(count, *words) == said


@pytest.mark.parametrize(
    ("word", "said"),
    [("shet", "there is no command 'shet'; did you mean sheet?"), ("zzz", "there is no command 'zzz'; known are gen")],
)
def test_a_misspelt_command(word: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([word])
    assert (end.value.code, said in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(("how", "told"), [("do this.", "Interrupted; do this.\n"), ("", "Interrupted.\n")])
def test_an_interrupt_is_answered_with_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    monkeypatch.setattr("wilss.console.running._exit_now", sys.exit)

    def body() -> None:
        with console.going_on(lambda: how):
            raise KeyboardInterrupt

    assert ended(body) == 130
    assert capsys.readouterr().err == told
