"""The table of stages: what each took beside the least that the machine needs for it; as rows, as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from measure import Figure, figure

from .limits import Rates
from .stopwatch import Spent

REST = "schedule and the rest"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage, of one image: milliseconds (medians over the rounds), bytes, operations, and its limit in ms."""

    name: str
    wall: Figure
    cpu: Figure
    nbytes: float
    flops: float
    limit: float

    @property
    def gap(self) -> float:
        """Milliseconds above the limit."""
        return self.wall.median - self.limit

    def as_json(self) -> dict[str, Any]:
        """For benchmark.json."""
        return {**asdict(self), "gap": self.gap}


@dataclass(frozen=True, kw_only=True)
class Table:
    """All stages of one configuration."""

    title: str
    images: int
    stages: tuple[Stage, ...]
    rates: Rates
    precision: str

    def share_of(self, name: str) -> Figure:
        """A stage's percent of the whole."""
        whole = sum(stage.wall.median for stage in self.stages)
        (found,) = (stage.wall for stage in self.stages if stage.name == name)
        return Figure(
            median=100 * found.median / whole, low=100 * found.low / whole, high=100 * found.high / whole,
            repeats=found.repeats,
        )  # fmt: skip

    def rates_json(self) -> dict[str, Any]:
        """The machine's rates that the limits rest on."""
        return asdict(self.rates)


def stages_of(
    spent: Sequence[Mapping[str, Spent]],
    counted: Mapping[str, Spent],
    taken: Sequence[tuple[float, float]],
    images: int,
    limits: Rates,
    precision: str,
    files: int,
    written: Mapping[str, float],
) -> tuple[Stage, ...]:
    """Rounds of a stopwatch as stages of one image, and what they leave of the whole as the last one.

    taken: wall and processor seconds of every round. written: stages whose bytes go to disk, with their part of the
    `files` that are synced.
    """
    names = list(dict.fromkeys(name for one in spent for name in one))
    stages = []
    for name in names:
        work = counted.get(name, Spent())
        to_disk = name in written
        limit = limits.limit(
            flops=work.flops,
            nbytes=0.0 if to_disk else work.nbytes,
            written=work.nbytes if to_disk else 0.0,
            files=files * written.get(name, 0.0),
            precision=precision,
        )
        stages.append(
            Stage(
                name=name,
                wall=figure([1000 * one.get(name, Spent()).wall / images for one in spent]),
                cpu=figure([1000 * one.get(name, Spent()).cpu / images for one in spent]),
                nbytes=work.nbytes / images,
                flops=work.flops / images,
                limit=1000 * limit / images,
            )
        )
    return (*stages, _rest(spent, taken, images))


def _rest(spent: Sequence[Mapping[str, Spent]], taken: Sequence[tuple[float, float]], images: int) -> Stage:
    wall = [1000 * (w - sum(s.wall for s in one.values())) / images for one, (w, _) in zip(spent, taken, strict=True)]
    cpu = [1000 * (c - sum(s.cpu for s in one.values())) / images for one, (_, c) in zip(spent, taken, strict=True)]
    return Stage(name=REST, wall=figure(wall), cpu=figure(cpu), nbytes=0.0, flops=0.0, limit=0.0)


def markdown(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    """The tables of all rows that are stages, one after the other, with the rates that their limits rest on."""
    tables: dict[str, list[Mapping[str, Any]]] = {}
    for one in rows:
        if "table" in one:
            tables.setdefault(one["table"], []).append(one)
    return "\n\n".join(_table(title, found, machine) for title, found in tables.items())


def _table(title: str, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    stages = [one["stage"] for one in rows if "stage" in one]
    whole = sum(stage["wall"]["median"] for stage in stages)
    cpu = sum(stage["cpu"]["median"] for stage in stages)
    widest = sorted(stages, key=lambda stage: -stage["gap"])[:3]
    lines = [
        f"**{title}.** {_about(rows, machine)}",
        "",
        "| stage | wall, ms | CPU, ms | MB | GFLOP | limit, ms | wall / limit |",
        "|---|---:|---:|---:|---:|---:|---:|",
        *(_line(stage, mark=stage in widest) for stage in stages),
        f"| sum | {whole:.3g} | {cpu:.3g} | | | {sum(stage['limit'] for stage in stages):.3g} | |",
    ]
    return "\n".join(lines)


def _line(stage: Mapping[str, Any], *, mark: bool) -> str:
    wall, limit = stage["wall"]["median"], stage["limit"]
    name = f"**{stage['name']}**" if mark else stage["name"]
    over = f"{wall / limit:.1f}" if limit > 0.0005 else ""
    cells = (name, f"{wall:.3g}", f"{stage['cpu']['median']:.3g}", _or_none(stage["nbytes"] / 1e6),
             _or_none(stage["flops"] / 1e9), _or_none(limit), over)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _or_none(value: float) -> str:
    return f"{value:.2g}" if value > 0.0005 else ""


def _about(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    (whole,) = (one for one in rows if "rates" in one)
    rates, precision = whole["rates"], whole["precision"]
    best = max(rates["gemm"][precision], rates["conv"][precision]) / 1e9
    threads = "one thread" if rates["threads"] == 1 else f"{rates['threads']} threads"
    return (
        f"{machine['processor']}, {threads}: {best:.0f} GFLOP/s ({precision}), memory "
        f"{max(rates['copy'], rates['triad']) / 1e9:.1f} GB/s, disk {rates['disk'] / 1e6:.0f} MB/s, "
        f"{1000 * rates['sync']:.2f} ms for a synced file. Bold: the largest gaps."
    )
