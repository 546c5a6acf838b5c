"""What a composite is: an ordered list of selectors with their rules."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from onnx_lrp.composites.selectors import Predicate, Selector, by_name, by_role, by_type, first, gated, where
from onnx_lrp.errors import CompositeError
from onnx_lrp.operators import Role
from onnx_lrp.rules import Epsilon, Move, Norm, Pass, Rule, Signal, SoftmaxTaylor, Taylor, Uniform, ZBox

if TYPE_CHECKING:
    from onnx_lrp.emitter import Emitter
    from onnx_lrp.graph import Array
    from onnx_lrp.plan import NodeView
    from onnx_lrp.rules import Stabilizer

Entry: TypeAlias = "tuple[str | Iterable[str] | Predicate, Rule]"
"""What selects (a type name, several, a Selector or any predicate), and the rule."""
Maps: TypeAlias = "Iterable[Entry] | None"
Stab: TypeAlias = "float | Stabilizer"


def _selector(key: str | Iterable[str] | Predicate, *, names: bool = False) -> Selector:
    if isinstance(key, Selector):
        return key
    if callable(key):
        return where(key, getattr(key, "__name__", "predicate"))
    keys = (key,) if isinstance(key, str) else tuple(key)
    if not keys or not all(isinstance(item, str) for item in keys):
        raise CompositeError(f"a map's entry starts with a name, several, or a predicate, not {key!r}")
    return by_name(*keys) if names else by_type(*keys)


def _entries(
    entries: Iterable[Entry] | None, what: str, *, names: bool = False, also: Selector | None = None
) -> list[tuple[Selector, Rule]]:
    result = []
    for entry in entries or ():
        try:
            key, rule = entry
        except (TypeError, ValueError):
            raise CompositeError(f"{what}: each entry is a pair (what selects, rule), not {entry!r}") from None
        if not isinstance(rule, Rule):
            raise CompositeError(f"{what}: {rule!r} is no rule")
        selector = _selector(key, names=names)
        result.append((also & selector if also else selector, rule))
    return result


class Composite:
    """An ordered list of (selector, rule); the first selector that fits a node gives its rule.

    Args:
        maps: the composite's own entries.
        name_map, first_map, layer_map: entries tried before them, in this order: by glob on node names; for first layers only, by type; by
            type. Each is a sequence of (key, rule).
    """

    seed: ClassVar[str] = "output"
    """Where relevance starts when nothing is asked for."""
    key: ClassVar[str] = ""
    """Its name in COMPOSITES."""
    family: ClassVar[str] = ""
    """What it is listed under."""
    options: dict[str, Any]
    """The keyword options that it was made with."""

    def __new__(cls, *_: Any, **options: Any) -> Self:
        """Keeps the options, for `save`."""
        composite = super().__new__(cls)
        composite.options = options
        return composite

    def __init__(
        self,
        maps: Iterable[Entry] = (),
        *,
        name_map: Iterable[Entry] | None = None,
        first_map: Iterable[Entry] | None = None,
        layer_map: Iterable[Entry] | None = None,
    ):
        self.entries = [
            *_entries(name_map, "name_map", names=True),
            *_entries(first_map, "first_map", also=first()),
            *_entries(layer_map, "layer_map"),
            *_entries(maps, "maps"),
        ]

    def rule_for(self, view: NodeView) -> Rule | None:
        """The rule of a node, or None when no entry fits."""
        return next((rule for selector, rule in self.entries if selector(view)), None)

    def finish(self, e: Emitter, relevance: str, tensor: str, sources: Sequence[str]) -> str:  # noqa: ARG002
        """Emits what is given out for a tensor, from its relevance: by default just that. `sources` are the explained tensors."""
        return relevance

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a .json or .yaml file, which `load`, `Explainer` and `onnx-lrp explain -c` read; see `onnx_lrp.composites.files`.

        Raises:
            CompositeError: a selector is a function of one's own, or the file cannot be written.
        """
        from onnx_lrp.composites.files import save_composite

        save_composite(self, path)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Composite:
        """Reads a composite from a .json or .yaml file.

        Raises:
            CompositeError: the file is missing or damaged, or something in it is unknown.
        """
        from onnx_lrp.composites.registry import make_composite

        return make_composite(os.fspath(path), {})

    def __str__(self) -> str:
        width = max((len(str(selector)) for selector, _ in self.entries), default=0)
        return "\n".join(f"{str(selector).ljust(width)}  {rule}" for selector, rule in self.entries)


def only_redistribute(bias: Any, otherwise: str) -> Any:
    """For rules without a bias of their own: "redistribute" where the composite says so, since it takes care of the stabiliser too."""
    return bias if bias == "redistribute" else otherwise


def base_map(stabilizer: Stab = 1e-6, bias: Any = "absorb") -> list[Entry]:
    """What all LRP composites do with nodes that are neither convolution nor dense layer; with bias="redistribute", these conserve too."""
    kept = only_redistribute(bias, "absorb")
    return [
        (by_role(Role.POINTWISE), Pass()),
        (by_role(Role.SUM), Norm(stabilizer, kept)),
        (by_type("pool", "resize"), Norm(stabilizer, kept)),
        (by_type("scale"), Epsilon(bias=kept)),
        (by_role(Role.ROUTE), Move()),
        (by_role(Role.PRODUCT) & gated(), Signal()),
        (by_role(Role.PRODUCT), Uniform(stabilizer)),
        (by_type("lrn"), Taylor(stabilizer)),
        (by_role(Role.NORMALIZATION), Epsilon(bias=kept)),
        (by_role(Role.SOFTMAX), SoftmaxTaylor()),
    ]


class Layered(Composite):
    """The common form: a rule for convolutions, one for dense layers, perhaps others for the lowest layers, the base map for the rest."""

    def __init__(self, convolution: Rule, dense: Rule, low: Iterable[Entry] = (), stabilizer: Stab = 1e-6, **maps: Maps):
        bias = getattr(dense, "bias", "absorb")
        super().__init__([*low, ("convolution", convolution), ("dense", dense), *base_map(stabilizer, bias)], **maps)


def box(key: str, low: float | Array | None, high: float | Array | None, stabilizer: Stab, bias: Any = "ignore") -> ZBox:
    """The box rule of a composite that needs both bounds.

    Raises:
        CompositeError: one of them is missing, or they do not fit together.
    """
    if low is None or high is None:
        raise CompositeError(f"{key} needs low= and high=, the smallest and largest values that the input can have")
    return ZBox(low, high, stabilizer, only_redistribute(bias, "ignore"))
