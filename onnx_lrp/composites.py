"""Composites: which rule each node gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from onnx_lrp.errors import CompositeError, suggest
from onnx_lrp.operators import Role
from onnx_lrp.plan import NodeView
from onnx_lrp.rules import (
    AlphaBeta,
    Deconvnet,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    GuidedBackprop,
    Move,
    Norm,
    Pass,
    Rule,
    Signal,
    SoftmaxTaylor,
    Taylor,
    Uniform,
    ZBox,
    ZPlus,
)

if TYPE_CHECKING:
    from onnx_lrp.graph import Array
    from onnx_lrp.rules import Stabilizer

Predicate: TypeAlias = Callable[[NodeView], bool]


@dataclass(frozen=True)
class Selector:
    """Chooses nodes. Selectors combine with &, | and ~."""

    predicate: Predicate
    description: str

    def __call__(self, view: NodeView) -> bool:
        """Whether the node is chosen."""
        return self.predicate(view)

    def __and__(self, other: Selector) -> Selector:
        return Selector(lambda view: self(view) and other(view), f"{self.description} and {other.description}")

    def __or__(self, other: Selector) -> Selector:
        return Selector(lambda view: self(view) or other(view), f"{self.description} or {other.description}")

    def __invert__(self) -> Selector:
        return Selector(lambda view: not self(view), f"not {self.description}")

    def __str__(self) -> str:
        return self.description


def by_type(*names: str) -> Selector:
    """Nodes of these operators ("Conv") or kinds ("convolution", "dense", "pool" ..., see NodeView.kind)."""
    return Selector(lambda view: view.op in names or view.kind in names, ", ".join(names))


def by_role(*roles: Role | str) -> Selector:
    """Nodes of these roles."""
    return Selector(lambda view: view.role in roles, ", ".join(str(role) for role in roles))


def by_name(*patterns: str) -> Selector:
    """Nodes whose name matches one of these patterns (* and ? as in file names)."""
    return Selector(lambda view: any(fnmatchcase(view.name, pattern) for pattern in patterns), "named " + ", ".join(patterns))


def first() -> Selector:
    """The convolutions and dense layers that an explained input reaches without passing another one."""
    return Selector(lambda view: view.is_first, "first layer")


def last() -> Selector:
    """The convolution or dense layer that comes last."""
    return Selector(lambda view: view.is_last, "last layer")


def first_n(n: int) -> Selector:
    """The first n convolutions and dense layers in topological order, and what lies between them."""
    return Selector(lambda view: view.layer < n, f"first {n} layers")


def between(start: float, stop: float) -> Selector:
    """The nodes from one fraction of the way from input to output up to another (topological order, stop excluded)."""
    return Selector(lambda view: start <= view.index / view.count < stop, f"from {start:g} to {stop:g} of the way")


def where(predicate: Predicate, description: str = "predicate") -> Selector:
    """The nodes for which a function of a NodeView is true."""
    return Selector(predicate, description)


Entry: TypeAlias = "tuple[str | Iterable[str] | Predicate, Rule]"
"""What selects (a type name, several, a Selector or any predicate), and the rule."""

LAYER = by_type("convolution", "dense")


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
    times_input: ClassVar[bool] = False
    """Whether the result is multiplied by the tensor it belongs to."""

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

    def __str__(self) -> str:
        width = max((len(str(selector)) for selector, _ in self.entries), default=0)
        return "\n".join(f"{str(selector).ljust(width)}  {rule}" for selector, rule in self.entries)


Stab: TypeAlias = "float | Stabilizer"
Maps: TypeAlias = "Iterable[Entry] | None"

_MOVES: list[Entry] = [(by_role(Role.ROUTE), Move())]


def base_map(stabilizer: Stab = 1e-6) -> list[Entry]:
    """What all LRP composites do with nodes that are neither convolution nor dense layer."""
    return [
        (by_role(Role.POINTWISE), Pass()),
        (by_role(Role.SUM), Norm(stabilizer)),
        (by_type("pool", "resize"), Norm(stabilizer)),
        (by_type("scale"), Epsilon()),
        *_MOVES,
        (by_role(Role.PRODUCT) & Selector(lambda view: view.gated, "gated"), Signal()),
        (by_role(Role.PRODUCT), Uniform(stabilizer)),
        (by_type("lrn"), Taylor(stabilizer)),
        (by_role(Role.NORMALIZATION), Epsilon()),
        (by_role(Role.SOFTMAX), SoftmaxTaylor()),
    ]


COMPOSITES: dict[str, type[Composite]] = {}
"""Key -> composite class; make one with its options and pass it to an Explainer, or pass the key and the options."""


def register(key: str) -> Callable[[type[Composite]], type[Composite]]:
    """Registers a composite class under a key."""

    def enter(composite: type[Composite]) -> type[Composite]:
        COMPOSITES[key] = composite
        return composite

    return enter


class _Layered(Composite):
    """The common form: a rule for convolutions, one for dense layers, perhaps one for the first layer, the base map for the rest."""

    def __init__(self, convolution: Rule, dense: Rule, first_rules: Sequence[Entry] = (), stabilizer: Stab = 1e-6, **maps: Maps):
        own: list[Entry] = [*((first() & _selector(key), rule) for key, rule in first_rules)]
        own += [("convolution", convolution), ("dense", dense), *base_map(stabilizer)]
        super().__init__(own, **maps)


@register("epsilon")
class EpsilonComposite(_Layered):
    """Epsilon on convolutions and dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(Epsilon(epsilon, bias), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("epsilon_plus")
class EpsilonPlus(_Layered):
    """ZPlus on convolutions, Epsilon on dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        super().__init__(ZPlus(stabilizer, bias), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("epsilon_plus_flat")
class EpsilonPlusFlat(_Layered):
    """ZPlus on convolutions, Epsilon on dense layers, Flat on the first layer."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        flat: list[Entry] = [(LAYER, Flat(stabilizer))]
        super().__init__(ZPlus(stabilizer, bias), Epsilon(epsilon, bias), flat, stabilizer, **maps)


@register("epsilon_alpha2_beta1")
class EpsilonAlpha2Beta1(_Layered):
    """AlphaBeta(2, 1) on convolutions, Epsilon on dense layers."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", **maps: Maps):
        super().__init__(AlphaBeta(2.0, 1.0, stabilizer, bias, empty), Epsilon(epsilon, bias), (), stabilizer, **maps)


@register("epsilon_alpha2_beta1_flat")
class EpsilonAlpha2Beta1Flat(_Layered):
    """AlphaBeta(2, 1) on convolutions, Epsilon on dense layers, Flat on the first layer."""

    def __init__(self, *, epsilon: Stab = 1e-6, stabilizer: Stab = 1e-6, bias: Any = "absorb", empty: Any = "drop", **maps: Maps):
        rule = AlphaBeta(2.0, 1.0, stabilizer, bias, empty)
        super().__init__(rule, Epsilon(epsilon, bias), [(LAYER, Flat(stabilizer))], stabilizer, **maps)


@register("epsilon_gamma_box")
class EpsilonGammaBox(_Layered):
    """Gamma(0.25) on convolutions, Epsilon on dense layers, ZBox(low, high) on first convolutions."""

    def __init__(
        self,
        *,
        low: float | Array | None = None,
        high: float | Array | None = None,
        epsilon: Stab = 1e-6,
        gamma: float = 0.25,
        stabilizer: Stab = 1e-6,
        bias: Any = "absorb",
        **maps: Maps,
    ):
        if low is None or high is None:
            raise CompositeError("epsilon_gamma_box needs low= and high=, the smallest and largest values that the input can have")
        box: list[Entry] = [("convolution", ZBox(low, high, stabilizer))]
        super().__init__(Gamma(gamma, stabilizer, bias), Epsilon(epsilon, bias), box, stabilizer, **maps)


@register("excitation_backprop")
class ExcitationBackprop(Composite):
    """ZPlus on every affine layer, Norm on sums and average pools, activations as in the gradient (Zhang et al. 2016)."""

    def __init__(self, *, stabilizer: Stab = 1e-6, bias: Any = "absorb", **maps: Maps):
        own: list[Entry] = [
            (by_type("convolution", "dense", "scale"), ZPlus(stabilizer, bias)),
            (by_role(Role.POINTWISE), Gradient()),
            *base_map(stabilizer),
        ]
        super().__init__(own, **maps)


@register("gradient")
class GradientComposite(Composite):
    """The gradient of the output; starts with one at the target."""

    seed = "one"
    relu: ClassVar[Rule] = Gradient()

    def __init__(self, **maps: Maps):
        super().__init__([("relu", self.relu), (where(lambda view: True, "any"), Gradient())], **maps)  # noqa: ARG005


@register("input_x_gradient")
class InputTimesGradient(GradientComposite):
    """The gradient times the input; starts with one at the target."""

    times_input = True


@register("guided_backprop")
class GuidedBackpropComposite(GradientComposite):
    """The gradient with GuidedBackprop at ReLUs."""

    relu = GuidedBackprop()


@register("deconvnet")
class DeconvnetComposite(GradientComposite):
    """The gradient with Deconvnet at ReLUs."""

    relu = Deconvnet()


def make_composite(composite: str | Composite | Rule | type[Composite], options: dict[str, Any]) -> Composite:
    """A composite from its key and options; from a rule, which all affine layers get; or the given composite itself.

    Raises:
        CompositeError: unknown key, unknown or missing option, or options for a composite that is already made.
    """
    if isinstance(composite, (Composite, Rule)):
        if options:
            raise CompositeError(f"options ({', '.join(options)}) go with a composite's name, not with a composite or rule already made")
        return Composite([(LAYER, composite), *base_map()]) if isinstance(composite, Rule) else composite
    if isinstance(composite, str):
        if composite not in COMPOSITES:
            raise CompositeError(f"unknown composite {composite!r}" + suggest(composite, COMPOSITES))
        kind = COMPOSITES[composite]
    elif isinstance(composite, type) and issubclass(composite, Composite):
        kind = composite
    else:
        raise CompositeError(f"a composite is a name, a Composite or a Rule, not {type(composite).__name__}")
    known = _option_names(kind)
    for name in options:
        if name not in known:
            raise CompositeError(f"composite {composite!r} has no option {name!r}" + suggest(name, known))
    return kind(**options)


def _option_names(kind: type[Composite]) -> list[str]:
    """The keyword options of a composite class, those of the maps included."""
    import inspect

    own = [p.name for p in inspect.signature(kind).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return [*dict.fromkeys([*own, "name_map", "first_map", "layer_map"])]
