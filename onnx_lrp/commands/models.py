"""The commands check, compile and composites: what would be done, without an input."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from onnx_lrp.commands.options import FALLBACK, USUAL, has_convolutions, with_bounds
from onnx_lrp.commands.printing import BOLD, CYAN, say, styled
from onnx_lrp.composites import ALIASES, COMPOSITES, FAMILIES, Composite, find_composite
from onnx_lrp.errors import InputError
from onnx_lrp.patterns import Patterns

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_lrp.plan import Plan

__all__ = ["check", "compile_", "composites"]

_NEEDED = {"low": 0.0, "high": 1.0, "patterns": Patterns({})}
"""Something for the options without which a composite cannot be made."""
_MAPS = ("name_map", "first_map", "layer_map", "maps")


def check(
    model: Path,
    composite: str | None,
    options: dict[str, Any],
    preprocess: str | None,
    output: str | None,
    *,
    as_json: bool,
    where: dict[str, Any] | None = None,
) -> int:
    """Print a model's plan, and with `where`, the options of Explainer that choose a device, which nodes are computed where.

    Returns:
        The exit code: 0 if all nodes have a rule, else 1.
    """
    from onnx_lrp.explainer import Explainer, plan_of

    name, chosen = composite or USUAL, with_bounds(model, composite or USUAL, options, preprocess)
    plan = plan_of(model, name, output=output, **chosen)
    if composite is None and not has_convolutions(plan):
        name, chosen = FALLBACK, options
        plan = plan_of(model, name, output=output, **chosen)
    placed = None
    if where is not None and not plan.unsupported:
        placed = Explainer(model, name, output=output, **where, **chosen).assignment()
    if as_json:
        text = plan.to_json()
        say(text if placed is None else json.dumps(json.loads(text) | {"assignment": placed.to_dict()}, indent=1))
    else:
        _print_plan(plan)
        if placed is not None:
            say(str(placed))
    return 1 if plan.unsupported else 0


def _print_plan(plan: Plan) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("node", "operator", "role", "rule"):
        table.add_column(name, overflow="fold", no_wrap=name in ("operator", "role"))
    for node, operator, role, rule in plan.rows():
        table.add_row(Text(node), Text(operator), role, Text(rule) if rule else Text("not supported", "bold red"))
    console = Console(highlight=False)
    if not console.is_terminal:  # lines that are cut in two are hard to search
        console = Console(highlight=False, width=1000)
    console.print(table)
    for step in plan.unsupported:
        domain, kind = step.view.node.domain, step.view.op
        operator = f"{domain}.{kind}" if domain else kind
        problem = f" ({step.problem})" if step.problem not in ("", kind) else ""
        say(f"not supported: node {step.view.name!r}: {operator}{problem}")
    covered = len(plan.steps) - len(plan.unsupported)
    say(f"relevance flows from {plan.output!r} to {', '.join(map(repr, plan.sources))}")
    say(f"{covered} of {len(plan.steps)} nodes covered ({100 * plan.coverage:.1f} %)")


def compile_(
    model: Path,
    composite: str | None,
    options: dict[str, Any],
    preprocess: str | None,
    output: str | None,
    record: list[str],
    to: Path,
    precision: str = "float32",
) -> None:
    """Write a model together with its relevance pass to an ONNX file, and say what it takes and gives.

    Raises:
        InputError: The file cannot be written, or is the model itself, or the precision is no matter of a file.
    """
    import onnx

    from onnx_lrp.explainer import Explainer

    if to.exists() and model.exists() and to.samefile(model):
        raise InputError(f"{to} is the model itself: choose another name")
    if to.is_dir():
        raise InputError(f"cannot write {to}: it is a folder")
    if precision == "tf32":
        raise InputError("TF32 is a setting of the session that runs the file, not of the file: choose float32 or float16")
    chosen = with_bounds(model, composite or USUAL, options, preprocess)
    same: dict[str, Any] = {"output": output, "record": record, "providers": "cpu", "precision": precision}
    explainer = Explainer(model, composite or USUAL, **same, **chosen)
    if composite is None and not has_convolutions(explainer.plan):
        explainer = Explainer(model, FALLBACK, **same, **options)
    explainer.save(to)
    graph = onnx.load(to, load_external_data=False).graph
    say(styled(str(to), BOLD))
    say("  inputs")
    for value in graph.input:
        note = "where relevance starts: the output at the class to explain, elsewhere 0" if value.name == "target_relevance" else ""
        say(f"    {_described(value)}{'  ' + note if note else ''}")
    say("  outputs")
    for value in graph.output:
        note = f"the explained output{', before ' + explainer.final_activation if explainer.final_activation else ''}"
        say(f"    {_described(value)}{'' if value.name.startswith('relevance') else '  ' + note}")


def _described(value: Any) -> str:
    import onnx

    kind = value.type.tensor_type
    lengths = [dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in kind.shape.dim]
    return f"{value.name}  {onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)} ({', '.join(lengths)})"


def composites(name: str | None) -> None:
    """Print the composites by family, with their options and other names; of a single one, which rule goes to which kind of node.

    Raises:
        CompositeError: There is no composite of this name.
    """
    if name is not None:
        _print_composite(*find_composite(name))
        return
    for family in dict.fromkeys([*FAMILIES, *(kind.family for kind in COMPOSITES.values())]):
        say(styled(f"{family}\n{'-' * len(family)}\n", CYAN))
        for kind in COMPOSITES.values():
            if kind.family == family:
                _print_head(kind, {})
                say("")
    say("onnx-lrp composites NAME shows which rule each kind of node gets.")


def _print_head(kind: type[Composite], preset: dict[str, Any]) -> None:
    """Name, description, options and other names of a composite; `preset` has the values of an alias."""
    defaults = {p.name: preset.get(p.name, p.default) for p in _parameters(kind)}
    options = [name if default in (None, inspect.Parameter.empty) else f"{name}={default}" for name, default in defaults.items()]
    also = [f"{name} ({_listed(alias.options)})" if alias.options else name for name, alias in ALIASES.items() if alias.key == kind.key]
    say(styled(kind.key or "a composite of its own", BOLD))
    say(f"  {(inspect.getdoc(kind) or '').splitlines()[0]}")
    say(f"  options: {', '.join(options) or 'none'}")
    if also:
        say(f"  also known as: {', '.join(also)}")


def _print_composite(kind: type[Composite], preset: dict[str, Any]) -> None:
    """One composite with its entries, in the order in which they are tried."""
    _print_head(kind, preset)
    needed: dict[str, Any] = {p.name: _NEEDED[p.name] for p in _parameters(kind) if p.name in _NEEDED}
    rows = [(str(selector), str(rule)) for selector, rule in kind(**needed | preset).entries]
    width = max(len(selector) for selector, _ in rows)
    say("  the first line that fits a node gives its rule:")
    for selector, rule in rows:
        say(f"    {selector.ljust(width)}  {rule}")


def _parameters(kind: type[Composite]) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(kind).parameters.values() if p.kind is p.KEYWORD_ONLY and p.name not in _MAPS]


def _listed(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in options.items())
