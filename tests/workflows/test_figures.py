"""Measured figures of the built-in data: kept whole, or not at all."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of two rows of figures, in the place of the committed ones."""
    monkeypatch.syspath_prepend(str(ROOT / "workflows/shapes"))
    import runs

    monkeypatch.setattr(runs, "HERE", tmp_path)
    path = tmp_path / "figures/learning.json"
    path.parent.mkdir()
    former = json.loads((ROOT / "workflows/shapes/figures/learning.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps({**former, "rows": former["rows"][:2]}), encoding="utf-8")
    return path


def test_figures_over_seeds_become_cells(figures: Path) -> None:
    import runs

    assert runs.spread([0.5, 0.75]) == {"mean": 62.5, "sd": pytest.approx(17.68, abs=0.01), "values": [50.0, 75.0]}
    assert (runs.spread([0.5]), runs.spread([None]), runs.seconds([])) == (50.0, None, None)
    assert runs.seconds([3.0, 1.0]) == {"low": 1.0, "high": 3.0}


def test_background_beyond_the_labels_is_a_difference_of_shares(figures: Path) -> None:
    import runs

    pixels = [[60, 5, 5], [10, 10, 0], [0, 0, 10]]  # a row for what is labelled: 70 of 100 background, and 70 found
    assert runs.excess_of_background({"confusion": {"pixels": pixels}}) == pytest.approx(0.0)
    pixels[1] = [20, 0, 0]
    assert runs.excess_of_background({"confusion": {"pixels": pixels}}) == pytest.approx(0.1)


def test_measured_figures_take_the_place_of_all_former_ones(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import runs

    new = json.loads(figures.read_text(encoding="utf-8"))["rows"][1]["new"]
    runs.keep_figures("learning", {"base": {"all": 50.0}, "finetune": {"all": 25.0}}, seeds=1)
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert [row["all"] for row in written["rows"]] == [50.0, 25.0]
    assert written["measured"]["command"] == "workflows/shapes/compare.sh"
    assert written["measured"]["seeds"] == 1
    assert f"| fine-tune | 0.0 ± 0.0 | {new['mean']:.1f} ± {new['sd']:.1f} | 25.0 |" in capsys.readouterr().out


def test_a_row_that_was_never_measured_is_waited_for(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import runs

    former = json.loads(figures.read_text(encoding="utf-8"))
    former["rows"].append({"key": "wilson", "name": "WILSON"})
    figures.write_text(json.dumps(former), encoding="utf-8")
    rows: dict[str, dict[str, float | None]] = {"base": {"all": 50.0}, "finetune": {"all": 25.0}}
    runs.keep_figures("learning", {**rows, "wilson": {"all": None}})
    assert "nothing yet for wilson" in capsys.readouterr().err
    runs.keep_figures("learning", {**rows, "wilson": {"all": 30.0}})
    assert [row["all"] for row in json.loads(figures.read_text(encoding="utf-8"))["rows"]] == [50.0, 25.0, 30.0]


def test_the_table_of_methods_has_the_rows_that_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "workflows/shapes"))
    import compare

    rows = json.loads((ROOT / "workflows/shapes/figures/learning.json").read_text(encoding="utf-8"))["rows"]
    assert [row["key"] for row in rows] == ["base", *(row.key for row in compare.ROWS), "joint"]
    assert {row.key: row.title for row in compare.ROWS}.items() <= {row["key"]: row["name"] for row in rows}.items()


def test_some_of_the_rows_change_nothing(figures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import runs

    before = figures.read_bytes()
    runs.keep_figures("learning", {"base": {"all": 50.0}, "finetune": {"all": None}})
    assert figures.read_bytes() == before
    assert "nothing yet for finetune" in capsys.readouterr().err


def test_a_table_names_the_versions_that_trained_its_runs(
    figures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runs
    import versions

    first, second = (tmp_path / f"runs/base-{seed}" for seed in (0, 1))
    for commit, date, trained in (
        ("aaa", "2026-11-01", first),
        ("aaa", "2026-11-01", first),
        ("bbb", "2026-11-03", second),
    ):
        now = {"version": "0.2.0", "commit": commit, "date": date}
        monkeypatch.setattr(versions, "version_now", lambda now=now: now)
        versions.note_version(trained)
    monkeypatch.setattr(versions, "version_now", lambda: {"version": "9", "commit": "ccc", "date": "2026-12-01"})
    runs.keep_figures("learning", {"base": {"all": 50.0}, "finetune": {"all": 25.0}}, trained=[second, first])
    measured = json.loads(figures.read_text(encoding="utf-8"))["measured"]
    assert {key: measured[key] for key in ("version", "commit", "date")} == {
        "version": "0.2.0", "commit": "aaa, bbb", "date": "2026-11-03",
    }  # fmt: skip


def test_a_run_of_no_known_version_is_not_taken_for_one_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "workflows"))
    import versions

    known, unknown = tmp_path / "known", tmp_path / "unknown"
    versions.note_version(known)
    now = versions.version_now()
    assert versions.version_of_runs([known]) == now
    assert versions.version_of_runs([known, unknown])["commit"] == f"{now['commit']}, unknown"
    assert versions.version_of_runs([known, unknown])["date"] == now["date"]


def test_a_run_is_noted_before_it_is_trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "workflows/shapes"))
    import runs
    import versions

    one, said = runs.Job(tmp_path / "runs/base-0", ("--out", "there")), []
    monkeypatch.setattr(runs, "command", lambda *words: said.append((words, versions.version_of_runs([one.out]))))
    runs.train_all([one], 1)
    assert said == [(("wilss-train", "-q", "--out", "there"), versions.version_now())]
    assert not one.out.exists()
