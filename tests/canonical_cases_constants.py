"""Models for constant folding, branches, and the removal of nodes that do nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from canonical import Case
from models import branch, build, op
from onnx import TensorProto, helper, numpy_helper

FOLD, REMOVE = "fold_constants", "remove_identities"
X = ("N", 3, 4)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def w(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).standard_normal(shape)


def _model(nodes: Any, constants: dict[str, Any] | None = None, x: Any = X, outputs: str = "y", **options: Any) -> Any:
    return build(nodes if isinstance(nodes, list) else [nodes], x if isinstance(x, dict) else {"x": x}, outputs, constants, **options)


def _shapes() -> list[Case]:
    tail = [op("Gather", "s i", "g"), op("Unsqueeze", "g zero", "u"), op("Concat", "u rest", "t", axis=0), op("Reshape", "x t")]
    known = {"i": np.array(0), "zero": ints(0), "rest": ints(-1)}
    filled = op("ConstantOfShape", "k", "w", value=numpy_helper.from_array(np.array([0.5])))
    constants = {
        "value": np.array([2.0, 3.0, 4.0, 5.0], np.float32),
        "value_float": 2.5,
        "value_floats": [1.0, 2.0, 3.0, 4.0],
    }
    whole = {"value_int": 3, "value_ints": [3]}
    return [
        Case("shape_known", _model([op("Shape", "x", "s"), *tail], known, (2, 3, 4)), "Reshape", FOLD),
        Case(
            "shape_part_known",
            _model([op("Shape", "x", "s", start=1), op("Concat", "rest s", "t", axis=0), op("Reshape", "x t")], known),
            "Reshape",
            FOLD,
        ),
        Case(
            "shape_negative_part",
            _model([op("Shape", "x", "s", start=-2, end=-1), op("Concat", "s rest", "t", axis=0), op("Reshape", "x t")], known),
            "Reshape",
            FOLD,
        ),
        Case("shape_end", _model([op("Shape", "x", "s", end=9), op("Reshape", "x s")], {}, (2, 3, 4)), "Reshape", FOLD),
        Case("size", _model([op("Size", "x", "s"), op("Cast", "s", "f", to=1), op("Div", "x f")], {}, (2, 3, 4)), "Scale", FOLD),
        Case("shape_of_open_batch", _model([op("Shape", "x", "s"), *tail], known), "Shape Gather Unsqueeze Concat Reshape", quiet=FOLD),
        Case(
            "size_of_open_batch", _model([op("Size", "x", "s"), op("Cast", "s", "f", to=1), op("Div", "x f")]), "Size Cast Div", quiet=FOLD
        ),
        *(
            Case(
                f"gathered_{index}",
                _model(
                    [
                        op("Shape", "x", "s"),
                        op("Gather", "s i", "g"),
                        op("Reshape", "g one", "u"),
                        op("Concat", "rest u", "t", axis=0),
                        op("Reshape", "x t"),
                    ],
                    {"i": np.array(index), "rest": ints(-1), "one": ints(1)},
                ),
                "Reshape",
                FOLD,
            )
            for index in (1, 2, -1)
        ),
        Case(
            "gathered_list",
            _model(
                [op("Shape", "x", "s"), op("Gather", "s i", "g"), op("Concat", "rest g", "t", axis=0), op("Reshape", "x t")],
                {"i": ints(2, -2), "rest": ints(-1)},
            ),
            "Reshape",
            FOLD,
        ),
        *(
            Case(
                f"sliced_{a}_{b}_{step}",
                _model(
                    [op("Shape", "x", "s"), op("Slice", "s a b i step", "g"), op("Concat", "rest g", "t", axis=0), op("Reshape", "x t")],
                    {"a": ints(a), "b": ints(b), "i": ints(0), "step": ints(step), "rest": ints(-1)},
                ),
                "Reshape",
                FOLD,
            )
            for a, b, step in ((1, 3, 1), (-2, 2**62, 1), (-1, 0, -1), (1, 99, 2))
        ),
        Case(
            "sliced_open",
            _model(
                [op("Shape", "x", "s"), op("Slice", "s a b", "g"), op("Concat", "g rest", "t", axis=0), op("Reshape", "x t")],
                {"a": ints(0), "b": ints(2), "rest": ints(-1)},
            ),
            "Shape Slice Concat Reshape",
            quiet=FOLD,
        ),
        Case("filled_weights", _model([filled, op("Conv", "x w b")], {"k": ints(2, 3, 2), "b": w(2)}), "Conv", FOLD),
        Case("identity_of_weights", _model([op("Identity", "k", "w"), op("Conv", "x w")], {"k": w(2, 3, 2)}), "Conv", FOLD),
        Case("turned_weights", _model([op("Transpose", "k", "w", perm=[1, 0]), op("MatMul", "x w")], {"k": w(5, 4)}), "Linear", FOLD),
        Case(
            "computed_norm",
            _model(
                [op("Add", "v e", "a"), op("Sqrt", "a", "r"), op("Reciprocal", "r", "d"), op("Mul", "x d")],
                {"v": np.array([0.5, 2.0, 1.0, 4.0]), "e": np.float32(0.1)},
            ),
            "Scale",
            FOLD,
        ),
        Case(
            "cast_constant",
            _model(
                [op("Range", "i n d", "r"), op("Cast", "r", "f", to=1), op("Add", "x f")],
                {"i": np.array(0), "n": np.array(4), "d": np.array(1)},
            ),
            "Scale",
            FOLD,
        ),
        Case("constant_output", _model([op("Add", "a b", "z"), op("Mul", "x a")], {"a": w(4), "b": w(4)}, outputs="y z"), "Scale", FOLD),
        Case(
            "two_outputs_of_one_node",
            _model([op("Split", "k", "a b", axis=0, num_outputs=2), op("Mul", "x a", "m"), op("Add", "m b")], {"k": w(2, 4)}),
            "Scale",
            FOLD,
        ),
        *(
            Case(
                f"constant_{key}",
                _model([op("Constant", "", "c", **{key: numpy_helper.from_array(value) if key == "value" else value}), op("Mul", "x c")]),
                "Scale",
                quiet=FOLD,
            )
            for key, value in constants.items()
        ),
        *(
            Case(
                f"constant_{key}",
                _model(
                    [
                        op("Constant", "", "c", **{key: value}),
                        op("Reshape", "c one", "s"),
                        op("Concat", "s four", "t", axis=0),
                        op("Reshape", "x t"),
                    ],
                    {"one": ints(1), "four": ints(-1)},
                    (3, 4),
                ),
                "Reshape",
                FOLD,
            )
            for key, value in whole.items()
        ),
        Case(
            "random",
            _model([op("RandomUniform", "", "r", shape=[4], seed=1.0), op("Mul", "x r")]),
            "RandomUniform Mul",
            quiet=FOLD,
            runs=False,
        ),
        Case(
            "random_like",
            _model([op("RandomNormalLike", "k", "r"), op("Mul", "x r")], {"k": w(4)}),
            "RandomNormalLike Mul",
            quiet=FOLD,
            runs=False,
        ),
    ]


def _branches() -> list[Case]:
    then = branch([op("Relu", "x", "t")], "t")
    other = branch([op("Mul", "x k", "e"), op("Neg", "e", "f")], "f", {"k": w(4)})
    outer = branch([op("Identity", "h", "e")], "e")
    constant = branch([], "k", {"k": w(4)})
    two = branch([op("Tanh", "h", "a"), op("Sin", "a", "b")], "b a")
    twice = branch([op("Cos", "h", "a"), op("Sin", "h", "b")], "a b")
    computed = branch([op("Constant", "", "k", value_floats=[1.0, 2.0, 3.0, 4.0]), op("Mul", "x k", "e")], "e")
    yes, no = {"c": np.array(True)}, {"c": np.array([False])}
    tanh, end = op("Tanh", "x", "h"), op("Add", "h y", "z")

    def choose(condition: dict[str, Any], first: Any, second: Any, *nodes: Any, outputs: str = "y", **options: Any) -> Any:
        return _model(
            [*nodes, op("If", "c", options.pop("made", "y"), then_branch=first, else_branch=second)], condition, outputs=outputs, **options
        )

    inner = op(
        "If", "d", "i", then_branch=branch([op("Sin", "m", "q")], "q"), else_branch=branch([op("Mul", "m k", "q")], "q", {"k": w(4)})
    )
    nested = {flag: branch([op("Mul", "x two", "m"), inner], "i", {"two": np.float32(2), "d": np.array(flag)}) for flag in (True, False)}
    open_inner = op("If", "o", "i", then_branch=branch([op("Sin", "m", "q")], "q"), else_branch=branch([op("Mul", "m h", "q")], "q"))
    open_nested = branch([op("Mul", "x two", "m"), open_inner], "i", {"two": np.float32(2)})
    squeeze = [
        op("Shape", "x", "s"),
        op("Gather", "s i", "g"),
        op("Equal", "g one", "c"),
        op("If", "c", "y", then_branch=branch([op("Squeeze", "x axes", "t")], "t"), else_branch=branch([op("Identity", "x", "e")], "e")),
    ]
    flat = [
        *squeeze[:3],
        op("If", "c", "y", then_branch=branch([op("Flatten", "x", "t")], "t"), else_branch=branch([op("Identity", "x", "e")], "e")),
    ]
    axis = {"i": np.array(1), "one": np.array(1), "axes": ints(1)}
    flag = {"x": X, "o": ()}
    flagged = {"types": {"o": np.bool_}, "x": flag}
    taken = [op("Tanh", "x", "h"), op("Sin", "h", "g")]
    open_if = op("If", "o", "y", then_branch=branch([op("Mul", "h k", "t")], "t"), else_branch=branch([op("Identity", "x", "t")], "t"))
    identity = [op("Tanh", "x", "g"), op("Identity", "g", "h"), open_if]
    body = branch(
        [op("Identity", "go", "on"), op("Mul", "state k", "scaled"), op("Add", "scaled h", "next")], "next", inputs="step go state"
    )
    body.input[0].CopyFrom(helper.make_tensor_value_info("step", TensorProto.INT64, []))
    body.input[1].CopyFrom(helper.make_tensor_value_info("go", TensorProto.BOOL, []))
    body.input[2].CopyFrom(helper.make_tensor_value_info("state", TensorProto.FLOAT, None))
    body.output.insert(0, helper.make_tensor_value_info("on", TensorProto.BOOL, []))
    loop = [op("Tanh", "x", "g"), op("Identity", "g", "h"), op("Loop", "n - x", "y", body=body)]
    return [
        Case("then", choose(yes, then, other), "Relu", FOLD),
        Case("else", choose(no, then, other), "Scale", FOLD),
        Case("branch_reads_outside", choose(yes, outer, then, tanh), "Tanh", FOLD),
        Case(
            "branch_is_constant",
            _model([op("If", "c", "k1", then_branch=constant, else_branch=other), op("Mul", "x k1"), tanh], yes, outputs="y h"),
            "Scale Tanh",
            FOLD,
        ),
        Case("branch_of_two", choose(yes, two, twice, tanh, made="y z", outputs="y z"), "Tanh Tanh Sin", FOLD),
        Case("other_branch_of_two", choose(no, two, twice, tanh, made="y z", outputs="y z"), "Tanh Cos Sin", FOLD),
        Case("branch_holds_constant", choose(yes, computed, then), "Scale", FOLD),
        Case(
            "read_behind",
            _model([tanh, op("If", "c", "y", then_branch=branch([op("Sin", "h", "a")], "a"), else_branch=then), end], yes, outputs="z"),
            "Tanh Sin Add",
            FOLD,
        ),
        Case("nested_then", choose(yes, nested[True], then), "Scale Sin", FOLD),
        Case("nested_else", choose(yes, nested[False], then), "Scale", FOLD),
        Case(
            "nested_open",
            choose(yes, open_nested, then, tanh, x=flag, types={"o": np.bool_}),
            "Tanh Scale If",
            FOLD,
            feeds={"o": np.array(False)},
        ),
        Case("condition_of_shape", _model(squeeze, axis, (2, 1, 4)), "Squeeze", FOLD),
        Case("condition_of_shape_not_met", _model(flat, axis, (2, 3, 4)), "Identity", FOLD),
        Case("condition_of_part_of_shape", _model(squeeze, axis, ("N", 1, 4)), "Squeeze", FOLD),
        Case("open", _model([*taken[:1], open_if], {"k": w(4)}, **flagged), "Tanh If", quiet=FOLD, feeds={"o": np.array(True)}),
        Case(
            "open_reads_an_identity", _model(identity, {"k": w(4)}, **flagged), "Tanh If", REMOVE, quiet=FOLD, feeds={"o": np.array(True)}
        ),
        Case(
            "open_reads_a_folded_constant",
            _model([*taken[:1], op("Neg", "j", "k"), open_if], {"j": w(4)}, **flagged),
            "Tanh If",
            FOLD,
            feeds={"o": np.array(True)},
        ),
        Case(
            "open_reads_a_scale",
            _model([op("Mul", "x k", "m"), op("Add", "m k", "h"), open_if], {"k": w(4)}, **flagged),
            "Scale If",
            "recognise_scales merge_scales",
            feeds={"o": np.array(True)},
        ),
        Case(
            "open_reads_the_middle",
            _model([op("Mul", "x k", "h"), op("Add", "h k", "v"), open_if], {"k": w(4)}, outputs="y v", **flagged),
            "Scale Scale If",
            "recognise_scales",
            quiet="merge_scales",
            feeds={"o": np.array(True)},
        ),
        Case("loop", _model(loop, {"n": np.array(3), "k": w(4)}), "Tanh Loop", REMOVE, quiet=FOLD),
    ]


def _removed() -> list[Case]:
    tanh = op("Tanh", "x", "h")
    half = {"x": np.arange(-12, 12).reshape(2, 3, 4) / 8}
    return [
        Case("identity", _model([op("Identity", "x", "h"), op("Tanh", "h")]), "Tanh", REMOVE),
        Case(
            "identities",
            _model(
                [op("Identity", "x", "a"), op("Identity", "a", "b"), op("Tanh", "b", "c"), op("Identity", "c", "d"), op("Identity", "d")]
            ),
            "Tanh",
            REMOVE,
        ),
        Case("identity_is_output", _model([tanh, op("Identity", "h"), op("Sin", "h", "z")], outputs="y z"), "Tanh Sin", REMOVE),
        Case(
            "identity_and_its_input_are_outputs",
            _model([tanh, op("Identity", "h"), op("Sin", "y", "z")], outputs="y h z"),
            "Tanh Sin",
            REMOVE,
        ),
        Case("input_is_output", _model([op("Identity"), op("Sin", "x", "z")], outputs="y z"), "Identity Sin", quiet=REMOVE),
        Case("dropout", _model([op("Dropout", "x r", "h"), op("Tanh", "h")], {"r": np.float32(0.5)}), "Tanh", REMOVE),
        Case("dropout_attribute", _model([op("Dropout", "x", "h", ratio=0.3), op("Tanh", "h")], opset=7), "Tanh", REMOVE),
        Case("dropout_unused_mask", _model([op("Dropout", "x", "h m"), op("Tanh", "h")]), "Tanh", REMOVE),
        Case(
            "dropout_in_training",
            _model([op("Dropout", "x r t", "h"), op("Tanh", "h")], {"r": np.float32(0.5), "t": np.array(True)}),
            "Tanh",
            REMOVE,
            runs=False,
        ),
        Case(
            "dropout_used_mask",
            _model([op("Dropout", "x", "h m"), op("Not", "m", "n"), op("Where", "n x h")]),
            "Dropout Not Where",
            quiet=REMOVE,
        ),
        Case(
            "dropout_mask_output",
            _model([op("Dropout", "x", "h m"), op("Tanh", "h")], outputs="y m", types={"m": np.bool_}),
            "Dropout Tanh",
            quiet=REMOVE,
        ),
        Case(
            "cast_to_half_and_back",
            _model([op("Cast", "x", "h", to=10), op("Cast", "h", "g", to=1), op("Tanh", "g")]),
            "Tanh",
            REMOVE,
            feeds=half,
        ),
        Case("cast_to_double_and_back", _model([op("Cast", "x", "h", to=11), op("Tanh", "h", "g"), op("Cast", "g", to=1)]), "Tanh", REMOVE),
        Case("cast_to_int_and_back", _model([op("Cast", "x", "h", to=7), op("Cast", "h", to=1)]), "Cast Cast", quiet=REMOVE),
        Case(
            "cast_of_condition",
            _model([op("Greater", "x k", "c"), op("Cast", "c", "f", to=1), op("Mul", "x f")], {"k": w(4)}),
            "Greater Cast Mul",
            quiet=REMOVE,
        ),
        Case("cast_like", _model([op("CastLike", "x k", "h"), op("Tanh", "h")], {"k": w(4)}), "Tanh", REMOVE),
        Case(
            "cast_like_int",
            _model([op("CastLike", "i x", "f"), op("Add", "x f")], x={"x": X, "i": (4,)}, types={"i": np.int64}),
            "CastLike Add",
            quiet=REMOVE,
            feeds={"i": [1, 2, 3, 4]},
        ),
        *(Case(f"{kind}_of_one", _model([op(kind, "x", "h"), op("Tanh", "h")]), "Tanh", REMOVE) for kind in ("Sum", "Mean", "Max", "Min")),
        Case("concat_of_one", _model([op("Concat", "x", "h", axis=1), op("Tanh", "h")]), "Tanh", REMOVE),
        Case("sum_of_two", _model(op("Sum", "x x")), "Sum", quiet=REMOVE),
        Case("unused_nodes", _model([tanh, op("Sin", "x"), op("Exp", "h", "unused")]), "Sin", quiet=REMOVE),
    ]


CASES = [*_shapes(), *_branches(), *_removed()]
