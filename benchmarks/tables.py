"""The results as Markdown tables."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from contenders import MEASURED, PEERS, Forward, Ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from results import Results, Row

NOTHING = "-"
TITLES = {
    "vgg16": "VGG16", "resnet50": "ResNet50", "densenet121": "DenseNet121", "mobilenet_v2": "MobileNetV2",
    "efficientnet_b0": "EfficientNet-B0", "squeezenet": "SqueezeNet 1.1", "unet": "U-Net", "mlp": "MLP",
}  # fmt: skip
AIMS = {"start-up": "under 1.5", "start-up without --cache": "under 1.5", "ten targets": "under 0.75"}
HEADERS = [
    "composite", "batch", "forward ms", "ms", "x forward", "floor", "emitted", "x floor", "zennit x forward", "captum x forward",
    "zennit / ours", "captum / ours", "MiB", "zennit MiB", "captum MiB", "to zennit",
]  # fmt: skip


def title(model: str) -> str:
    """A network's name as its authors write it."""
    return TITLES.get(model, model)


def environment(results: Results) -> str:
    """Dates, machine and versions, a line each."""
    dates = sorted({row.date for row in results.rows})
    lines = {"date": dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"} if dates else {}
    return "\n".join(f"- {key}: {value}" for key, value in (lines | results.environment).items())


def models_of(rows: Sequence[Row]) -> list[str]:
    """The measured networks, in the order of the tables."""
    return _measured([row.model for row in rows], TITLES)


def composites_of(rows: Sequence[Row]) -> list[str]:
    """The measured composites, in the order of the tables."""
    return _measured([row.composite for row in rows], MEASURED)


def ordered(rows: Sequence[Row]) -> list[Row]:
    """The rows in the order of the tables."""
    models, composites = models_of(rows), composites_of(rows)
    return sorted(rows, key=lambda row: (models.index(row.model), composites.index(row.composite), row.batch))


def _measured(names: Sequence[str], order: Iterable[str]) -> list[str]:
    return [name for name in dict.fromkeys([*order, *names]) if name in names]


def speed(results: Results) -> str:
    """One table per network, one line per composite and batch size, remarks below."""
    parts = []
    for model in models_of(results.rows):
        rows = ordered([row for row in results.rows if row.model == model])
        parts.append(f"### {title(model)}\n\n{table(HEADERS, [_cells(row) for row in rows])}{_remarks(rows)}")
    return "\n\n".join(parts)


def _cells(row: Row) -> list[str]:
    figures = [number(row.cost()), number(row.floor), number(row.emitted), number(row.over_floor())]
    figures += [number(row.cost(peer)) for peer in PEERS] + [number(row.lead(peer)) for peer in PEERS]
    peaks = [number(row.peak(name), 0) for name in (Ours.name, *PEERS)]
    distance = row.results[Ours.name].difference
    times = [milliseconds(row.least(Forward.name)), milliseconds(row.least(Ours.name))]
    return [row.composite, str(row.batch), *times, *figures, *peaks, NOTHING if distance is None else f"{distance:.0e}"]


def _remarks(rows: Sequence[Row]) -> str:
    """Why cells are empty, and what to know of others: each once, with the rows that it is about."""
    said: dict[str, list[Row]] = {}
    for row in rows:
        for name, result in row.results.items():
            for text in filter(None, (result.reason, result.remark)):
                said.setdefault(f"{name}: {text}", []).append(row)
            if result.seconds and len(result.seconds) < len(row.results[Ours.name].seconds):
                said.setdefault(f"{name}: {len(result.seconds)} runs, the first of them counting", []).append(row)
    lines = []
    for text, about in said.items():
        batches = {composite: [row.batch for row in about if row.composite == composite] for composite in composites_of(about)}
        named = [
            composite if len(some) == sum(row.composite == composite for row in rows) else f"{composite}, batch {_list(some)}"
            for composite, some in batches.items()
        ]
        everywhere = len(about) == len(rows)
        lines.append(f"- {text}" + ("" if everywhere else f" ({'; '.join(named)})"))
    return "\n\n" + "\n".join(lines) if lines else ""


def _list(batches: Sequence[int]) -> str:
    return " and ".join(map(str, batches))


def facts(results: Results) -> str:
    """Start-up, compiling and several targets: fastest and median of the runs, and the ratio of the medians."""
    lines = []
    for name, fact in results.facts.items():
        (first, a), (second, b) = fact.seconds.items()
        cells = [f"{milliseconds(min(found))} / {milliseconds(statistics.median(found))}" for found in (a, b)]
        ratios = [number(min(a) / min(b)), number(statistics.median(a) / statistics.median(b))]
        lines.append([name, first, cells[0], second, cells[1], " / ".join(ratios), AIMS.get(name.partition(",")[0], NOTHING)])
    headers = ["", "measured", "ms, fastest / median", "against", "ms, fastest / median", "ratio, fastest / median", "aim"]
    return table(headers, lines, left={0, 1, 3})


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], left: set[int] | frozenset[int] = frozenset({0})) -> str:
    """A Markdown table; columns in which nothing stands are left out, numbers stand on the right."""
    kept = [column for column, _ in enumerate(headers) if any(line[column] != NOTHING for line in lines)]
    marks = ["---" if column in left else "--:" for column, _ in enumerate(headers)]
    grid = [[line[column].replace("|", "\\|") for column in kept] for line in (headers, marks, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in grid)


def milliseconds(seconds: float | None) -> str:
    """Three or four significant digits."""
    return NOTHING if seconds is None else f"{1000 * seconds:.0f}" if seconds >= 1 else f"{1000 * seconds:.1f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many digits behind the point."""
    return NOTHING if value is None else f"{value:.{digits}f}"
