"""This build beside another checkout of it: the same work by both builds' own commands, in turn, on the same images.

Only commands and their options are used, since modules change their names from build to build. What a command takes is
the difference between a long run and a short one, so that starting, reading and judging have no part in it. The recipe
is the other build's, whose manifest this one reads too, and training is in fp32: the same work, whatever the defaults.
Where the processor has instructions for bf16, both train in it as well, as the demo does.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from measure import Figure, figure, ratios
from versions import commit_of

from wilss.models.devices import has_bf16
from wilss.store import MaskStore

from .common import manifest_over, row, section

ROOT = Path(__file__).resolve().parents[3]
CORES = len(os.sched_getaffinity(0))
THIS, OTHER = "this", "other"
#: This build with another precision than the other one has, where the processor has instructions for it.
IN_BF16 = "this-bf16"
#: Parts of both checkouts' own benchmarks, and the rows of them that are compared.
OWN = {
    "scripts": ("ViT-B/16 at 224: pipeline over a research script, images/s",),
    "training": ("trainer / bare loop on batches in memory, images/s", "trainer, images/s"),
    "scaling": ("devices of 100 images/s, shards of 32: 8 workers, of it the scheduler, % of a core",),
    "growth-records": ("without networks, 1000 to 16000 images: peak memory, bytes for every further image",),
}
_UNJUDGED = ("--split", "none")
_ENCODERS = (
    '{clip: {library: open_clip, model: ViT-B-16, pretrained: "random:0"}, '
    'vit: {library: timm, model: vit_base_patch16_224.dino, pretrained: "random:0"}}'
)
_LARGE = "{fmwiss: {clip_size: 224, vit_size: 224, templates: plain}}"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds of the clock and of the processor, those of all child processes too."""

    wall: float
    cpu: float

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(wall=self.wall - other.wall, cpu=self.cpu - other.cpu)


@dataclass(frozen=True, kw_only=True)
class Build:
    """A checkout with its own .venv, and a folder for what it makes. making: words for its `generate`."""

    root: Path
    folder: Path
    threads: int = CORES
    making: tuple[str, ...] = ()

    def run(self, name: str, *words: object, **environment: str) -> Spent:
        """One of its commands. Ends the benchmark with what it said where it fails."""
        return spent([self.root / ".venv/bin" / name, *words], self.root, {**self._threads, **environment})

    @property
    def _threads(self) -> dict[str, str]:
        return {"OMP_NUM_THREADS": str(self.threads)}


def spent(words: Sequence[object], folder: Path, environment: Mapping[str, str]) -> Spent:
    """What a command takes; nothing else may be started by this process meanwhile."""
    before, started = _children(), time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed in {folder}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Spent(wall=wall, cpu=_children() - before)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(scratch: Path, quick: bool, beside: Path | None = None) -> list[dict[str, Any]]:
    """`generate` with both sizes of encoders; a row that says so where there is no other build."""
    if beside is None:
        return [row("no other build", "nothing measured; name its checkout with --beside")]
    builds = builds_of(scratch, beside)
    repeats = 1 if quick else 5
    rows = [
        *_generate(
            scratch, builds, "built-in encoders", repeats, (4, 12) if quick else (32, 160), "at least 1.4, aim 2"
        ),
        *([] if quick else _generate(scratch, builds, "ViT-B/16 at 224", repeats, (4, 20), "at least 1.15, aim 1.4")),
    ]
    return _beside(beside, rows)


def measure_training(scratch: Path, quick: bool, beside: Path | None = None) -> list[dict[str, Any]]:
    """The demo's step 1."""
    if beside is None:
        return [row("no other build", "nothing measured; name its checkout with --beside")]
    builds, rows = builds_of(scratch, beside), []
    for precision in ("fp32", "bf16") if has_bf16("cpu") else ("fp32",):
        rows += _train(scratch, builds, precision, 1 if quick else 3, (1, 2) if quick else (2, 5))
    return _beside(beside, rows)


def measure_demo(scratch: Path, quick: bool, beside: Path | None = None) -> list[dict[str, Any]]:
    """The whole walk on the built-in data, from nothing; in fp32, since older builds asked for bf16."""
    if beside is None:
        return [row("no other build", "nothing measured; name its checkout with --beside")]
    words = ("--precision", "fp32", *(("--epochs", "3") if quick else ()))
    taken = interleaved(builds_of(scratch, beside), 1 if quick else 3, lambda build: _walk(build, words))
    share = ratios([one.wall for one in taken[THIS]], [one.wall for one in taken[OTHER]])
    rows = [
        row("make demo after the set-up: wall time, this build over the other", share, "at most 0.6, aim 0.45"),
        row("make demo after the set-up, s", figure([one.wall for one in taken[THIS]])),
        row("make demo after the set-up, the other build, s", figure([one.wall for one in taken[OTHER]])),
    ]
    return _beside(beside, rows)


def measure_own(scratch: Path, quick: bool, beside: Path | None = None) -> list[dict[str, Any]]:
    """What both checkouts' own benchmarks measure by themselves, under the same names."""
    if beside is None:
        return [row("no other build", "nothing measured; name its checkout with --beside")]
    rows = []
    for part, names in OWN.items():
        found = {name: _own_rows(build, part, quick) for name, build in builds_of(scratch, beside).items()}
        for what in names:
            mine, its = (found[name].get(what) for name in (THIS, OTHER))
            if mine and its:
                told = f"{mine['median'] / its['median']:.3g} ({mine['median']:.3g} and {its['median']:.3g})"
                rows.append(row(f"{part}: {what}, this build over the other", told))
    return _beside(beside, rows)


def _beside(checkout: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the commit that they were measured beside."""
    return [{**one, "beside": commit_of(checkout)} for one in rows]


def _own_rows(build: Build, part: str, quick: bool) -> dict[str, dict[str, float]]:
    """The values of a part's rows, by name, measured by a checkout's own benchmark."""
    out = build.folder / f"{part}.json"
    words = ("workflows/benchmark/run.py", "--only", part, "--out", out, "--scratch", build.folder / "own")
    build.run("python", *words, *(("--quick",) if quick else ()))
    return {
        one["what"]: one["values"] for one in json.loads(out.read_text(encoding="utf-8"))["rows"] if "values" in one
    }


def builds_of(scratch: Path, beside: Path) -> dict[str, Build]:
    """This build and the other one. Ends the benchmark where the other cannot be run."""
    beside = beside.resolve()
    if not (beside / ".venv/bin/wilss-masks").exists():
        raise SystemExit(f"{beside} has no .venv with wilss; check it out and run `make setup` there.")
    builds = {
        name: Build(root=root, folder=scratch / "builds" / name) for name, root in ((THIS, ROOT), (OTHER, beside))
    }
    for build in builds.values():
        build.folder.mkdir(parents=True, exist_ok=True)
    return builds


def interleaved(builds: Mapping[str, Build], repeats: int, work: Callable[[Build], Spent]) -> dict[str, list[Spent]]:
    """What each build takes, in turn, the first one alternating."""
    taken: dict[str, list[Spent]] = {name: [] for name in builds}
    for repeat in range(repeats):
        for name in list(builds) if repeat % 2 == 0 else reversed(list(builds)):
            taken[name].append(work(builds[name]))
    return taken


def _generate(
    scratch: Path, builds: Mapping[str, Build], title: str, repeats: int, counts: tuple[int, int], asked: str
) -> list[dict[str, Any]]:
    few, many = (_manifest(scratch, builds[OTHER], count, title) for count in counts)
    builds = {**builds, **_in_bf16(builds[THIS])}

    def store(build: Build) -> Path:
        return build.folder / f"{'large' if title != 'built-in encoders' else 'small'}.zarr"

    def more(build: Build) -> Spent:
        words = ("generate", "--step", 0, "--out", store(build), "--overwrite", "-q", "--device", "cpu", "--manifest")
        short = build.run("wilss-masks", *words, few, *build.making)
        return build.run("wilss-masks", *words, many, *build.making) - short

    for build in builds.values():  # text is encoded once, and images are drawn by the first
        build.run("wilss-masks", "generate", "--step", 0, "--out", store(build), "--overwrite", "-q", "--manifest", few)
    taken, images = interleaved(builds, repeats, more), counts[1] - counts[0]
    rows = []
    for name, said, alike in ((THIS, "", "at least 99.9"), (IN_BF16, ", in bf16", "at least 99.5")):
        if name in builds:
            rows += _rows(f"generate, {title}{said}", {THIS: taken[name], OTHER: taken[OTHER]}, images, asked)
            equal, worst = masks_alike(store(builds[name]), store(builds[OTHER]))
            told = f"{equal:.4f} (worst image {worst:.3f})"
            rows.append(row(f"generate, {title}{said}: pixels of masks on which the builds agree, %", told, alike))
    return rows


def _in_bf16(build: Build) -> dict[str, Build]:
    """The build in bf16, by name, where this processor has instructions for it."""
    if not has_bf16("cpu"):
        return {}
    folder = build.folder.with_name(IN_BF16)
    folder.mkdir(exist_ok=True)
    return {IN_BF16: replace(build, folder=folder, making=("--set", "precision=bf16"))}


def _manifest(scratch: Path, other: Build, count: int, title: str) -> Path:
    """Of so many drawn images, which both builds read, with the other's recipe."""
    manifest_over(scratch, count)
    text = (scratch / f"benchmark-{count}.yaml").read_text(encoding="utf-8")
    sections = {"encoders": _ENCODERS, "masks": _LARGE}
    if title == "built-in encoders":
        built_in = _built_in(other).read_text(encoding="utf-8")
        sections = {name: section(built_in, name) for name in sections}
    kept = [line for line in text.splitlines() if not line.startswith(tuple(f"{name}:" for name in sections))]
    path = scratch / f"builds-{count}-{title.split('/')[0].split()[0]}.yaml"
    lines = (*kept, *(f"{name}: {value}" for name, value in sections.items()), "")
    path.write_text(
        "\n".join(lines).replace(f"name: benchmark-{count}", f"name: {path.stem.lower()}"), encoding="utf-8"
    )
    return path


def _built_in(build: Build) -> Path:
    return build.root / "data_manifest.yaml"


def _train(
    scratch: Path, builds: Mapping[str, Build], precision: str, repeats: int, epochs: tuple[int, int]
) -> list[dict[str, Any]]:
    """The built-in data's step 1 by the other's manifest, from a base that saw every image once."""
    manifest = scratch / "builds" / "data_manifest.yaml"  # both draw the images beside it, and find them there
    manifest.write_text(_built_in(builds[OTHER]).read_text(encoding="utf-8"), encoding="utf-8")
    told, computed = ("--manifest", manifest, "-q"), ("--precision", precision, *_UNJUDGED)
    for build in builds.values():
        for step in (0, 1):
            build.run("wilss-masks", "generate", "--step", step, "--out", build.folder / f"step-{step}.zarr", *told)
        base = ("--masks", build.folder / "step-0.zarr", "--out", build.folder / "step-0", "--epochs", 1, "--resume")
        build.run("wilss-train", *base, *told, "--precision", "fp32", *_UNJUDGED)

    def more(build: Build) -> Spent:
        words = ("--masks", build.folder / "step-1.zarr", "--from", build.folder / "step-0", "--overwrite", *told)
        student = ("--set", "warmup_epochs=0", "--out", build.folder / "step-1", "--epochs")
        short = build.run("wilss-train", *words, *computed, *student, epochs[0])
        return build.run("wilss-train", *words, *computed, *student, epochs[1]) - short

    taken = interleaved(builds, repeats, more)
    images = _images_an_epoch(builds[THIS].folder / "step-1") * (epochs[1] - epochs[0])
    title = f"training, the demo's step 1{', both in bf16' if precision == 'bf16' else ''}"
    return _rows(title, taken, images, "at least 1.3, aim 1.8")


def _images_an_epoch(run: Path) -> int:
    """Of a run that is over, by its log."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = max(line["steps"] for line in lines if "steps" in line)
    start = next(line["run"] for line in lines if line.get("kind") == "start")
    return int(steps * start["batch_size"] / start["epochs"])


def _rows(title: str, taken: Mapping[str, Sequence[Spent]], images: int, asked: str) -> list[dict[str, Any]]:
    """This build over the other: images/s by the clock, and by the processor's time, which other work disturbs less."""
    wall, cpu = (
        {name: [getattr(one, kind) for one in all_] for name, all_ in taken.items()} for kind in ("wall", "cpu")
    )
    return [
        row(f"{title}: images/s, this build over the other", ratios(wall[OTHER], wall[THIS]), asked, images=images),
        row(f"{title}: images a second of the processor, this build over the other", ratios(cpu[OTHER], cpu[THIS])),
        row(f"{title}: images/s", _rate(wall[THIS], images)),
        row(f"{title}: images/s, the other build", _rate(wall[OTHER], images)),
    ]


def _rate(seconds: Sequence[float], images: int) -> Figure:
    return figure([images / one for one in seconds])


def masks_alike(some: Path, others: Path) -> tuple[float, float]:
    """Percent of pixels that are equal in the masks of two stores of the same images, of all and of the worst image."""
    mine, its = MaskStore.open(some), MaskStore.open(others)
    equal, pixels = [], []
    for image_id in mine.image_ids:
        one, other = mine.read(image_id), its.read(image_id)
        if one.categories != other.categories:
            raise SystemExit(f"{some} and {others} hold other classes of {image_id}.")
        equal.append(np.count_nonzero(one.masks == other.masks))
        pixels.append(one.masks.size)
    shares = 100 * np.array(equal) / np.maximum(1, pixels)
    return 100 * sum(equal) / max(1, sum(pixels)), float(shares.min())


def _walk(build: Build, words: Sequence[str]) -> Spent:
    """The demo, into folders of its own that are empty."""
    subprocess.run(["rm", "-rf", str(build.folder / "demo")], check=True)
    folders = {"WILSS_OUT": str(build.folder / "demo/masks"), "WILSS_RUNS": str(build.folder / "demo/runs")}
    return spent([build.root / "workflows/shapes/run.sh", *words], build.root, folders)


if __name__ == "__main__":
    sys.exit("a part of run.py: python workflows/benchmark/run.py --only builds --beside PATH")
