"""The benchmark's own arithmetic, and that a part of it runs."""

import importlib
import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "workflows/benchmark"


@pytest.fixture(autouse=True)
def _parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are scripts, not an installed package."""
    monkeypatch.syspath_prepend(str(BENCHMARK))


def _rates(**changes: Any) -> Any:
    from parts.limits import Rates

    given = {"threads": 1, "gemm": {"fp32": 100e9, "bf16": 300e9}, "conv": {"fp32": 120e9, "bf16": 200e9},
             "copy": 10e9, "triad": 8e9, "disk": 1e9, "sync": 0.002}  # fmt: skip
    return Rates(**{**given, **changes})


def test_a_limit_is_the_larger_of_arithmetic_and_bytes() -> None:
    rates = _rates()
    assert rates.limit(flops=120e9, precision="fp32") == pytest.approx(1.0)
    assert rates.limit(flops=300e9, precision="bf16") == pytest.approx(1.0)
    assert rates.limit(flops=12e9, nbytes=20e9, precision="fp32") == pytest.approx(2.0)
    assert rates.limit(written=1e9, files=3, precision="fp32") == pytest.approx(1.006)


def test_rates_are_measured(tmp_path: Path) -> None:
    from parts.limits import rates

    found = rates(1, tmp_path, tries=1, smaller=16)
    assert min(*found.gemm.values(), *found.conv.values(), found.memory, found.disk, found.sync) > 0


def test_products_are_counted() -> None:
    from parts.flops import counter

    x, weight = torch.rand(5, 7), torch.rand(7, 11)
    with torch.inference_mode(), counter() as counted:
        x @ weight
        torch.ops.mkldnn._linear_pointwise(x, weight.T.contiguous(), None, "none", [], "")
    assert counted.get_total_flops() == 2 * (2 * 5 * 7 * 11)


@pytest.mark.parametrize("length", [3, 8])
def test_fused_attention_is_counted(length: int) -> None:
    from parts.flops import counter

    queries, keys = torch.rand(2, 4, length, 16), torch.rand(2, 4, 6, 16)
    with torch.inference_mode(), counter() as counted:
        torch.nn.functional.scaled_dot_product_attention(queries, keys, keys)
    assert counted.get_total_flops() == 2 * (2 * 2 * 4 * length * 6 * 16)


def test_a_whole_attention_layer_is_counted() -> None:
    from parts.flops import counter

    layer = torch.nn.MultiheadAttention(32, 4, batch_first=True).eval().requires_grad_(requires_grad=False)
    x = torch.rand(3, 5, 32)
    with torch.inference_mode(), counter() as counted:
        layer(x, x, x, need_weights=False)
    assert counted.get_total_flops() == 3 * (4 * 2 * 5 * 32 * 32 + 2 * 2 * 5 * 5 * 32)


class _Work:
    """Two functions that take as long as they say, by a clock of their own."""

    now = 0.0

    def outer(self) -> None:
        _Work.now += 2.0
        self.inner()
        _Work.now += 1.0

    def inner(self) -> None:
        _Work.now += 5.0


def test_a_stage_is_charged_its_own_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from parts import stopwatch

    clock = SimpleNamespace(perf_counter=lambda: _Work.now, process_time=lambda: _Work.now / 2)
    monkeypatch.setattr(stopwatch, "time", clock)
    before = vars(_Work)["outer"]
    with stopwatch.Stopwatch().around([(_Work, "outer", "outer"), (_Work, "inner", "inner")]) as watch:
        _Work().outer()
    assert (watch.spent["outer"].wall, watch.spent["inner"].wall) == (3.0, 5.0)
    assert (watch.spent["outer"].cpu, watch.spent["inner"].cpu) == (1.5, 2.5)
    assert vars(_Work)["outer"] is before


@pytest.mark.parametrize("part", ["stages", "training_stages"])
def test_every_timed_function_lies_where_its_place_says(part: str) -> None:
    """So that whoever moves or renames one hears of it here, not from the benchmark months later."""
    places = importlib.import_module(f"parts.{part}").PLACES
    assert [(owner, name) for owner, name, _ in places if name not in vars(owner)] == []


class _Maker:
    @classmethod
    def made(cls) -> str:
        return cls.__name__


class _OtherMaker(_Maker):
    pass


def test_a_class_method_is_timed_for_the_classes_that_inherit_it() -> None:
    from parts import stopwatch

    before = vars(_Maker)["made"]
    with stopwatch.Stopwatch().around([(_Maker, "made", "make")]) as watch:
        assert (_Maker.made(), _OtherMaker.made()) == ("_Maker", "_OtherMaker")
    assert watch.spent["make"].calls == 2
    assert vars(_Maker)["made"] is before


def test_counting_counts_bytes_and_operations_of_a_stage_alone() -> None:
    from parts.stopwatch import Stopwatch

    class Product:
        def outer(self, x: Any) -> Any:
            return (x @ x) @ self.inner(x)

        def inner(self, x: Any) -> Any:
            return x @ x

    x = torch.rand(4, 4)
    with Stopwatch(counting=True).around([(Product, "outer", "outer"), (Product, "inner", "inner")]) as watch:
        Product().outer(x)
    product = 2 * 4**3
    assert (watch.spent["outer"].flops, watch.spent["inner"].flops) == (2 * product, product)
    assert watch.spent["inner"].nbytes == 2 * 4 * 4 * 4


@pytest.mark.wide
@pytest.mark.parametrize(("preset", "unmet"), [("paper", set()), ("recommended", {"seeds"})])
def test_a_run_meets_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, unmet: set[str]) -> None:
    """But seeds, where none are drawn; a stage that nobody meets would silently be part of what is around it."""
    from parts.common import end_to_end, manifest_over
    from parts.stages import PLACES, one_lane
    from parts.stopwatch import Stopwatch

    from wilss_masks import FmwissSource

    monkeypatch.chdir(ROOT)
    manifest = manifest_over(tmp_path, 2)
    source = FmwissSource.from_manifest(manifest, step=0, values={"preset": preset}).prepare("cpu")
    with one_lane(), Stopwatch().around(PLACES) as watch:
        end_to_end(manifest, source, tmp_path / "stages.zarr")
    assert {stage for _, _, stage in PLACES} - set(watch.spent) == unmet


@pytest.mark.long
def test_a_training_meets_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parts.learning import Learning, folder_of, trained
    from parts.stopwatch import Stopwatch
    from parts.training_stages import PLACES, loader_in_line

    monkeypatch.chdir(ROOT)
    run = Learning(folder=folder_of(tmp_path), epochs=1)
    with loader_in_line(), Stopwatch().around(PLACES) as watch:
        trained(run)
    named = {stage for _, _, stage in PLACES if isinstance(stage, str)}
    assert named | {"student forward", "old model"} == set(watch.spent)


def test_stages_and_what_they_leave_add_up() -> None:
    from parts.stage_table import REST, stages_of
    from parts.stopwatch import Spent

    spent = [{"a": Spent(wall=1.0, cpu=0.5), "b": Spent(wall=2.0, cpu=2.0)}]
    counted = {"a": Spent(flops=120e9), "b": Spent(nbytes=1e9)}
    stages = stages_of(spent, counted, [(3.5, 2.75)], 10, _rates(), "fp32", 2, {"b": 1.0})
    found = {stage.name: stage for stage in stages}
    assert found["a"].limit == pytest.approx(100.0)
    assert found["b"].limit == pytest.approx(1000 * (1 + 2 * 0.002) / 10)
    assert found[REST].wall.median == pytest.approx(50.0)
    assert found[REST].cpu.median == pytest.approx(25.0)
    assert sum(stage.wall.median for stage in stages) == pytest.approx(350.0)


def _stage_rows() -> list[dict[str, Any]]:
    from dataclasses import asdict

    from parts.stage_table import stages_of
    from parts.stopwatch import Spent

    spent = [{name: Spent(wall=wall, cpu=wall) for name, wall in (("a", 4.0), ("b", 0.1), ("c", 3.0), ("d", 2.0))}]
    stages = stages_of(spent, {"a": Spent(flops=120e9)}, [(9.2, 9.2)], 1, _rates(), "fp32", 0, {})
    rows = [{"part": "stages", "table": "T", "stage": stage.as_json()} for stage in stages]
    return [*rows, {"part": "stages", "table": "T", "rates": asdict(_rates()), "precision": "fp32"}]


def test_the_table_of_stages_marks_the_three_largest_gaps() -> None:
    from parts.stage_table import markdown

    lines = markdown(_stage_rows(), {"processor": "P"}).splitlines()
    assert [line.split(" | ")[0] for line in lines if line.startswith("| **")] == ["| **a**", "| **c**", "| **d**"]
    assert "| **a** | 4e+03 | 4e+03 |  | 1.2e+02 | 1e+03 | 4.0 |" in lines
    assert lines[0].startswith("**T.** P, one thread: 120 GFLOP/s (fp32), memory 10.0 GB/s")


def _figures() -> Any:
    from parts.past_one_machine import Measured

    return Measured(gpu=100.0, gpu_measured=False, core=2.0, commit=0.01, listed=1e-4, memory=1000.0, stored=2000.0,
                    inodes=5.0)  # fmt: skip


def test_costs_follow_their_formulas() -> None:
    from parts.past_one_machine import cost, walls

    found = cost(1_280_000, _figures(), shard=128)
    assert found.gpu_hours == pytest.approx(12800 / 3600)
    assert found.core_hours == pytest.approx(640_000 / 3600)
    assert (found.nbytes, found.inodes, found.memory) == (2.56e9, 50_000, 1.28e9)
    assert found.list_hours == pytest.approx(128 / 3600)
    assert found.commit_hours == pytest.approx(100 / 3600)
    assert walls(_figures(), shard=128)["GPUs until commits fill the coordinator's core"] == pytest.approx(128.0)


def test_a_plan_asks_for_the_part_that_it_lacks() -> None:
    from parts.past_one_machine import figures_of

    with pytest.raises(SystemExit, match="--only stages"):
        figures_of([], 1.0, 1.0)


def test_commits_that_come_together_count_as_one() -> None:
    from parts.scaling import together

    assert together([0.0, 1.0, 1.001, 1.002, 2.0, 2.5], gap=0.01) == [3, 4, 5]


def test_slopes_and_exponents() -> None:
    from parts.growth_records import exponent, slope

    counts = (1000, 2000, 4000)
    assert exponent(counts, [3.0 * count**1.5 for count in counts]) == pytest.approx(1.5)
    assert slope(counts, [7.0 + 200 * count for count in counts]) == pytest.approx(200.0)


def test_a_sleeping_device_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from parts.standin import SleepingSource

    slept: list[float] = []
    device = SleepingSource(rate=100.0).open("cpu", 1)
    monkeypatch.setattr("parts.standin._content", lambda task, pixels: None)
    monkeypatch.setattr("parts.standin.time", SimpleNamespace(perf_counter=lambda: 7.0, sleep=slept.append))
    for _ in range(2):
        device.propose([None] * 10, [None] * 10)  # type: ignore[list-item]
    assert slept == [pytest.approx(0.1), pytest.approx(0.2)], "it is busy with one batch at a time"


@pytest.mark.wide
def test_a_part_runs_and_keeps_the_rows_of_the_others(tmp_path: Path) -> None:
    out = tmp_path / "benchmark.json"
    other = {"part": "start", "what": "something", "figure": "1"}
    out.write_text(json.dumps({"rows": [other, {"part": "read", "what": "old", "figure": "1"}]}), encoding="utf-8")
    command = [sys.executable, BENCHMARK / "run.py", "--only", "read", "--quick", "--out", out]
    subprocess.run([*map(str, command)], cwd=ROOT, check=True, capture_output=True)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert other in rows
    assert [row["what"] for row in rows if row["part"] == "read"] == [
        f"random read of one image's mask, {name}, ms" for name in ("store", "png", "npz")
    ]


def test_the_two_commands_are_timed_into_figures_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    import tables
    from parts import commands

    (tmp_path / "commands-demo").mkdir()
    (tmp_path / "before").mkdir()
    (tmp_path / "before/Makefile").write_text("test:\n\t@true\n", encoding="utf-8")
    own = list(commands.TIMED.values())
    assert [row["what"] for row in commands.measure(tmp_path, quick=True)] == own
    rows = [{"part": "commands", **row} for row in commands.measure(tmp_path, quick=True, beside=tmp_path / "before")]
    assert [row["what"] for row in rows] == ["`make test` of unknown", *own]
    assert not (tmp_path / "commands-demo").exists()
    run = runpy.run_path(str(BENCHMARK / "run.py"))
    others = json.loads((BENCHMARK / "figures.json").read_text(encoding="utf-8"))
    (tmp_path / "figures.json").write_text(json.dumps(others), encoding="utf-8")
    monkeypatch.setitem(run["_take_over"].__globals__, "HERE", tmp_path)
    monkeypatch.setattr(tables, "main", lambda words: None)
    run["_take_over"]({"rows": rows})
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8")) == others
    taken, committed = (json.loads((folder / commands.FILE).read_text("utf-8")) for folder in (tmp_path, BENCHMARK))
    assert taken.keys() == committed.keys()
    names = [{row["key"]: row["name"] for row in table["rows"] if row["key"] in commands.TIMED}
             for table in (taken, committed)]  # fmt: skip
    assert names[0] == names[1] == commands.TIMED


# -- beside another build -----------------------------------------------------------------------------------


def _stand_in(root: Path, log: Path) -> None:
    """A checkout whose commands write down what they are asked, and take as long as they are told images."""
    commands = root / ".venv/bin"
    commands.mkdir(parents=True)
    script = f'#!/bin/sh\necho "$(basename "$0") $*" >> {log}\ncase "$*" in *fail*) echo sorry; exit 3;; esac\n'
    for name in ("wilss-masks", "wilss-train", "python"):
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)


def test_builds_take_turns_and_a_failure_is_told(tmp_path: Path) -> None:
    from parts import builds

    _stand_in(tmp_path / "other", tmp_path / "log")
    made = builds.builds_of(tmp_path, tmp_path / "other")
    other = made[builds.OTHER]
    assert made[builds.THIS].root == ROOT
    took = other.run("wilss-masks", "generate", "--step", 0)
    assert 0 < took.wall < 60
    assert (tmp_path / "log").read_text() == "wilss-masks generate --step 0\n"
    with pytest.raises(SystemExit, match="sorry"):
        other.run("wilss-train", "fail")
    order: list[str] = []

    def work(build: Any) -> Any:
        order.append(build.folder.name)
        return took

    taken = builds.interleaved(made, 2, work)
    assert order == ["this", "other", "other", "this"]
    assert len(taken["this"]) == len(taken["other"]) == 2
    with pytest.raises(SystemExit, match="has no .venv"):
        builds.builds_of(tmp_path, tmp_path)


@pytest.mark.parametrize("able", [True, False])
def test_a_build_makes_masks_in_bf16_as_well_where_the_processor_has_it(
    able: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from parts import builds

    monkeypatch.setattr(builds, "has_bf16", lambda device: able)
    made = builds._in_bf16(builds.Build(root=ROOT, folder=tmp_path / "this"))
    assert [(build.making, build.root, build.folder.is_dir()) for build in made.values()] == (
        [(("--set", "precision=bf16"), ROOT, True)] if able else []
    )


def test_rows_of_builds_are_ratios_of_what_more_work_takes() -> None:
    from parts import builds

    def took(*walls: float) -> list[Any]:
        return [builds.Spent(wall=wall, cpu=2 * wall) for wall in walls]

    long, short = took(5.0)[0], took(3.0)[0]
    assert long - short == builds.Spent(wall=2.0, cpu=4.0)
    rows = builds._rows("work", {"this": took(1.0, 2.0, 1.0), "other": took(2.0, 3.0, 4.0)}, 10, "at least 1.4")
    assert [round(one["values"]["median"], 3) for one in rows] == [2.0, 2.0, 10.0, 3.333]
    assert rows[0]["what"] == "work: images/s, this build over the other"


def test_manifests_of_builds_have_the_other_ones_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parts import builds

    import wilss

    monkeypatch.chdir(ROOT)
    other = tmp_path / "other"
    other.mkdir()
    text = (ROOT / "data_manifest.yaml").read_text()
    (other / "data_manifest.yaml").write_text(text.replace("vit_size: 192", "vit_size: 96"))
    build = builds.Build(root=other, folder=tmp_path)
    small = wilss.load_manifest(builds._manifest(tmp_path, build, 2, "built-in encoders"))
    assert small.masks["fmwiss"]["vit_size"] == 96
    large = wilss.load_manifest(builds._manifest(tmp_path, build, 2, "ViT-B/16 at 224"))
    assert large.encoders.clip.model == "ViT-B-16"


def test_own_rows_that_both_know_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from parts import builds

    _stand_in(tmp_path / "other", tmp_path / "log")
    (what,) = builds.OWN["scaling"]
    values = {"this": {what: {"median": 4.0}}, "other": {what: {"median": 8.0}, "gone": {"median": 1.0}}}
    monkeypatch.setattr(builds, "_own_rows", lambda build, part, quick: values[build.folder.name])
    rows = builds.measure_own(tmp_path, False, tmp_path / "other")
    assert [(one["what"], one["figure"]) for one in rows] == [
        (f"scaling: {what}, this build over the other", "0.5 (4 and 8)")
    ]
    monkeypatch.setattr(builds, "_walk", lambda build, words: builds.Spent(wall=1.0, cpu=1.0))
    monkeypatch.setattr(builds, "commit_of", lambda checkout: f"of {checkout.name}")
    for measure in (builds.measure_own, builds.measure_demo):  # the page's table names it, whichever part was run
        assert {one["beside"] for one in measure(tmp_path, True, tmp_path / "other")} == {"of other"}
    for measure in (builds.measure, builds.measure_training, builds.measure_demo, builds.measure_own):
        assert measure(tmp_path, False)[0]["what"] == "no other build"


def test_the_table_of_builds_is_empty_until_it_is_measured() -> None:
    from parts import speed_table

    assert speed_table.builds_markdown([]) == ""
    told = {"asked": "at least 1.4", "beside": "cc64a54"}
    titles = [title for title, *_ in speed_table.BUILDS[:3]]
    rows = [
        {**told, "part": part, "what": what, "figure": f"1.{number}", "version": version}
        for number, ((_, part, what), version) in enumerate(
            zip(speed_table.BUILDS, ("2 (def)", "2 (def)", "1 (abc)"), strict=False)
        )
    ]
    beside_the_table = {**told, "part": "builds", "what": "of no line", "figure": "9", "version": "3 (ghi)"}
    for ordered in ([*rows, beside_the_table], [beside_the_table, *rows[::-1]]):  # parts are measured in any order
        text = speed_table.builds_markdown(ordered)
        assert f"| {titles[0]} | 1.0 | at least 1.4 |" in text
        assert f"| {titles[1]} | 1.1 | at least 1.4 |" in text
        assert f"| {titles[2]} * | 1.2 | at least 1.4 |" in text
        assert "Beside cc64a54, by wilss 2 (def); a star: by 1 (abc); at 1 both" in text


def test_a_table_names_the_card() -> None:
    from parts import speed_table

    measured = {"version": "1 (abc)"}
    card = {"part": "gpu", "what": "x", "figure": "1", "asked": "", "card": "H200, CUDA 13"}
    assert speed_table.markdown([card], measured).endswith("On a GPU: H200, CUDA 13.")


# -- a GPU's part, on a CPU ---------------------------------------------------------------------------------


@pytest.mark.wide
def test_the_part_of_a_gpu_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its smallest form, the compiler and the training of a base left out; the figures mean nothing."""
    from parts import common, gpu

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(gpu, "manifest_over", lambda scratch, count: common.manifest_over(scratch, 2))
    monkeypatch.setattr(gpu, "linked_manifest", lambda scratch, count: common.manifest_over(scratch, 2))

    def compiler(*_: Any, **__: Any) -> Any:
        raise OSError("no compiler here")

    monkeypatch.setattr(torch, "compile", lambda path: compiler)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: None)
    monkeypatch.setattr(gpu, "folder_of", lambda scratch: scratch)
    timing = SimpleNamespace(images=16)
    monkeypatch.setattr(gpu, "over_bare", lambda run, repeats: ({"trainer": [2.0], "bare": [1.0]}, [timing]))
    rows = gpu.measure(tmp_path, quick=True, device="cpu")
    said = {one["what"]: one["figure"] for one in rows}
    assert "both forwards, 96 x 96, batch 2, images/s" in said
    assert "end to end / both bare forwards, images/s" in said
    assert 90 < next(one["percent"] for one in rows if "percent" in one) <= 100
    assert said["torch.compile"] == "does not run here: OSError"
    assert said["trainer / bare loop on batches in memory, images/s"].startswith("0.5 ")
    assert all(one["card"] == "cpu" for one in rows if "card" in one)
    if not torch.cuda.is_available():
        assert gpu.measure(tmp_path, quick=True)[0]["what"] == "no GPU here"


def test_images_of_an_epoch_are_read_from_a_log(tmp_path: Path) -> None:
    from parts import builds

    lines = (
        {"kind": "start", "step": 0, "run": {"images": 147, "batch_size": 16, "epochs": 2}},
        {"kind": "step", "step": 10, "steps": 18},
        {"kind": "step", "step": 18, "steps": 18},
    )
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert builds._images_an_epoch(tmp_path) == 16 * 9
