"""Words that are wrong: each is refused in a sentence with the right exit code, and nothing is written."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.drills import forms
from tests.faults.cli import ROOT, command, content, data_set, generate, listing, masks, start, wilss_masks
from tests.wilss.data import data_on_disk as disk
from wilss_masks.make import cluster

COMMANDS = ["generate", "info", "evaluate", "fuse", "sheet", "audit", "verify", "export voc", "export coco"]
COMMANDS += ["manifest init", "manifest check", "manifest lock"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = data_set(tmp_path_factory.mktemp("data"))
    assert generate(root, out="out/made.zarr").code == 0
    return root


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_a_version(name: str) -> None:
    shown = wilss_masks(*name.split(), "--help")
    assert shown.code == 0
    assert re.search(rf"Examples?:\n +wilss-masks {name} ", shown.out), shown.out
    version = wilss_masks(*name.split(), "--version")
    assert version.code == 0
    assert re.fullmatch(r"wilss-masks \d+\.\d+\.\d+\S*\n", version.out)


def test_the_group_knows_its_version() -> None:
    assert wilss_masks("--version").out.startswith("wilss-masks ")


SAID: list[tuple[str, tuple[object, ...], str, int]] = [
    ("set without =", ("--set", "nonsense"), r"--set 'nonsense' is not of the form key=value; write e\.g\.", 2),
    ("unknown parameter", ("--set", "drawz=4"), r"there is no parameter 'drawz'; did you mean draws\?", 2),
    ("text for a number", ("--set", "draws=many"), r"draws must be a whole number, not 'many'", 2),
    ("part of a number", ("--set", "draws=4.5"), r"draws must be a whole number, not '4\.5'", 2),
    ("unknown choice", ("--set", "keep=all"), r"keep is 'all'; choose one of mass, locations, std", 2),
    ("not a number", ("--set", "threshold=nan"), r"threshold is nan; it must be between 0 and 1", 2),
    ("source without", ("--source", "annotation", "--set", "a=1"), r"'annotation' has no parameter 'a'; leave it", 2),
    ("misspelt source", ("--source", "fmwis"), r"no source 'fmwis'; did you mean 'fmwiss'\.", 2),
    ("unknown source", ("--source", "x"), r"no source 'x'; there are annotation, bank, cam, fmwiss, insid3, panet", 2),
    ("unknown option", ("--stp", "0"), r"No such option '?--stp'?.*--step", 2),
    ("no such step", ("--step", 7), r"has no step 7; its steps are 0 to 1", 2),
    ("step of letters", ("--step", "x"), r"'--step': 'x' is not a valid integer", 2),
    ("no such split", ("--split", "vall"), r"has no split 'vall'; (there are|did you mean)", 2),
    ("no image", ("--limit", 0), r"'--limit': 0 is not in the range", 2),
    ("a large shard", ("--shard-size", 10**9), r"'--shard-size': 1000000000 is not in the range", 2),
    ("devices", ("--devices", "nonsense"), r"'nonsense' is not a list of GPU numbers; write e\.g\. 0,1", 2),
    ("device twice", ("--device", "auto", "--devices", "0,-1"), r"--devices 0,-1", 2),
    ("device and devices", ("--devices", "0"), r"--devices 0 and --device cpu ask for different things; leave one", 2),
    ("no such device", ("--device", "gpu"), r"--device gpu is no device; use auto, cpu or cuda", 2),
    ("far device", ("--device", "cuda:4096"), r"--device cuda:4096: torch finds .* here; name others, or use", 2),
    ("manifest", ("--manifest", "nix.yaml"), r"nix\.yaml is not there; pass --manifest, or write one with", 2),
    ("open scheduler", ("--scheduler", "tcp://10.1.2.3:8786"), r"tcp://10\.1\.2\.3:8786 is neither on this machine nor "
     r"tls://; start the scheduler with TLS", 1),
    ("odd scheduler", ("--scheduler", "tcp://[::1"), r"'tcp://\[::1' is no address of a scheduler; write e\.g\.", 1),
    ("no port", ("--scheduler", "localhost"), r"'localhost' is no address of a scheduler", 1),
    ("no certificates", ("--scheduler", "tls://127.0.0.1:1"), r"Dask knows no certificates; set DASK_DISTRIBUTED", 1),
    ("no scheduler file", ("--scheduler-file", "nix.json"), r"nix\.json is not a scheduler file .*start `dask sch", 1),
]  # fmt: skip


@pytest.mark.parametrize(("words", "sentence", "code"), [row[1:] for row in SAID], ids=[row[0] for row in SAID])
def test_wrong_words(root: Path, words: tuple[object, ...], sentence: str, code: int) -> None:
    before = listing(root, but="nothing")
    made = generate(root, *words, source="fmwiss" if "--set" in words else "standin", out="out/never.zarr")
    assert made.code == code, made.said
    assert re.search(sentence, made.err), made.err
    assert len(re.findall("^Error: ", made.err, re.MULTILINE)) == 1
    assert "Traceback" not in made.said
    assert "should not happen" not in made.said
    assert listing(root, but="nothing") == before


def test_a_scheduler_that_does_not_answer(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", "0.5s")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        made = generate(root, "--scheduler", address, out="out/dead.zarr")
    assert made.code == 1
    assert f"no scheduler answers at {address} (" in made.err
    assert "start it, or leave out --scheduler" in made.err


# -- the manifest -------------------------------------------------------------------------------------------


def changed(**changes: Any) -> Callable[[Path], object]:
    return lambda root: disk.manifest(root, **changes)


def as_text(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "data_manifest.yaml").write_text(text)


def with_line(line: str) -> Callable[[Path], object]:
    def spoil(root: Path) -> None:
        path = root / "data_manifest.yaml"
        path.write_text(f"{path.read_text()}\n{line}\n")

    return spoil


MANIFESTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("empty", as_text(""), r"is empty; `wilss-masks manifest init` writes one"),
    ("a list", as_text("- 1\n- 2\n"), r"is no mapping of keys"),
    ("bad yaml", as_text("a: [1, 2\nb: 3\n"), r"is not plain YAML: .* line \d+; fix that line"),
    ("tag", with_line("title: !!python/object/apply:os.mkdir [it_ran]"), r"is not plain YAML: .*python/object"),
    ("aliases", as_text("a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}]\n"
     for p, c in zip("abcdefg", "bcdefgh", strict=True))), r"stands for too many values; write fewer aliases"),
    ("binary", lambda root: (root / "data_manifest.yaml").write_bytes(b"\x00\xff\xfe"), r"is not plain YAML"),
    ("key", changed(layuot="voc"), r"'layuot' is not a key here; did you mean 'layout'"),
    ("inner key", changed(steps=[{"clases": [1]}]), r"steps\.0\.clases: 'clases' is not a key here; did you mean 'cla"),
    ("key twice", with_line("name: other"), r"name: stands there twice; keep one"),
    ("version", changed(schema_version=9), r"schema_version: is 9; it must be 1"),
    ("name", changed(name="../evil"), r"name: is '\.\./evil'; a manifest's name is made of"),
    ("no class", changed(steps=[{"classes": [9]}]), r"class 9 is not among the classes 1 to 3 of `names`"),
    ("class name", changed(steps=[{"classes": ["catt"]}]), r"'catt' is no class in `names`; did you mean 'cat'"),
    ("protocol", changed(steps=None, protocol="15-6"), r"there is no protocol '15-6'; did you mean '15-5'"),
    ("layout", changed(layout="vok"), r"layout: is 'vok'; it must be 'voc', 'coco' or 'folder'"),
    ("variable", changed(path="${NOBODY_SET_THIS}/data"), r"the variable NOBODY_SET_THIS is not set; set it, or write"),
    ("parameter", changed(masks={"fmwiss": {"drawz": 4}}), r"masks\.fmwiss: there is no parameter 'drawz'; did you"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "sentence"), [row[1:] for row in MANIFESTS], ids=[row[0] for row in MANIFESTS])
def test_wrong_manifests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], sentence: str
) -> None:
    root = data_set(tmp_path)
    monkeypatch.chdir(root)
    spoil(root)
    before = listing(root)
    made = generate(root, source="fmwiss")
    assert made.code == 2, made.said
    assert f"Error: {root / 'data_manifest.yaml'}" in made.err
    assert re.search(sentence, made.err), made.err
    assert "Traceback" not in made.said
    assert listing(root) == before
    assert not (root / "out").exists()


def test_a_split_cannot_lead_a_store_out_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = data_set(tmp_path / "inner")
    monkeypatch.chdir(root)
    disk.manifest(root, splits={"train": "train", "/../../../evil": "train"})
    before = listing(tmp_path, but="inner")
    made = wilss_masks("generate", "--step", 0, "--split", "/../../../evil", "--device", "cpu")
    assert listing(tmp_path, but="inner") == before
    assert made.code in (0, 2), made.said


# -- what is asked for in other ways ------------------------------------------------------------------------


def test_limit_takes_the_first_images(root: Path) -> None:
    made = generate(root, "--limit", 2, out="out/limit.zarr")
    assert made.code == 0
    assert list(masks(root / "out/limit.zarr")) == ["im0", "im1"]


def test_dry_run_writes_nothing(root: Path) -> None:
    before = listing(root, but="nothing")
    made = generate(root, "--dry-run", out="out/dry/dry.zarr")
    assert made.code == 0
    assert "7 images, 3 shards of 3" in made.out
    assert f"would write {root}/out/dry/dry.zarr" in made.out
    assert listing(root, but="nothing") == before


def test_dry_run_says_what_becomes_of_the_store_that_is_there(root: Path) -> None:
    """Limits, changed lists and tags, interrupted runs; what would be refused is."""
    store = root / "out/dry.zarr"
    assert generate(root, "--limit", 3, out="out/dry.zarr").code == 0
    before = listing(root, but="nothing")

    def dry(*options: Any) -> str:
        made = generate(root, "--dry-run", *options, out="out/dry.zarr")
        assert listing(root, but="nothing") == before
        return f"{made.code} {made.out.splitlines()[-1] if not made.code else made.err}"

    assert dry("--limit", 3) == f"0 {store} is complete already; there is nothing to do"
    assert "1 Error" in dry()
    assert "limit: null asked for, 3 in the store" in dry()
    assert dry("--update") == f"0 would update {store}: 1 of 3 shards stays, 2 would be made"
    assert dry("--overwrite") == f"0 would throw {store} away and make all of it again"
    assert "threads: 2 asked for, 1 in the store" in dry("--limit", 3, "--threads", 2)


def test_dry_run_refuses_a_complete_store_that_is_damaged_as_generate_does(root: Path) -> None:
    store = root / "out/hurt.zarr"
    assert generate(root, "--limit", 3, out="out/hurt.zarr").code == 0
    vector = next(path for path in sorted((store / "area/c").rglob("*")) if path.is_file())
    vector.write_bytes(vector.read_bytes() + b"x")
    made = [generate(root, "--limit", 3, *more, out="out/hurt.zarr") for more in ((), ("--dry-run",))]
    assert [one.code for one in made] == [1, 1]
    said = [re.search(r"Error: .* is complete but damaged: .*--overwrite\.", one.err) for one in made]
    assert said[0] is not None
    assert said[1] is not None
    assert said[0][0] == said[1][0]


def test_options_come_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WILSS_GENERATE_STEP", "1")
    monkeypatch.setenv("WILSS_GENERATE_LIMIT", "1")
    monkeypatch.setenv("WILSS_GENERATE_DEVICE", "cpu")
    monkeypatch.setenv("WILSS_MANIFEST", str(root / "data_manifest.yaml"))
    made = wilss_masks("generate", "--source", "standin", "--out", root / "out/env.zarr")
    assert made.code == 0, made.said
    assert "1 done" in made.out
    monkeypatch.setenv("WILSS_GENERATE_STEP", "one")
    wrong = wilss_masks("generate", "--source", "standin")
    assert wrong.code == 2
    assert "'one' is not a valid integer" in wrong.err


def test_a_second_run_says_that_all_is_done(root: Path) -> None:
    before = content(root / "out/made.zarr")
    made = generate(root, out="out/made.zarr")
    assert made.code == 0
    assert "was complete already: 7 done, 0 failed, 0 skipped" in made.out
    assert content(root / "out/made.zarr") == before


def test_a_complete_store_waits_for_no_torch_whatever_the_precision(root: Path) -> None:
    words = ["generate", "--step", 1, "--source", "fmwiss", "--set", "precision=bf16", "--device", "cpu"]
    words += ["--manifest", root / "data_manifest.yaml", "--out", root / "out/bf16.zarr"]
    assert wilss_masks(*words).code == 0
    code = (
        "import sys\n"
        "from wilss_masks.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'timm', 'open_clip'} & set(sys.modules)\n"
    )
    again = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert (again.returncode, "was complete already" in again.stdout) == (0, True), again.stderr


def test_without_a_home_and_with_a_cache_that_cannot_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "cache"))
    assert generate(root, source="fmwiss", out="out/cached.zarr").code == 0
    for name in ("HOME", "XDG_CACHE_HOME", "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WILSS_CACHE", str(root / "clip.json/cache"))
    made = generate(root, source="fmwiss", out="out/homeless.zarr")
    assert made.code == 0, made.said
    assert content(root / "out/homeless.zarr") == content(root / "out/cached.zarr")
    monkeypatch.delenv("WILSS_CACHE")
    assert generate(root, "--overwrite", source="fmwiss", out="out/homeless.zarr").code == 0


def test_the_source_of_a_step_is_not_that_of_another(root: Path) -> None:
    """The opened source is kept in the process; step 1 once got step 0's classes."""
    for step in (0, 1):
        assert generate(root, source="annotation", step=step, out=f"out/labels-{step}.zarr").code == 0
    horses = masks(root / "out/labels-1.zarr")
    assert all(planes[0, :, 1].all() and not planes[0, :, 0].any() for planes in horses.values())


# -- in a process of its own --------------------------------------------------------------------------------


def test_quiet_and_verbose(root: Path) -> None:
    quiet = generate(root, "-q", out="out/quiet.zarr")
    assert (quiet.code, quiet.said) == (0, "")
    verbose = start(command(root, "-v", "--set", "threshold=0.6", out="out/made.zarr"))
    out, err = verbose.communicate(timeout=60)
    assert verbose.returncode == 1
    assert "Traceback" in err, "-v shows it"
    assert err.rstrip().endswith("or make it again with --overwrite.")
    assert "DEBUG" not in out + err
    assert "asyncio" not in out + err


@pytest.mark.parametrize(
    "words",
    forms(
        ["info STORE", "info STORE --json", "generate --step 0 --source annotation --dry-run MANIFEST"],
        short=["info STORE --json", "generate --help"],
    ),
)
def test_a_reader_that_goes_away(root: Path, words: str) -> None:
    words = words.replace("STORE", shlex.quote(str(root / "out/made.zarr")))
    words = words.replace("MANIFEST", f"--device cpu --manifest {shlex.quote(str(root / 'data_manifest.yaml'))}")
    program = f"{shlex.quote(sys.executable)} -c 'from wilss_masks.cli import main; main()'"
    piped = f"{program} {words} | true; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (0, 1), ended.stderr
    assert ended.stderr == ""


@pytest.mark.wide  # such names: test_surroundings; such a terminal: test_security
def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    root = data_set(tmp_path / "\u00fcml\u00e4ut \U0001f40e")
    process = start(command(root), env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "7 done" in out


def test_the_manifest_of_these_tests_is_a_manifest(root: Path) -> None:
    assert yaml.safe_load((root / "data_manifest.yaml").read_text())["schema_version"] == 1
    assert json.loads((root / "clip.json").read_text())["embed_dim"]
    assert os.path.isdir(root / "data")
