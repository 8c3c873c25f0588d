"""One or two classes at a time: manifests of the protocols, runs that follow each other, and what is read of them."""

import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from wilss.data.manifest import load_manifest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, whose results lie elsewhere."""
    monkeypatch.syspath_prepend(str(ROOT / "workflows/shapes"))
    import steps

    monkeypatch.setattr(steps, "STEPS", tmp_path)
    return steps


def chain_of(steps: ModuleType, key: str) -> Any:
    """The chain of that key."""
    (found,) = (chain for chain in steps.CHAINS if chain.key == key)
    return found


def test_every_chain_has_the_protocol_that_it_says_on_the_built_in_data(steps: ModuleType) -> None:
    built_in = load_manifest(ROOT / "data_manifest.yaml")
    for chain in (*steps.CHAINS, *steps.TUNING):
        steps._write_manifest(chain)
        manifest = load_manifest(chain.manifest)
        assert manifest.train == built_in.train
        drawn, other = (one.data["main"].generate for one in (manifest, built_in))
        assert (drawn == other) == (not chain.tuned)
        assert manifest.supervision(0) == "pixel"
        assert {manifest.supervision(step) for step in range(1, manifest.protocol.num_steps)} == {"tags"}
        if not chain.tuned:
            assert manifest.protocol.name == chain.protocol
    tuning, reported = (load_manifest(chain.manifest).protocol for chain in (steps.TUNING[0], steps.ONE))
    assert not {one for step in range(1, 6) for one in tuning.new(step) if one not in reported.new(0)}


def test_a_step_starts_from_the_one_before_it_with_the_chains_settings(steps: ModuleType) -> None:
    one, shared, plain = (chain_of(steps, key) for key in ("15-1", "shared", "plain"))
    steps._write_manifest(one)
    jobs, others = list(steps._jobs(one, 1)), list(steps._jobs(plain, 1))
    assert len(jobs) == 6
    assert jobs[0] == others[0]  # they share their base
    assert "--from" not in jobs[0].words
    for before, after in itertools.pairwise(jobs):
        assert after.words[after.words.index("--from") + 1] == str(before.out)
    assert others[5].words[-len(steps.PLAIN) :] == steps.PLAIN
    assert list(steps._jobs(shared, 1))[1].words[-len(steps.SHARED) :] == steps.SHARED
    assert jobs[1].words[-len(steps.OWN) :] == steps.OWN
    words = list(steps._jobs(shared, 1, ["precision=fp32"]))[1].words
    assert words.index("precision=fp32") < words.index("heads=shared")
    assert "--seed 1 " in " ".join(jobs[3].words)


def test_figures_have_a_row_for_every_step_and_every_chain(steps: ModuleType) -> None:
    for chain in steps.CHAINS:
        steps._write_manifest(chain)
    for name, chain in steps.TABLES.items():
        rows = json.loads((ROOT / f"workflows/shapes/figures/{name}.json").read_text(encoding="utf-8"))["rows"]
        assert [row["key"] for row in rows] == list(steps._by_step(chain))
    assert [row["key"] for row in steps._ends(steps.CHAINS)["rows"]] == [chain.key for chain in steps.CHAINS]


def test_chains_that_are_named_have_a_table_of_their_own_once_all_of_them_are_done(
    steps: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import runs

    for module in (steps, runs):
        monkeypatch.setattr(module, "HERE", tmp_path)
    (tmp_path / "figures").mkdir()
    for chain in (chain_of(steps, "10-2"), chain_of(steps, "19-1")):
        CliRunner().invoke(steps.main, ["table", "--only", "10-2", "--only", "19-1"], catch_exceptions=False)
        assert not list((tmp_path / "figures").iterdir())
        for step in range(steps.protocol_of(chain).num_steps):
            (out := chain.out(step, 0)).mkdir(parents=True)
            scores = {"mean_iou": 0.5, "iou": {}}
            (out / "report.json").write_text(json.dumps({"scores": scores}), encoding="utf-8")
    CliRunner().invoke(steps.main, ["table", "--only", "10-2", "--only", "19-1"], catch_exceptions=False)
    told = json.loads((tmp_path / "figures/protocols.json").read_text(encoding="utf-8"))
    assert [(row["key"], row["all"]) for row in told["rows"]] == [("10-2", 50.0), ("19-1", 50.0)]
    assert told["measured"]["command"].endswith("run --only 10-2 --only 19-1")
    assert told["measured"]["seeds"] == 1
    for step in range(2):  # a second seed of one of them would make a mean of two beside one
        (out := chain_of(steps, "19-1").out(step, 1)).mkdir(parents=True)
        (out / "report.json").write_text(json.dumps({"scores": {"mean_iou": 0.75, "iou": {}}}), encoding="utf-8")
    done = CliRunner().invoke(steps.main, ["table", "--only", "10-2", "--only", "19-1"], catch_exceptions=False)
    assert json.loads((tmp_path / "figures/protocols.json").read_text(encoding="utf-8")) == told
    assert "not all have as many seeds (10-2 1, 19-1 2)" in done.output


def test_what_settings_were_chosen_on_has_both_kinds_of_heads_side_by_side(steps: ModuleType) -> None:
    for chain, value in zip(steps.TUNING, (0.5, 0.25), strict=True):
        steps._write_manifest(chain)
        (out := chain.out(1, 0)).mkdir(parents=True)
        scores = {"mean_iou": value, "mean_iou_new": value, "mean_iou_old": value}
        (out / "report.json").write_text(json.dumps({"scores": scores}), encoding="utf-8")
    cells = steps._tuned_cells()
    rows = json.loads((ROOT / "workflows/shapes/figures/steps-tuning.json").read_text(encoding="utf-8"))["rows"]
    assert [row["key"] for row in rows] == list(cells)
    assert (cells["star"]["all"], cells["star"]["all_shared"]) == (50.0, 25.0)
    assert not any(cells["heart"].values())


def test_seeds_that_are_not_done_yet_are_left_out_once_one_is(steps: ModuleType) -> None:
    chain = chain_of(steps, "19-1")
    steps._write_manifest(chain)
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        out = chain.out(step, seed)
        out.mkdir(parents=True)
        (out / steps.JUDGED).write_text(json.dumps({"iou": {}, "mean_iou": 0.5}), encoding="utf-8")
    assert steps.finished(chain) == [0]
    assert [row["all"] for row in steps._by_step(chain).values()] == [50.0, 50.0]


def test_what_a_chain_ends_with_is_read_from_its_last_reports(steps: ModuleType) -> None:
    chain = chain_of(steps, "19-1")
    steps._write_manifest(chain)
    protocol = load_manifest(chain.manifest).protocol
    assert not any(steps.at_the_end(chain).values())
    for seed in (0, 1):
        for step, value in ((0, 0.75), (1, 0.5 + 0.25 * seed)):
            out = chain.out(step, seed)
            out.mkdir(parents=True)
            iou = {protocol.taxonomy.name_of(one): value for one in protocol.seen(step)}
            scores = {"iou": iou, "mean_iou": value, "mean_iou_new": value, "mean_iou_old": value if step else None}
            (out / ("report.json" if seed else steps.JUDGED)).write_text(
                json.dumps({"scores": scores} if seed else scores), encoding="utf-8"
            )
            lines = ({"kind": "begin"}, *({"kind": "step", "timing": {"seconds": count + seed}} for count in (5, 10)))
            (out / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    cells = steps.at_the_end(chain)
    assert cells["base"]["values"] == [75.0, 75.0]
    assert [cells[key]["values"] for key in ("first", "later", "all")] == [[50.0, 75.0]] * 3
    last = list(steps._by_step(chain).values())[1]
    assert (last["new"]["mean"], last["masks"], last["seconds"]) == (62.5, None, {"low": 10.0, "high": 11.0})
    assert last["later"]["values"] == [50.0, 75.0]


def test_what_is_trained_is_judged_once(steps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr(steps, "command", lambda *words: asked.append(words))
    chain = chain_of(steps, "19-1")
    steps._write_manifest(chain)
    jobs = list(steps._jobs(chain, 0))
    for one in jobs:
        one.out.mkdir(parents=True)
        (one.out / "done.json").write_text("{}", encoding="utf-8")
    (jobs[0].out / "report.json").write_text(json.dumps({"scores": {"iou": {}}}), encoding="utf-8")
    (jobs[1].out / "report.json").write_text(json.dumps({"scores": None}), encoding="utf-8")
    for one in jobs:
        steps._judge(one)
    assert [words[:2] for words in asked] == [("wilss-eval", jobs[1].out)]


def test_a_base_that_chains_share_is_judged_once(steps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the same time as the others, so that two commands would write one file."""
    asked: list[object] = []
    monkeypatch.setattr(steps, "_make_masks", steps._write_manifest)
    monkeypatch.setattr(steps, "_judge", lambda one: asked.append(one.out))
    trained: list[object] = []
    monkeypatch.setattr(steps, "train_all", lambda jobs, at_once: trained.extend(one.out for one in jobs))
    monkeypatch.setattr(steps.Job, "is_done", True)
    steps.run_chains([chain_of(steps, "15-1"), chain_of(steps, "shared")], [0], 2)
    assert len(asked) == len(set(asked)) == 1 + 2 * 5


def test_masks_that_are_cut_anew_are_fused_from_those_of_the_chain(
    steps: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(steps, "command", lambda *words: asked.append(tuple(map(str, words))))
    import precise

    whole, cut = precise.CHAINS[:2]
    assert [cut.masks(step) == whole.masks(step) for step in (0, 1)] == [True, False]
    steps._make_masks(cut)
    fused = [words for words in asked if words[1] == "fuse"]
    assert [words[2] for words in fused] == [str(whole.masks(step)) for step in range(1, 6)]
    assert all(words[-2:] == ("--set", *cut.cut) for words in fused)
    assert len(asked) == 6 + 2 * 5
