"""What somebody else's files, and somebody else on the network, cannot do: a test for each row of SECURITY.md."""

import ast
import contextlib
import io
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import zarr

from tests.faults import bombs
from tests.faults.cli import ROOT, command, data_set, generate, listing, start, wilss_masks
from tests.faults.cli import content as files_of
from tests.faults.train_cli import forkserver
from tests.wilss.data import data_on_disk as disk
from tests.wilss_train.memory.test_bank import make_bank
from wilss.data.manifest import EncoderSpec, load_manifest
from wilss.data.supports.reading import read_supports
from wilss.errors import CheckpointError, EncoderError, ManifestError, ParameterError, WilssError
from wilss.models.encoders.vit.encoder import open_vit
from wilss.models.networks.backbones import build_backbone
from wilss.models.networks.labeller_file import LABELLER_FILE, load_labeller
from wilss.models.networks.spec import SegmenterSpec
from wilss.store import MaskStore
from wilss_masks.make.cluster import ClusterOptions, require_safe_address, require_usable_address

TABLE = ROOT / "SECURITY.md"
SOURCES = sorted([*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "train").rglob("*.py")])
ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202egnihtyna\r"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = data_set(tmp_path_factory.mktemp("data"))
    assert generate(root, out="out/made.zarr").code == 0
    return root


# -- the table itself ---------------------------------------------------------------------------------------


def test_every_row_names_a_test_and_every_test_here_is_in_a_row() -> None:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("|")][2:]
    named = [re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.rstrip("| ").rpartition("|")[2]) for row in rows]
    assert len(rows) >= 15
    assert all(named), [row for row, tests in zip(rows, named, strict=True) if not tests]
    missing = [f"{file}::{test}" for tests in named for file, test in tests if test not in names_in(ROOT / file)]
    assert not missing
    here = f"tests/faults/{Path(__file__).name}"
    assert names_in(Path(__file__)) == {test for tests in named for file, test in tests if file == here}


def test_every_module_that_the_table_names_is_there() -> None:
    rows = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")][1:]
    modules = [re.findall(r"`((?:wilss|wilss_masks|wilss_train)/[\w/.]+\.\w+)`", row.split("|")[2]) for row in rows]
    assert all(modules)
    homes = (ROOT / "pipeline", ROOT / "train")
    assert not [m for found in modules for m in found if not any((home / m).exists() for home in homes)]


def names_in(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


# -- nothing that is read can run ---------------------------------------------------------------------------


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


#: What reads objects, or runs text, in any library that is used here.
NEVER = {
    "eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load",
    "marshal.loads", "shelve.open", "dill.load", "dill.loads", "joblib.load", "cloudpickle.load", "cloudpickle.loads",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader", "yaml.FullLoader",
    "yaml.UnsafeLoader", "pandas.read_pickle", "torch.jit.load", "torch.hub.load", "np.fromregex",
}  # fmt: skip
#: What does so unless it is told not to, in so many words.
TOLD = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
MODULES = {
    "pickle",
    "marshal",
    "shelve",
    "dill",
    "joblib",
    "cloudpickle",
    "xml.etree.ElementTree",
    "xml.dom",
    "tarfile",
}


def test_no_source_reads_objects() -> None:
    assert len(SOURCES) > 100
    assert not [f"{path.relative_to(ROOT)}: {fault}" for path in SOURCES for fault in faults_of(path)]


def test_a_source_that_read_objects_would_be_found(tmp_path: Path) -> None:
    for number, line in enumerate(
        ["torch.load(p)", "torch.load(p, weights_only=w)", "np.load(p, allow_pickle=True)", "yaml.load(t, yaml.Loader)",
         "pickle.loads(b)", "from pickle import loads", "import tarfile", "subprocess.run(c, shell=True)", "eval(t)"]
    ):  # fmt: skip
        path = tmp_path / f"{number}.py"
        path.write_text(line)
        assert list(faults_of(path)), line


def faults_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Attribute, ast.Name)):
            yield from NEVER & {dotted(node)}
        elif isinstance(node, ast.Call):
            said = {one.arg: one.value for one in node.keywords}
            word, wanted = TOLD.get(dotted(node.func), ("", None))
            if (word and (word not in said or ast.unparse(said[word]) != str(wanted))) or "shell" in said:
                yield ast.unparse(node)
        elif isinstance(node, ast.Import):
            yield from MODULES & {alias.name for alias in node.names} - {"pickle"}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield from {alias.name for alias in node.names} - {"UnpicklingError"}


def dotted(node: ast.expr) -> str:
    """`yaml.load` of a name and its attributes; "" of what begins otherwise."""
    if isinstance(node, ast.Attribute):
        return f"{owner}.{node.attr}" if (owner := dotted(node.value)) else ""
    return node.id if isinstance(node, ast.Name) else ""


def test_a_labeller_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    for content in (pickle.dumps(Malicious(tmp_path / "it_ran")), saved_by_torch(Malicious(tmp_path / "it_ran"))):
        (tmp_path / LABELLER_FILE).write_bytes(content)
        info: Any = SimpleNamespace(path=tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"labeller\.safetensors cannot be read"):
            load_labeller(info, None)  # type: ignore[arg-type]
    assert not (tmp_path / "it_ran").exists()


def saved_by_torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [it_ran]", "!!python/name:os.mkdir", "!mine {a: 1}"])
@pytest.mark.parametrize("file", ["data_manifest.yaml", "data_manifest.lock.yaml", "supports.yaml"])
def test_a_yaml_tag_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, tag: str) -> None:
    root = data_set(tmp_path)
    monkeypatch.chdir(root)
    path = root / file
    path.write_text((path.read_text() if path.exists() else "") + f"title: {tag}\n")
    with pytest.raises(ManifestError, match=rf"{re.escape(file)} is not plain YAML: .*; fix that line"):
        read_supports(load_manifest(root / "data_manifest.yaml"), 1, root / "supports.yaml")
    assert not (root / "it_ran").exists()


@pytest.mark.parametrize("changes", [
    {"splits": {"train": {"list": "evil.npy", "into": "train"}}},
    {"tags": {"from": "npy", "file": "evil.npy"}},
], ids=["split", "tags"])  # fmt: skip
def test_an_array_of_objects_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    root = data_set(tmp_path, **changes)
    np.save(root / "evil.npy", np.array([Malicious(root / "it_ran")], dtype=object), allow_pickle=True)
    made = generate(root)
    assert made.code == 2, made.said
    assert "evil.npy holds pickled objects, which could run code and are never loaded" in made.err
    assert not (root / "it_ran").exists()


def test_an_entity_of_another_file_is_not_fetched(tmp_path: Path) -> None:
    root = data_set(tmp_path, tags="voc-xml")
    (root / "secret").write_text("cat")
    entity = f'<!DOCTYPE annotation [<!ENTITY s SYSTEM "file://{root}/secret">]>'
    for number in range(7):
        declared = entity if number == 2 else ""
        name = "&s;" if number == 2 else "horse"
        path = root / f"data/Annotations/im{number}.xml"
        disk.text(path, f"{declared}<annotation><object><name>{name}</name></object></annotation>")
    made = generate(root)
    assert made.code == 3, made.said
    assert "im2.xml cannot be read (it declares a document type, which annotations do not need)" in made.err


@pytest.mark.parametrize("args", [{"checkpoint_path": "FILE"}, {"pretrained_cfg": {"file": "FILE"}}, {"pretrained": 1}])
def test_arguments_for_timm_load_no_file(tmp_path: Path, args: dict[str, Any]) -> None:
    """timm would load it as a pickle in some versions; a checkpoint's header says such arguments too."""
    file = tmp_path / "evil.pth"
    file.write_bytes(pickle.dumps(Malicious(tmp_path / "it_ran")))
    given = json.loads(json.dumps(args).replace("FILE", str(file)))
    with pytest.raises(ParameterError, match="would load a file; name it as backbone_weights"):
        build_backbone(SegmenterSpec(backbone="resnet18", num_channels=2, args=given))
    with pytest.raises(EncoderError, match="would load a file; name it as `file:`"):
        open_vit(EncoderSpec(library="timm", model="vit_tiny_patch16_224", pretrained="random", args=given), "cpu")
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("model", ["hf-hub:some/body", "hf_hub:some/body", "local-dir:/tmp"])
def test_a_model_of_timm_is_one_of_its_own(model: str) -> None:
    with pytest.raises(EncoderError, match="is no model of timm's own; name one, and its weights as `file:`"):
        open_vit(EncoderSpec(library="timm", model=model, pretrained="random"), "cpu")
    with pytest.raises(ParameterError, match="timm has no model"):
        build_backbone(SegmenterSpec(backbone=model, num_channels=2))


# -- nothing leads out of its folder ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "~/secret.jpg", "C:\\secret.jpg"]
)
def test_a_name_in_a_coco_json_stays_inside(tmp_path: Path, name: str) -> None:
    disk.image(tmp_path / "secret.jpg")
    data = tmp_path / "pets/data"
    path = disk.coco(data, "train", {"in.jpg": [disk.box(2, 2, 4, 4, 10)]}, ["cat"])
    said = json.loads(path.read_text())
    said["images"].append({"id": 7, "file_name": name, "height": 12, "width": 16})
    path.write_text(json.dumps(said))
    disk.manifest(tmp_path / "pets", layout="coco", tags="coco", steps=[{"classes": [1, 2, 3]}])
    records = load_manifest(tmp_path / "pets/data_manifest.yaml").listing("main", "train").records
    inside, outside = sorted(records, key=lambda record: record.problem is not None)
    assert inside.path == data / "train/in.jpg"
    assert outside.path == data
    assert re.search(
        r"which (leads out of the data folder|is an absolute path); name files inside", outside.problem or ""
    )


@pytest.mark.parametrize("name", ["../im0", "/etc/passwd", "JPEGImages/../../x"])
def test_an_image_of_a_support_is_one_of_the_list(root: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "supports.yaml"
    file.write_text(json.dumps([{"image": name, "class": "horse", "kind": "box", "box": [0, 0, 4, 4]}]))
    with pytest.raises(ManifestError, match="is no image of step 1's list"):
        read_supports(load_manifest(root / "data_manifest.yaml"), 1, file)


def test_names_of_arrays_in_a_store_lead_nowhere(tmp_path: Path) -> None:
    root = data_set(tmp_path / "inner")
    assert generate(root).code == 0
    store = root / "out/s.zarr"
    said = json.loads((store / "zarr.json").read_text())
    arrays = said["consolidated_metadata"]["metadata"]
    arrays.update({"../../evil": arrays["mask"], "/evil": arrays["status"]})
    (store / "zarr.json").write_text(json.dumps(said))
    before = listing(tmp_path)
    for words in (["info", store], ["verify", store], ["export", "voc", store, root / "out/voc"]):
        shown = wilss_masks(*words)
        assert shown.code == 1, words
        assert "Traceback" not in shown.said
        assert "should not happen" not in shown.said
    assert listing(tmp_path) == before


def test_links_in_a_store_lead_nowhere(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    assert generate(root).code == 0
    store = root / "out/s.zarr"
    (store / "link").symlink_to(root / "data")
    (store / "left.partial").symlink_to(root / "clip.json")
    before = listing(root)
    assert wilss_masks("verify", store).code in (0, 1)
    assert generate(root, "--retry-failed").code == 0
    assert generate(root, "--overwrite").code == 0
    assert listing(root) == before
    assert not (store / "link").exists()


@pytest.mark.parametrize("kind", ["zero", "pipe"])
def test_a_list_that_never_ends_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    """A link that came with the data may lead to a device or a pipe."""
    root = data_set(tmp_path)
    trap = Path("/dev/zero")
    if kind == "pipe":
        trap = root / "pipe"
        os.mkfifo(trap)
    for name in ("ImageSets/Segmentation/train.txt", "JPEGImages/im3.jpg"):
        (root / "data" / name).unlink()
        (root / "data" / name).symlink_to(trap)
        made = generate(root)
        assert made.code == 2, made.said
        assert "is not there" in made.err
        if name.startswith("ImageSets"):
            (root / "data" / name).unlink()
            disk.text(root / "data" / name, *(f"im{i}" for i in range(7)))
            break
    made = generate(root)
    assert made.code == 0, made.said


def test_a_manifest_that_never_ends_is_not_read() -> None:
    with pytest.raises(ManifestError, match="/dev/zero is no plain file"):
        load_manifest(Path("/dev/zero"))


# -- nothing takes all the memory ---------------------------------------------------------------------------

MOST_GROWTH = 128 << 20


@pytest.fixture(scope="module")
def found(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every bomb in a process with little memory."""
    folder = tmp_path_factory.mktemp("bombs")
    (folder / "whole-store.zarr").symlink_to(root / "out/made.zarr")
    make_bank(folder / "made").rename(folder / "whole-bank.zarr")
    process = forkserver().Process(target=bombs.main, args=(folder,))
    process.start()
    process.join(250)
    assert process.exitcode == 0
    return dict(json.loads((folder / "found.json").read_text()))


def assert_refused(found: dict[str, Any], name: str, words: str) -> None:
    assert found[name]["kind"] == "refused", found[name]
    assert re.search(words, found[name]["said"]), found[name]
    assert found[name]["grew"] < MOST_GROWTH
    assert "\n" not in found[name]["said"]
    assert len(found[name]["said"]) < 600


@pytest.mark.parametrize("name", bombs.STORES)
def test_a_bomb_in_a_store_is_refused(found: dict[str, Any], name: str) -> None:
    assert_refused(found, f"store: {name}", bombs.STORES[name][-1])


@pytest.mark.parametrize("name", bombs.BANKS)
def test_a_bomb_in_a_memory_bank_is_refused(found: dict[str, Any], name: str) -> None:
    assert_refused(found, f"bank: {name}", bombs.BANKS[name][-1])


@pytest.mark.parametrize("read", ["read_size", "read_image", "read_palette_label"])
@pytest.mark.parametrize("name", bombs.IMAGES)
def test_an_image_that_is_a_bomb_is_refused(found: dict[str, Any], name: str, read: str) -> None:
    assert_refused(found, f"{read}: {name}", bombs.IMAGES[name][-1])


@pytest.mark.parametrize("name", bombs.FILES)
def test_a_file_that_is_a_bomb_is_refused(found: dict[str, Any], name: str) -> None:
    assert_refused(found, name, bombs.FILES[name][-1])


def test_too_little_memory_is_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a bound is missing after all, or honest data are too large."""

    def full(*_: object) -> None:
        raise MemoryError("Unable to allocate 8.00 TiB")

    monkeypatch.setattr(MaskStore, "verify", full)
    checked = wilss_masks("verify", root / "out/made.zarr")
    assert checked.code == 1
    assert "Error: there is too little memory (Unable to allocate 8.00 TiB); free some" in checked.err


# -- nobody else is let in ----------------------------------------------------------------------------------

LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def sockets_of(pids: list[int]) -> dict[str, list[str]]:
    """Local addresses, in the kernel's form, of the sockets of these processes that wait to be called.

    A socket of UDP has no state of waiting; every one that is bound counts.
    """
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(link)))
            except OSError:  # closed meanwhile
                continue
    waiting: dict[str, list[str]] = {}
    for table, states in (("tcp", {"0A"}), ("tcp6", {"0A"}), ("udp", {"07"}), ("udp6", {"07"})):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] in states:
                waiting.setdefault(table, []).append(fields[1].rpartition(":")[0])
    return waiting


@pytest.fixture
def usual_port_taken() -> Iterator[None]:
    """The port that Dask's page usually has is taken: here, or by another program already."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            held.enter_context(socket.create_server(("127.0.0.1", 8787)))
        yield


@pytest.mark.usefixtures("usual_port_taken")
@pytest.mark.parametrize(
    "more", [pytest.param([], marks=pytest.mark.long), ["--dashboard"]], ids=["plain", "dashboard"]
)
def test_a_run_listens_on_loopback_alone(root: Path, tmp_path: Path, more: list[str]) -> None:
    """And makes the bytes of a run of one process."""
    store = tmp_path / "a b \u00fc/s.zarr"
    process = start(command(root, "--workers", 2, "--set", "delay=0.2", *more, out=str(store)))
    seen: dict[str, set[str]] = {}
    most = 0
    for pids in family(process.pid, process.poll):
        now = sockets_of(pids)
        most = max(most, sum(map(len, now.values())))
        for table, addresses in now.items():
            seen.setdefault(table, set()).update(addresses)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert most >= 3, "a scheduler and two workers were waiting to be called"
    assert set().union(*seen.values()) <= LOOPBACK, seen
    assert not {table for table in seen if table.startswith("udp")}
    assert "UserWarning" not in err
    assert "Traceback" not in err
    told = re.findall(r"Dask's page: http://127\.0\.0\.1:\d+/status \(port 8787 is taken\)\n", err)
    assert len(told) == len(more)
    assert files_of(store) == files_of(root / "out/made.zarr")


def family(pid: int, ended: Callable[[], int | None]) -> Iterator[list[int]]:
    """The processes of a run, again and again until it ends."""
    parent = psutil.Process(pid)
    while ended() is None:
        try:
            yield [pid, *(child.pid for child in parent.children(recursive=True))]
        except psutil.NoSuchProcess:
            return
        time.sleep(0.2)


def test_a_listener_elsewhere_would_be_seen() -> None:
    with socket.create_server(("0.0.0.0", 0)):
        assert "00000000" in sockets_of([os.getpid()])["tcp"]


FAR = [
    "tcp://10.1.2.3:8786", "10.1.2.3:8786", "tcp://0.0.0.0:8786", "tcp://[::]:8786", "tcp://example.org:8786",
    "tcp://localhost.example.org:8786", "tcp://127.0.0.1:1@example.org:8786", "ws://10.1.2.3:8786", "tcp://127.1:8786",
    "wss://10.1.2.3:8786", "ucx://10.1.2.3:8786", "tcp://2130706433:8786", "tcp://[::ffff:10.1.2.3]:8786",
    "tls:10.1.2.3:1",
]  # fmt: skip


@pytest.mark.parametrize("address", FAR)
def test_a_scheduler_elsewhere_must_speak_tls(tmp_path: Path, address: str) -> None:
    with pytest.raises(WilssError, match="neither on this machine nor tls://|is no address of a scheduler"):
        require_safe_address(address)
    (tmp_path / "scheduler.json").write_text(json.dumps({"address": address}))
    with pytest.raises(WilssError, match="neither on this machine nor tls://|is no address of a scheduler"):
        require_usable_address(ClusterOptions(scheduler_file=tmp_path / "scheduler.json"))


def test_a_scheduler_here_or_with_tls_is_taken() -> None:
    for address in ("tcp://127.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786", "tls://10.1.2.3:8786"):
        require_safe_address(address)


# -- nothing that is shown can steer what shows it ----------------------------------------------------------


def test_what_a_store_says_does_not_steer_a_terminal(tmp_path: Path) -> None:
    root = data_set(tmp_path)
    assert generate(root).code == 0
    group: Any = zarr.open_group(root / "out/s.zarr", mode="r+")
    group["category"][0] = f"horse{ESCAPES}"
    group["error"][2] = f"it broke{ESCAPES}"
    group["status"][2] = 2
    group.attrs["source"] = f"annotation{ESCAPES}"
    for words in (
        ["info"],
        ["info", "--json"],
        ["verify"],
        ["export", "voc"],
        ["evaluate", "--manifest", root / "data_manifest.yaml"],
    ):
        shown = wilss_masks(*words, root / "out/s.zarr", *([tmp_path / "voc"] if "voc" in words else []))
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown.said), words
        assert words[0] != "info" or "owned" in shown.said, words


@pytest.mark.parametrize("encoding", ["utf-8", "ascii:replace"])
def test_a_terminal_is_not_steered(encoding: str) -> None:
    """On a terminal click takes no sequence away; and where it shows few letters, click writes bytes of its own."""
    shown, terminal = os.openpty()
    code = f"from wilss.console import streams\nimport click\nwith streams.plain_streams():\n  click.echo({ESCAPES!r})"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=terminal, env=environment, check=True, timeout=60)
    text = os.read(shown, 1000).replace(b"\r\n", b"\n")
    mark = b"?" if "ascii" in encoding else "\N{REPLACEMENT CHARACTER}".encode()
    assert text == b"M[2JM]0;ownedMM31mMgnihtynaM\n".replace(b"M", mark)
    os.close(shown)
    os.close(terminal)


def test_bars_and_lines_pass_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from wilss.console.streams import plain_streams

    with plain_streams():
        print("a\tb\nü 馬 \N{EN DASH}")  # noqa: T201
        sys.stderr.write("\r50%")
    assert capsys.readouterr() == ("a\tb\nü 馬 \N{EN DASH}\n", "\r50%")
