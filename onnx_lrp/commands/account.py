"""The account of where relevance went, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx_lrp.conservation import Conservation

__all__ = ["print_account"]

_SHOWN = 10


def print_account(account: Conservation) -> None:
    """Print where the seed went, the ten nodes that lose most, and for each which setting would change it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:  # lines that are cut in two are hard to search
        console = Console(highlight=False, width=1000)
    whole = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("where relevance went", "amount", "% of the seed"):
        whole.add_column(name, justify="left" if name.startswith("where") else "right")
    for name, value in account.totals().items():
        whole.add_row(name, f"{value:.6g}", _percent(value, account.totals()["seed"]))
    console.print(whole)
    worst = account.worst(_SHOWN)
    if worst:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("largest losses", overflow="fold")
        table.add_column("rule", overflow="fold")
        table.add_column("% of the seed", justify="right", no_wrap=True)
        table.add_column("went to", no_wrap=True)
        table.add_column("what would change it", overflow="fold")
        for entry in worst:
            share = _percent(float(entry.lost.sum()), account.totals()["seed"])
            table.add_row(Text(f"{entry.node} ({entry.operator})"), Text(entry.rule), share, entry.main, Text(entry.advice))
        console.print(table)
    for entry in account.not_conserving if account.conserving else []:
        console.print(Text(f"does not conserve by design: {entry.node} ({entry.operator}), {entry.rule}"))


def _percent(value: float, seed: float) -> str:
    return f"{100 * value / seed:.3f}" if seed else "-"
