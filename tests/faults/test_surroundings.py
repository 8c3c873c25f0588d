"""Where and how a command is run changes no byte: locale, clock, umask, paths, home, network, streams.

In `make test` many oddities come together in one world, in `make test-wide` in another; in the long form each comes
alone, for both verbs.
"""

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.drills import forms
from tests.faults import train_cli
from tests.faults.cli import ROOT, content, data_set, generate, wilss_masks

ELSEWHERE = Path(__file__).parent / "elsewhere"
#: Of images below it paths have more than 250 bytes.
ODD = "a b \u00fc\u4e2d\u6587 'quoted' $HOME ;" + "\u00e9" * 60 + "x" * 40
LONGEST = 255


@dataclass(frozen=True)
class World:
    """Surroundings of a process. env: variables, None for one that is not set; flags: of Python."""

    env: Mapping[str, str | None] = field(default_factory=dict)
    umask: int = 0o022
    flags: Sequence[str] = ()
    closed: str = ""
    cwd: str = ""


NOWHERE = {"HOME": None, "USER": None, "LOGNAME": None, "XDG_CACHE_HOME": None, "TMPDIR": None}
HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "TORCH_HOME", "MPLCONFIGDIR")
SINGLE = {
    "locale C": World({"LC_ALL": "C", "LANG": "C"}),
    "locale C without UTF-8": World({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "locale POSIX": World({"LC_ALL": "POSIX", "LANG": None}),
    "Turkish": World({"LC_ALL": "tr_TR.UTF-8"}),
    "no locale": World({"LC_ALL": None, "LANG": None, "LC_CTYPE": None}),
    "far east": World({"TZ": "Pacific/Kiritimati"}),
    "far west": World({"TZ": "Etc/GMT+12"}),
    "no such time zone": World({"TZ": "Mars/Olympus"}),
    "a private umask": World(umask=0o077),
    "an open umask": World(umask=0o000),
    "home is a file": World(dict.fromkeys(HOMES, "/dev/null")),
    "home is read-only": World(dict.fromkeys(HOMES, "/proc/1/nothing")),
    "no home": World({**NOWHERE}),
    "an empty cache": World({"XDG_CACHE_HOME": "", "WILSS_CACHE": ""}),
    "a relative cache": World({"XDG_CACHE_HOME": "some/where"}),
    "hashes otherwise": World({"PYTHONHASHSEED": "4711"}),
    "three threads of OpenMP": World({"OMP_NUM_THREADS": "3"}),
    "no asserts": World(flags=("-OO",)),
    "no stdin": World(closed="<&-"),
    "no stdout": World(closed=">&-"),
    "no stderr": World(closed="2>&-"),
    "another folder": World(cwd="sub/folder"),
    "a clock that is set back": World(),
}
TOGETHER = World(
    {**dict.fromkeys(HOMES, "/proc/1/nothing"), "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
     "TZ": "Pacific/Kiritimati", "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "3"},
    umask=0o077, closed="<&- >&- 2>&-", cwd="sub/folder",
)  # fmt: skip
BARE = World({**NOWHERE, "LC_ALL": None, "LANG": None, "TZ": "Mars/Olympus"}, umask=0o000, closed="2>&-")


def ran(world: World, root: Path, words: Sequence[object]) -> int:
    """The exit code of a command in these surroundings, its words as from `root`; calls elsewhere are noted."""
    folder = root / world.cwd
    folder.mkdir(parents=True, exist_ok=True)
    back = "../" * len(Path(world.cwd).parts)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **world.env}
    path = [str(ELSEWHERE), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment |= {"WILSS_TEST_CALLS": str(calls_of(root)), "PYTHONPATH": os.pathsep.join(path)}
    given = [str(word).replace("ROOT/", back) for word in words]
    line = f'umask {world.umask:04o}; exec "$@" {world.closed}'
    ended = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, *world.flags, *given],
        cwd=folder, env={name: value for name, value in environment.items() if value is not None},
        capture_output=True, text=True, errors="replace", timeout=250, check=False,
    )  # fmt: skip
    print(ended.stdout, ended.stderr)  # noqa: T201
    assert "Traceback" not in ended.stderr
    return ended.returncode


def calls_of(root: Path) -> Path:
    return root / "calls.txt"


def masks_in(world: World, root: Path, *words: object, source: str = "standin") -> Path:
    """The store that `generate` makes in these surroundings."""
    fixed = ("--manifest", "ROOT/data_manifest.yaml", "--out", "ROOT/out/s.zarr", "--device", "cpu", "--step", 1)
    sizes = ("--shard-size", 3, "--batch-size", 2, "--source", source)
    assert ran(world, root, ["-m", "tests.faults.cli", "generate", *fixed, *sizes, *words]) == 0
    return root / "out/s.zarr"


def run_in(world: World, root: Path) -> Path:
    """The run of step 0 that `wilss-train` makes in these surroundings."""
    fixed = ("--manifest", "ROOT/data_manifest.yaml", "--masks", "ROOT/masks/step-0.zarr", "--out", "ROOT/run")
    assert ran(world, root, ["-m", "wilss_train", *fixed, "--device", "cpu", "--threads", 1]) == 0
    return root / "run"


def modes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


def assert_modes(folder: Path, umask: int) -> None:
    """Files and folders are as open as the umask says, none closed or opened by a library's own habit."""
    wrong = {
        name: f"{mode:o}"
        for name, mode in modes(folder).items()
        if mode != ((0o777 if (folder / name).is_dir() else 0o666) & ~umask)
    }
    assert not wrong


# -- what it is held against --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def masks(root: Path) -> dict[str, bytes]:
    assert generate(root).code == 0
    return content(root / "out/s.zarr")


@pytest.fixture(scope="module")
def seen_masks(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Masks that networks make, with text features that come out of no cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WILSS_CACHE", str(tmp_path_factory.mktemp("cache")))
        assert generate(root, source="fmwiss", out="out/seen.zarr").code == 0
    return content(root / "out/seen.zarr")


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and masks of step 0, and the run that learnt from them."""
    root = train_cli.data_set(tmp_path_factory.mktemp("learning"), train={**train_cli.TRAIN, "base": {"epochs": 1}})
    train_cli.make_masks(root, 0)
    fixed = ("--manifest", root / "data_manifest.yaml", "--masks", root / "masks/step-0.zarr", "--out", root / "run")
    made = train_cli.wilss_train(*fixed, "--device", "cpu", "--threads", 1)
    assert made.code == 0, made.said
    return root


def moved(learning: Path, root: Path) -> Path:
    """The same data and masks elsewhere."""
    root.mkdir(parents=True)
    for name in ("data", "masks", "data_manifest.yaml"):
        subprocess.run(["cp", "-r", learning / name, root / name], check=True)
    return root


def assert_same_run(run: Path, plain: Path) -> None:
    assert train_cli.result(run) == train_cli.result(plain)
    assert (run / "report.html").exists()


# -- all together -------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("world", [TOGETHER, BARE])
def test_masks_of_networks_in_a_world_where_much_is_odd(
    seen_masks: dict[str, bytes], tmp_path: Path, world: World
) -> None:
    root = data_set(tmp_path / ODD)
    assert content(masks_in(world, root, source="fmwiss")) == seen_masks
    assert_modes(root / "out", world.umask)
    assert not calls_of(root).exists()


@pytest.mark.parametrize(("world", "folder"), forms([(BARE, "data")], short=[(TOGETHER, ODD)]))
def test_masks_in_a_world_where_much_is_odd(masks: dict[str, bytes], tmp_path: Path, world: World, folder: str) -> None:
    root = data_set(tmp_path / folder)
    assert (folder != ODD) or len(str(root / "data/JPEGImages/im0.jpg").encode()) > 250
    assert content(masks_in(world, root)) == masks
    assert_modes(root / "out", world.umask)
    assert not calls_of(root).exists()


@pytest.mark.long
def test_a_run_in_a_world_where_much_is_odd(learning: Path, tmp_path: Path) -> None:
    root = moved(learning, tmp_path / ODD)
    assert_same_run(run_in(TOGETHER, root), learning / "run")
    assert_modes(root / "run", 0o077)
    assert not calls_of(root).exists()


# -- each alone ---------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", SINGLE)
def test_masks_in_an_odd_world(masks: dict[str, bytes], tmp_path: Path, name: str) -> None:
    root = data_set(tmp_path)
    assert content(masks_in(SINGLE[name], root)) == masks
    assert_modes(root / "out", SINGLE[name].umask)
    assert not calls_of(root).exists()


@pytest.mark.long
@pytest.mark.parametrize("name", SINGLE)
def test_masks_of_networks_in_an_odd_world(seen_masks: dict[str, bytes], tmp_path: Path, name: str) -> None:
    root = data_set(tmp_path)
    assert content(masks_in(SINGLE[name], root, source="fmwiss")) == seen_masks
    assert not calls_of(root).exists()


@pytest.mark.long
@pytest.mark.parametrize("name", SINGLE)
def test_a_run_in_an_odd_world(learning: Path, tmp_path: Path, name: str) -> None:
    root = moved(learning, tmp_path / "moved")
    assert_same_run(run_in(SINGLE[name], root), learning / "run")
    assert_modes(root / "run", SINGLE[name].umask)
    assert not calls_of(root).exists()


# -- paths --------------------------------------------------------------------------------------------------


def test_long_names(masks: dict[str, bytes], root: Path) -> None:
    """Beside a store lie its lock and others with longer names; a name that leaves them no room is refused."""
    ending = ".zarr"
    fits = "s" * (LONGEST - len(".owner.json") - len(ending)) + ending
    assert generate(root, out=f"out/{fits}").code == 0
    assert content(root / "out" / fits) == masks
    for length in (LONGEST - 5, LONGEST, LONGEST + 40):
        before = sorted(path.name for path in (root / "out").iterdir())
        made = generate(root, out=f"out/{'s' * (length - len(ending))}{ending}")
        assert made.code == 1, made.said
        assert sum(not line.startswith("step ") for line in made.err.splitlines()) == 1
        assert "File name too long" in made.err
        assert sorted(path.name for path in (root / "out").iterdir()) == before


# -- no network ---------------------------------------------------------------------------------------------


class Calls:
    """Calls to other machines, none of which is answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[Any] = []
        self.without_limit: list[Any] = []
        monkeypatch.setattr(socket, "getaddrinfo", self._found)
        monkeypatch.setattr(socket.socket, "connect", lambda own, address: self._called(own, address))

    def _found(self, host: str, port: int, *_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]

    def _called(self, own: socket.socket, address: Any) -> None:
        self.made.append(address)
        if own.gettimeout() is None:
            self.without_limit.append(address)
        raise TimeoutError(110, "Connection timed out")


@pytest.mark.parametrize(("encoders", "what", "key"), [
    ({"clip": {"library": "open_clip", "model": "ViT-B-16-quickgelu", "pretrained": "openai"}}, "the weights", "file"),
    ({"clip": {"library": "open_clip", "model": "hf-hub:some/clip"}}, "the config", "config"),
    ({"vit": {"library": "timm", "model": "vit_small_patch16_224.dino"}}, "the weights", "file"),
], ids=["open_clip", "hub config", "timm"])  # fmt: skip
def test_weights_of_a_hub_are_missed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoders: dict[str, Any], what: str, key: str
) -> None:
    """One call, with a time limit, and one sentence; nothing tries again."""
    from tests.faults.cli import ENCODERS

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    root = data_set(tmp_path, encoders={**ENCODERS, **encoders})
    calls = Calls(monkeypatch)
    made = generate(root, source="fmwiss")
    assert made.code == 1, made.said
    assert calls.made == [("192.0.2.1", 443)]
    assert not calls.without_limit
    assert sum(not line.startswith("step ") for line in made.err.splitlines()) == 1
    assert f"Error: offline (huggingface.co: Connection timed out), and {what} of " in made.err
    them = "them" if key == "file" else "it"
    assert f"pass `{key}:` with a local copy, or fetch {them} once where there is a connection" in made.err
    assert not (root / "out/s.zarr").exists()


def test_a_call_elsewhere_would_be_noted(tmp_path: Path) -> None:
    code = (
        "import socket, time, urllib.request as r\n"
        "for call in (lambda: socket.create_connection(('192.0.2.1', 80), 3), lambda: r.urlopen('http://example.org'),\n"
        "             lambda: socket.create_connection(('192.0.2.2', 80))):\n"
        "  try: call()\n"
        "  except OSError: pass\n"
        "with socket.create_server(('127.0.0.1', 0)) as here: socket.create_connection(here.getsockname()).close()\n"
        "before = time.time(); time.sleep(1.1); assert time.time() < before - 80_000"
    )
    assert ran(World(), tmp_path, ["-c", code]) == 0
    assert calls_of(tmp_path).read_text().splitlines() == ["192.0.2.1", "name example.org", "192.0.2.2 for ever"]


def test_nothing_is_called_over_a_network(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of all that works on local files, workers and all; the worlds above count in processes of their own."""
    calls = Calls(monkeypatch)
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path))
    assert generate(root, source="fmwiss", out="out/local.zarr").code == 0
    assert wilss_masks("manifest", "check", "--manifest", root / "data_manifest.yaml").code == 0
    assert not calls.made


# -- streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", forms(["2>&-"], short=["<&- >&- 2>&-"]))
def test_closed_streams_change_nothing(root: Path, masks: dict[str, bytes], closed: str) -> None:
    """What else is opened must not get the number of a standard stream, where a library would print into it."""
    code = (
        "import os, sys; from wilss.console.streams import open_closed_streams; open_closed_streams();"
        "file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_TRUNC); assert file > 2, file;"
        "os.write(1, b'out'); os.write(2, b'err'); print('text', flush=True); sys.stderr.write('t'); sys.stdin.read()"
    )
    out = root / "out/file.txt"
    assert ran(World(closed=closed), root, ["-c", code, out]) == 0
    assert out.read_bytes() == b""
    shown = f"from wilss_masks.cli import main; main(['info', {str(root / 'out/s.zarr')!r}])"
    assert ran(World(closed=closed), root, ["-c", shown]) == 0


def test_a_result_that_cannot_be_shown_is_an_error(root: Path, masks: dict[str, bytes]) -> None:
    """A full disk behind standard output is told, with the exit code of an error."""
    shown = f"from wilss_masks.cli import main; main(['info', {str(root / 'out/s.zarr')!r}])"
    assert ran(World(closed=">/dev/full"), root, ["-c", shown]) == 1
