"""For each operator: how it works on wide tensors. See `lifter` for the words."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence

from onnx_lrp.lanes.lifter import LiftedNode, Lifter
from onnx_lrp.lanes.shapes import NotLiftable

Rule = Callable[[Lifter, LiftedNode], None]


def _only(lift: Lifter, node: LiftedNode, index: int = 0) -> str:
    """The one input that may be wide."""
    wide = [position for position, tensor in enumerate(node.inputs) if tensor in lift.wide]
    if wide != [index]:
        raise NotLiftable(f"no rule for {node.op} with wide inputs {wide}")
    return node.inputs[index]


def _along(lift: Lifter, data: Sequence[str], touches_first: bool) -> bool:
    """Whether to work on the folded form: only where the first axis is left alone, and where that form is the cheaper one."""
    return not touches_first and lift.folds_cheaper(data) and all(lift.rank(tensor) for tensor in data)


def _in_form(lift: Lifter, tensor: str, folded: bool) -> str:
    return lift.folded(tensor) if folded else lift.unfolded(tensor)


# element by element ---------------------------------------------------------------------------------------------------


def elementwise(lift: Lifter, node: LiftedNode) -> None:
    """Narrow inputs broadcast along the lanes of unfolded ones; beside folded ones they must not have a batch axis of their own."""
    given = [tensor for tensor in node.inputs if tensor]
    wide = [tensor for tensor in given if tensor in lift.wide]
    if len(given) == 1:
        forms = lift.wide[given[0]]
        folded = bool(forms.folded) or (not forms.unfolded and lift.rank(given[0]) > 0)
        lift.emit(node, [_in_form(lift, given[0], folded) if tensor else "" for tensor in node.inputs], folded=folded)
        return
    rank = max(lift.rank(tensor) for tensor in given)
    if _may_fold(lift, given, wide, rank) and lift.folds_cheaper(wide):
        lift.emit(node, [lift.folded(tensor) if tensor in lift.wide else tensor for tensor in node.inputs], folded=True)
    else:
        lift.emit(node, [lift.unfolded(tensor, rank) if tensor in lift.wide else tensor for tensor in node.inputs], folded=False)


def _may_fold(lift: Lifter, given: Sequence[str], wide: Sequence[str], rank: int) -> bool:
    firsts = {lift.shape(tensor)[0] if lift.rank(tensor) == rank > 0 else None for tensor in wide}
    beside = [lift.shape(tensor) for tensor in given if tensor not in lift.wide]
    same = len(firsts) == 1 and (None not in firsts or (len(set(wide)) == 1 and lift.rank(wide[0]) == rank > 0))
    return same and all(len(shape) < rank or shape[0] == 1 for shape in beside)


# one axis or several --------------------------------------------------------------------------------------------------


def _axis_attribute(default: int) -> Rule:
    """The operator works along the axis in its attribute; only its first input may be wide."""

    def rule(lift: Lifter, node: LiftedNode) -> None:
        x = _only(lift, node)
        axis = int(node.attributes.get("axis", default)) % max(lift.rank(x), 1)
        folded = _along(lift, [x], axis == 0)
        lift.emit(node, [_in_form(lift, x, folded), *node.inputs[1:]], folded=folded, axis=axis + (not folded))

    return rule


def concat(lift: Lifter, node: LiftedNode) -> None:
    """Narrow inputs are repeated."""
    axis = int(node.attributes["axis"]) % lift.rank(node.inputs[0])
    folded = _along(lift, node.inputs, axis == 0)
    lift.emit(node, [_in_form(lift, tensor, folded) for tensor in node.inputs], folded=folded, axis=axis + (not folded))


def per_element(lift: Lifter, node: LiftedNode) -> None:
    """GatherElements, ScatterElements: all inputs have the same number of axes."""
    axis = int(node.attributes.get("axis", 0)) % lift.rank(node.inputs[0])
    lift.emit(node, [lift.unfolded(tensor) for tensor in node.inputs], folded=False, axis=axis + 1)


def gather(lift: Lifter, node: LiftedNode) -> None:
    """The data may be wide, or the indices into a table that all lanes share."""
    x, index = node.inputs
    axis = int(node.attributes.get("axis", 0)) % lift.rank(x)
    if x not in lift.wide and axis == 0:  # a table that all lanes look into: the index's axes come first
        folded = _along(lift, [index], False)
        lift.emit(node, [x, _in_form(lift, index, folded)], folded=folded)
        return
    _only(lift, node)
    folded = _along(lift, [x], axis == 0)
    lift.emit(node, [_in_form(lift, x, folded), index], folded=folded, axis=axis + (not folded))


def reduce(lift: Lifter, node: LiftedNode) -> None:
    """The axes are input 1, or all."""
    x, given = _only(lift, node), node.input(1)
    axes = lift.numbers(given) if given else []
    if axes is None:
        lift.emit(node, [lift.unfolded(x), _shifted(lift, given)], folded=False)
        return
    rank = lift.rank(x)
    if not rank:
        raise NotLiftable(f"{node.op} of a number")  # an empty list of axes would mean the lanes too
    if not axes and not node.attributes.get("noop_with_empty_axes", 0):
        axes = list(range(rank))
    axes = [axis % rank for axis in axes]
    folded = _along(lift, [x], 0 in axes)
    lift.emit(node, [_in_form(lift, x, folded), lift.ints(*(axis + (not folded) for axis in axes))], folded=folded)


def _shifted(lift: Lifter, axes: str) -> str:
    """Computed axes, beside the lanes' axis: those counted from the back stay."""
    return lift.op("Where", lift.op("Less", axes, lift.ints(0)), axes, lift.op("Add", axes, lift.ints(1)))


def cumulative(lift: Lifter, node: LiftedNode) -> None:
    """CumSum: the axis is input 1."""
    x = _only(lift, node)
    axis = lift.numbers(node.inputs[1])
    lift.emit(node, [lift.unfolded(x), lift.ints(axis[0] % lift.rank(x) + 1) if axis else _shifted(lift, node.inputs[1])], folded=False)


def slice_(lift: Lifter, node: LiftedNode) -> None:
    """The axes are input 3, or the first ones."""
    x = _only(lift, node)
    starts, ends, steps = node.inputs[1], node.inputs[2], node.input(4)
    if node.input(3):
        axes = lift.numbers(node.input(3))
    else:
        count = lift.shape(starts)[0]
        axes = list(range(count)) if isinstance(count, int) else None
    further = [steps] if steps else []
    if axes is None:
        if not node.input(3):
            raise NotLiftable("Slice along an unknown number of axes")
        lift.emit(node, [lift.unfolded(x), starts, ends, _shifted(lift, node.input(3)), *further], folded=False)
        return
    axes = [axis % lift.rank(x) for axis in axes]
    folded = _along(lift, [x], 0 in axes)
    given = lift.ints(*(axis + (not folded) for axis in axes))
    lift.emit(node, [_in_form(lift, x, folded), starts, ends, given, *further], folded=folded)


def pad(lift: Lifter, node: LiftedNode) -> None:
    """All axes are named, so that the amounts need no change."""
    x, rank = _only(lift, node), lift.rank(node.inputs[0])
    axes = lift.numbers(node.input(3)) if node.input(3) else list(range(rank))
    amounts = lift.numbers(node.inputs[1])
    if axes is None or amounts is None:
        shifted = _shifted(lift, node.input(3)) if axes is None else lift.ints(*(axis % rank + 1 for axis in axes))
        lift.emit(node, [lift.unfolded(x), node.inputs[1], node.input(2), shifted], folded=False)
        return
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis % rank], after[axis % rank] = amounts[position], amounts[position + len(axes)]
    folded = _along(lift, [x], bool(before[0] or after[0]))
    lead = [] if folded else [0]
    full = lift.ints(*lead, *before, *lead, *after)
    lift.emit(node, [_in_form(lift, x, folded), full, *([node.input(2)] if node.input(2) else [])], folded=folded)


def tile(lift: Lifter, node: LiftedNode) -> None:
    """The lanes are repeated once."""
    x = _only(lift, node)
    lift.emit(node, [lift.unfolded(x), lift.op("Concat", lift.ints(1), node.inputs[1], axis=0)], folded=False)


def transpose(lift: Lifter, node: LiftedNode) -> None:
    """The lanes' axis stays in front."""
    x = node.inputs[0]
    perm = [int(axis) for axis in node.attributes.get("perm", range(lift.rank(x))[::-1])]
    folded = _along(lift, [x], perm[:1] != [0])
    lift.emit(node, [_in_form(lift, x, folded)], folded=folded, perm=perm if folded else [0, *(axis + 1 for axis in perm)])


# shapes ---------------------------------------------------------------------------------------------------------------


def expand(lift: Lifter, node: LiftedNode) -> None:
    """The target's lengths are counted from the back, where the lanes' axis does not change them."""
    x, target = _only(lift, node), node.inputs[1]
    count = lift.shape(target)[0]
    if not isinstance(count, int):
        raise NotLiftable("Expand to an unknown number of axes")
    lift.emit(node, [lift.unfolded(x, max(count, lift.rank(x))), target], folded=False)


def reshape(lift: Lifter, node: LiftedNode) -> None:
    """A new shape of the same elements costs nothing where it is known; else the lanes' axis is put before the target."""
    x = _only(lift, node)
    if lift.is_fixed(node.outputs[0]):
        lift.relabel(node)
        return
    target = lift.op("Concat", lift.lanes, node.inputs[1], axis=0)  # a 0 copies the length that has moved along with it
    lift.emit(node, [lift.unfolded(x), target], folded=False)


def flatten(lift: Lifter, node: LiftedNode) -> None:
    """Reshape, with a fixed target."""
    x = node.inputs[0]
    if lift.is_fixed(node.outputs[0]):
        lift.relabel(node)
        return
    if int(node.attributes.get("axis", 1)) != 1:
        raise NotLiftable("Flatten of unknown lengths")
    lift.emit(node, [lift.folded(x)], folded=True)


def squeeze(lift: Lifter, node: LiftedNode) -> None:
    """Squeeze and Unsqueeze: the axes are input 1."""
    x = _only(lift, node)
    if lift.is_fixed(node.outputs[0]):
        lift.relabel(node)
        return
    if not node.input(1):
        raise NotLiftable("Squeeze of unknown lengths")
    axes = lift.numbers(node.inputs[1])
    shifted = _shifted(lift, node.inputs[1]) if axes is None else lift.ints(*(axis + (axis >= 0) for axis in axes))
    lift.emit(node, [lift.unfolded(x), shifted], folded=False)


def shape(lift: Lifter, node: LiftedNode) -> None:
    """All lanes have the same shape: the result is narrow."""
    start, end = int(node.attributes.get("start", 0)), node.attributes.get("end")
    bounds = {"start": start + (start >= 0)} | ({} if end is None else {"end": int(end) + (int(end) >= 0)})
    lift.emit_narrow(node, [lift.unfolded(node.inputs[0])], **bounds)


# layers ---------------------------------------------------------------------------------------------------------------


def per_sample(lift: Lifter, node: LiftedNode) -> None:
    """The first axis is a batch, to which the lanes are added."""
    x = _only(lift, node)
    if len(node.outputs) > 1:
        raise NotLiftable(f"{node.op} with several outputs")
    lift.emit(node, [lift.folded(x), *node.inputs[1:]], folded=True)


def resize(lift: Lifter, node: LiftedNode) -> None:
    """The first axis must keep its length."""
    axes, scales = node.attributes.get("axes"), lift.constants.get(node.input(2))
    keeps = all(axis > 0 for axis in axes) if axes is not None else scales is not None and scales.size > 0 and scales[0] == 1
    if not keeps:
        raise NotLiftable("Resize of the first axis")
    per_sample(lift, node)


def gemm(lift: Lifter, node: LiftedNode) -> None:
    """The rows are samples."""
    c = lift.shape(node.input(2)) if node.input(2) else ()
    if node.attributes.get("transA", 0) or (len(c) == 2 and c[0] != 1):
        raise NotLiftable("Gemm whose rows are no samples")
    per_sample(lift, node)


def matmul(lift: Lifter, node: LiftedNode) -> None:
    """Wide factors are stacks of matrices; beside a matrix that all lanes share the rows of all lanes make one product."""
    a, b = node.inputs
    ranks = lift.rank(a), lift.rank(b)
    if a in lift.wide and b not in lift.wide and ranks[0] >= 2 >= ranks[1] and lift.folds_cheaper([a]):
        lift.emit(node, [lift.folded(a), b], folded=True)
    elif b in lift.wide and a not in lift.wide and ranks[0] == 2 < ranks[1] and lift.folds_cheaper([b]):
        lift.emit(node, [a, lift.folded(b)], folded=True)
    elif min(ranks) >= 2:
        lift.emit(node, [lift.unfolded(t, max(ranks)) if t in lift.wide else t for t in (a, b)], folded=False)
    elif a in lift.wide and b not in lift.wide and ranks[1] <= 2:
        lift.emit(node, [lift.unfolded(a), b], folded=False)  # a row for each lane
    elif b in lift.wide and a not in lift.wide and ranks[0] == 1 and ranks[1] >= 2:
        lift.emit(node, [a, lift.unfolded(b)], folded=False)
    else:
        raise NotLiftable("MatMul of vectors that differ from lane to lane")


def einsum(lift: Lifter, node: LiftedNode) -> None:
    """The lanes get a letter of their own."""
    equation = node.attributes["equation"]
    equation = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow or "..." in equation:
        raise NotLiftable("Einsum without a result, or with an ellipsis")
    letter = next(letter for letter in string.ascii_letters if letter not in equation)
    terms = zip(left.split(","), node.inputs, strict=True)
    lifted = ",".join(letter + term if tensor in lift.wide else term for term, tensor in terms)
    given = [lift.unfolded(tensor) if tensor in lift.wide else tensor for tensor in node.inputs]
    lift.emit(node, given, folded=False, equation=f"{lifted}->{letter}{right}")


UNARY = "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Cos Cosh Elu Erf Exp Floor HardSigmoid HardSwish Identity IsInf "
UNARY += "IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh "
UNARY += "ThresholdedRelu"
BINARY = "Add And Clip Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor"
REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"
LAYERS = "AveragePool Conv ConvTranspose DepthToSpace GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool MaxPool SpaceToDepth"

RULES: dict[str, Rule] = {
    **dict.fromkeys(f"{UNARY} {BINARY}".split(), elementwise),
    **dict.fromkeys(REDUCTIONS.split(), reduce),
    **dict.fromkeys(LAYERS.split(), per_sample),
    "ArgMax": _axis_attribute(0),
    "ArgMin": _axis_attribute(0),
    "Concat": concat,
    "CumSum": cumulative,
    "Einsum": einsum,
    "Expand": expand,
    "Flatten": flatten,
    "Gather": gather,
    "GatherElements": per_element,
    "Gemm": gemm,
    "LogSoftmax": _axis_attribute(-1),
    "MatMul": matmul,
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "ScatterElements": per_element,
    "Shape": shape,
    "Slice": slice_,
    "Softmax": _axis_attribute(-1),
    "Split": _axis_attribute(0),
    "Squeeze": squeeze,
    "Tile": tile,
    "TopK": _axis_attribute(-1),
    "Transpose": transpose,
    "Unsqueeze": squeeze,
}
"""Operator -> its rule."""
