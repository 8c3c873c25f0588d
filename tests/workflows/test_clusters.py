"""Job files for clusters: they can be read, and what they run makes one store, with the indices set by hand."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.drills import turns
from tests.faults.cli import ROOT, content, data_set, wilss_masks
from wilss.store import MaskStore

WORKFLOWS = ROOT / "workflows"
SCRIPTS = sorted(WORKFLOWS.glob("slurm/*.sbatch"))
FILES = sorted(WORKFLOWS.glob("kubernetes/*.yaml"))
PARTS = 2
#: A Dask scheduler, as far as a script sees one: the file that it was asked for is the last of its words.
LISTENS = 'echo {} > "${!#}"; exec sleep 60'
RUN = """#!/usr/bin/env bash
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
. "$here/../walk.sh"
walk "$here" 0 "$@"
"""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk's folder beside walk.sh: step 0 of seven images, whose masks are made from labels without a network."""
    root = tmp_path_factory.mktemp("walks")
    shutil.copy(WORKFLOWS / "walk.sh", root)
    folder = data_set(root / "pets")
    run = folder / "run.sh"
    run.write_text(RUN)
    run.chmod(0o755)
    return folder


def together(commands: Sequence[list[str]], environments: Sequence[Mapping[str, str]], cwd: Path) -> None:
    """All commands at once, as a cluster starts them; fails where one of them does."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    common = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command, cwd=cwd, env={**common, **environment}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for command, environment in zip(commands, environments, strict=True)
    ]
    said = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)


def same_as_alone(store: Path, walk: Path, *words: str) -> None:
    """As one process makes it, which finds the store complete."""
    alone = store.with_name("alone.zarr")
    given = ["generate", "--step", "0", "--manifest", str(walk / "data_manifest.yaml"), "--out", str(alone), *words]
    made = wilss_masks(*given)
    assert made.code == 0, made.said
    assert MaskStore.open(store).digest == MaskStore.open(alone).digest
    assert content(store) == content(alone)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_job_scripts_can_be_read(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, script], check=True)


@pytest.mark.wide
@pytest.mark.parametrize("first", turns([1, 0], [1]))
def test_an_array_of_tasks(walk: Path, tmp_path: Path, first: int) -> None:
    array = [
        {
            "SLURM_SUBMIT_DIR": str(walk),
            "SLURM_ARRAY_TASK_ID": str(first + index),
            "SLURM_ARRAY_TASK_MIN": str(first),
            "SLURM_ARRAY_TASK_COUNT": str(PARTS),
            "WILSS_OUT": str(tmp_path),
            "DEVICE": "cpu",
            "WILSS_MANIFEST_CHECK_NO_WEIGHTS": "1",  # whose libraries take each task seconds
        }
        for index in range(PARTS)
    ]
    together([["bash", str(WORKFLOWS / "slurm/parts.sbatch")]] * PARTS, array, tmp_path)
    (store,) = tmp_path.glob("masks/*/step-0.zarr")
    same_as_alone(store, walk, "--shard-size", "32")


@pytest.mark.parametrize(
    ("dask", "workers", "run", "code", "told"),
    [
        ("exit 7", "exec sleep 60", "exec sleep 60", 1, "scheduler ended before it could be reached"),
        (LISTENS, "exit 7", "exec sleep 60", 1, "last worker ended before the masks were made"),
        (LISTENS, "exec sleep 60", "exit 5", 5, ""),
        (LISTENS, "exec sleep 60", "true", 0, ""),
    ],
)
def test_a_dask_job_ends_with_its_run_and_where_nobody_is_left_to_make_masks(
    tmp_path: Path, dask: str, workers: str, run: str, code: int, told: str
) -> None:
    """It would else hold its nodes until its time is over. Programs that are not here are pretended."""
    programs = {"bin/dask": dask, "bin/srun": workers, "bin/openssl": "true", "run.sh": run}
    for name, does in programs.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{does}\n", encoding="utf-8")
        path.chmod(0o755)
    given = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_ID": "1"}
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", **given}
    script = ["bash", str(WORKFLOWS / "slurm/masks.sbatch")]
    done = subprocess.run(script, env=environment, text=True, capture_output=True, timeout=50, check=False)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert not (tmp_path / ".cluster-1").exists()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 2), (3, 0)])
def test_a_pod_ends_with_the_code_of_its_run_and_failed_images_are_no_failure(
    tmp_path: Path, file: Path, code: int, expected: int
) -> None:
    """`FailJob` goes by 2."""
    *_, job = documents(file)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    program = tmp_path / "wilss-masks"
    program.write_text(f"#!/usr/bin/env bash\nexit {code}\n", encoding="utf-8")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = [*container["command"], *container["args"]]
    done = subprocess.run(command, env={**os.environ, "PATH": path, "JOB_COMPLETION_INDEX": "0"}, check=False)
    assert done.returncode == expected


@pytest.mark.parametrize(("line", "folder"), [("name: a-1", "a-1"), ('name: "a-1"  # mine', "a-1"), ("title: a", None)])
def test_a_walk_is_called_after_its_manifest(tmp_path: Path, line: str, folder: str | None) -> None:
    (tmp_path / "data_manifest.yaml").write_text(f"{line}\n", encoding="utf-8")
    program = tmp_path / "wilss-eval"
    program.write_text('#!/usr/bin/env bash\necho "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    words = f". {WORKFLOWS / 'walk.sh'}; walk {tmp_path} 1 eval"
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", words]
    environment = {**os.environ, "PATH": path, "WILSS_OUT": "out"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    if folder is None:
        assert (done.returncode, "has no line like `name: voc-15-5`" in done.stderr) == (2, True)
    else:
        assert done.stdout.startswith(f"out/runs/{folder}/step-1 ")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_kubernetes_files_can_be_read(file: Path) -> None:
    """Every container mounts volumes that there are and runs a script that bash can read."""
    for document in documents(file):
        assert {"apiVersion", "kind", "metadata"} <= document.keys()
        pod = document.get("spec", {}).get("template", {}).get("spec", {})
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        for container in pod.get("containers", ()):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["command"] == ["bash", "-c"]
            subprocess.run(["bash", "-n", "-c", *container["args"]], check=True)


def test_the_dask_cluster_has_one_address_and_one_certificate() -> None:
    settings, service, scheduler, *rest = documents(WORKFLOWS / "kubernetes/dask.yaml")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    assert settings["data"]["SCHEDULER"] == f"tls://{name}:{port}"
    assert service["spec"]["selector"].items() <= scheduler["spec"]["template"]["metadata"]["labels"].items()
    for document in (scheduler, *rest):
        (container,) = document["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


@pytest.mark.wide
def test_an_indexed_job(walk: Path, tmp_path: Path) -> None:
    (job,) = documents(WORKFLOWS / "kubernetes/parts.yaml")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    given = {variable["name"]: variable["value"] for variable in container["env"]}
    assert int(given["PARTS"]) == job["spec"]["completions"]
    store = tmp_path / "step-0.zarr"
    here = {"PARTS": str(PARTS), "STEP": "0", "MANIFEST": str(walk / "data_manifest.yaml"), "STORE": str(store)}
    pods = [
        {**given, **here, "DEVICE": "cpu", "HOME": str(tmp_path), "JOB_COMPLETION_INDEX": str(index)}
        for index in range(PARTS)
    ]
    together([[*container["command"], *container["args"]]] * PARTS, pods, tmp_path)
    same_as_alone(store, walk, "--shard-size", "128", "--keep", "scores")


def documents(file: Path) -> list[dict[str, Any]]:
    def loaded() -> Iterator[dict[str, Any]]:
        yield from yaml.safe_load_all(file.read_text(encoding="utf-8"))

    return list(loaded())
