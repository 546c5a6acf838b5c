"""What the rows amount to, and which of them miss what is aimed at."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tables
from contenders import Captum, Ours, Zennit
from results import over

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from results import Results, Row

OVER_FLOOR = {"vgg16": 1.3, "resnet50": 1.6}
OVER_FLOOR_OF_OTHERS = 2.5
LEAD = {Zennit.name: 3.0, Captum.name: 1.0}
"""How many times our time a peer's is to be, in every row."""
MEAN_LEAD = 6.0
"""And zennit's in the geometric mean."""
_ALL = 0.97
"""From this share of the peak on, the memory of a process is at its peak."""
NOISE = 1.05
"""By what factor an image of a batch of 32 may seem dearer than one of 8 without being counted."""


@dataclass(frozen=True)
class Miss:
    """A row that does not reach what is aimed at."""

    row: Row
    what: str
    value: float
    aim: str
    why: str
    """What stands in the way."""


def leads(rows: Sequence[Row], peer: str) -> list[tuple[float, Row]]:
    """How many times our time a peer's is, in the rows that both can run, the smallest first."""
    found = [(lead, row) for row in rows if (lead := row.lead(peer)) is not None]
    return sorted(found, key=lambda pair: pair[0])


def limits_of_lead(rows: Sequence[Row]) -> list[float]:
    """How many times the time of the floor, at the speed of the forward pass, zennit's is: a lead beyond that takes less than the floor."""
    costs = [(row.cost(Zennit.name), row.floor) for row in rows]
    return [cost / floor for cost, floor in costs if cost is not None and floor]


def misses(rows: Sequence[Row]) -> Iterator[Miss]:
    """Every row that misses, in the table's order."""
    for row in rows:
        aim = OVER_FLOOR.get(row.model, OVER_FLOOR_OF_OTHERS)
        if (cost := row.over_floor()) is not None and cost > aim:
            yield Miss(row, "x floor", cost, f"at most {aim}", _spent(row))
        for peer, least in LEAD.items():
            if (lead := row.lead(peer)) is not None and lead <= least:
                yield Miss(row, f"{peer} / ours", lead, f"over {least:g}", _limit(row, peer, least))
        ours, theirs = row.peak(Ours.name), row.peak(Zennit.name)
        if ours is not None and theirs is not None and ours > theirs:
            yield Miss(row, "memory / zennit's", ours / theirs, "at most 1", _when(row))
        if (growth := growth_per_image(row, rows)) is not None and growth > NOISE:
            yield Miss(row, "time per image / that of batch 8", growth, "at most 1", _spent(row))


def _spent(row: Row) -> str:
    """Where the time of our graph goes."""
    return ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in row.shares.items())


def _limit(row: Row, peer: str, least: float) -> str:
    """What the lead over a peer would be at the floor, and where our time goes if that is not the reason."""
    cost = row.cost(peer)
    if cost is None or not row.floor:
        return _spent(row)
    limit = cost / row.floor
    return f"at the floor: {limit:.2f}" + ("" if limit <= least else f"; {_spent(row)}")


def _when(row: Row) -> str:
    """When our memory is at its peak."""
    ours = row.results[Ours.name]
    if ours.prepared_mib is None or ours.peak_mib is None:
        return ""
    early = ours.prepared_mib > _ALL * ours.peak_mib
    return "while the session is made" if early else f"in the run; {ours.prepared_mib:.0f} MiB before it"


def growth_per_image(row: Row, rows: Sequence[Row]) -> float | None:
    """What an image of a batch of 32 costs, in those of a batch of 8; None for other rows."""
    if row.batch != 32:
        return None
    small = next((r for r in rows if (r.model, r.composite, r.batch) == (row.model, row.composite, 8)), None)
    return over(over(row.least(Ours.name), 32), over(small.least(Ours.name), 8)) if small else None


def text(results: Results) -> str:
    """The summary as Markdown."""
    rows = tables.ordered(results.rows)
    lines = []
    for peer in LEAD:
        if found := leads(rows, peer):
            mean = statistics.geometric_mean(lead for lead, _ in found)
            smallest, where = found[0]
            aim = f" (aim: {MEAN_LEAD:g})" if peer == Zennit.name else ""
            lines.append(
                f"- {peer} takes {mean:.2f} times our time in the geometric mean of {len(found)} rows{aim}; "
                f"the smallest lead is {smallest:.2f}: {_name(where)}"
            )
    if limits := limits_of_lead(rows):
        beyond = ", ".join(f"{sum(limit < aim for limit in limits)} rows could not reach {aim:g}" for aim in (LEAD[Zennit.name], MEAN_LEAD))
        lines.append(f"- exactly at the floor, zennit would take {statistics.geometric_mean(limits):.2f} times our time, and {beyond}")
    growths = [growth for row in rows if (growth := growth_per_image(row, rows)) is not None]
    if growths:
        mean = statistics.geometric_mean(growths)
        lines.append(f"- an image of a batch of 32 costs {mean:.2f} times one of a batch of 8, in the geometric mean")
    missed = list(misses(rows))
    reached = len(rows) - len({id(miss.row) for miss in missed})
    lines.append(f"- {reached} of {len(rows)} rows reach every aim")
    parts = ["\n".join(lines)]
    if missed:
        cells = [[_name(miss.row), miss.what, f"{miss.value:.2f}", miss.aim, miss.why] for miss in missed]
        parts.append(tables.table(["row", "what", "measured", "aim", "what stands in the way"], cells, left={0, 1, 3, 4}))
    return "\n\n".join(parts)


def _name(row: Row) -> str:
    return f"{tables.title(row.model)}, {row.composite}, batch {row.batch}"
