"""The operators that onnxruntime's CUDA provider has kernels for, as far as explainers use them (its OperatorKernels.md).

Operator -> the version of the operator that it has at opset 18, and the types of its first input: a kernel for another version is not
taken. The letters are numpy's kinds: f float, h float16, i int64, b bool.
"""

KERNELS = {
    **dict.fromkeys(("Abs", "Neg", "Sign"), (13, "fhi")),
    **dict.fromkeys(("Cast", "Concat", "Gather", "GatherElements", "NonZero"), (13, "fhib")),
    **dict.fromkeys(
        ("Erf", "Exp", "Gemm", "Log", "LogSoftmax", "MatMul", "Reciprocal", "Sigmoid", "Softmax", "Sqrt", "Sum", "Tanh"), (13, "fh")
    ),
    **dict.fromkeys(("Ceil", "Floor", "LRN", "ArgMax"), (13, "fh")),
    **dict.fromkeys(("Expand", "Flatten", "Slice", "Squeeze", "Transpose", "Unsqueeze"), (13, "fhib")),
    **dict.fromkeys(("Greater", "Less", "Max", "Min", "ReduceSum", "Tile"), (13, "fhi")),
    **dict.fromkeys(("Add", "Div", "Mul", "Sub"), (14, "fhi")),
    **dict.fromkeys(("GreaterOrEqual", "LessOrEqual", "Where"), (16, "fhi")),
    **dict.fromkeys(("ReduceL2", "ReduceMean", "ReduceProd", "ReduceSumSquare"), (18, "fh")),
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ScatterElements", "Split"), (18, "fhi")),
    **dict.fromkeys(("AveragePool", "Conv", "ConvTranspose"), (11, "fh")),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "Softplus", "Softsign"), (1, "fh")),
    **dict.fromkeys(("Elu", "HardSigmoid", "InstanceNormalization", "Selu"), (6, "fh")),
    **dict.fromkeys(("LeakyRelu", "PRelu"), (16, "fh")),
    **dict.fromkeys(("And", "Or"), (7, "b")),
    "Clip": (13, "fhi"),
    "ConstantOfShape": (9, "i"),
    "CumSum": (14, "fhi"),
    "Einsum": (12, "fh"),
    "Equal": (13, "fhib"),
    "HardSwish": (14, "fh"),
    "Identity": (16, "fhib"),
    "LayerNormalization": (17, "fh"),
    "MaxPool": (12, "fh"),
    "Not": (1, "b"),
    "Pad": (18, "fhb"),
    "Pow": (15, "fhi"),
    "Range": (11, "fi"),
    "Relu": (14, "fh"),
    "Reshape": (14, "fhib"),
    "Resize": (18, "fh"),
    "ScatterND": (18, "fhi"),
    "Shape": (15, "fhib"),
    "Size": (13, "fhib"),
    "TopK": (11, "fhi"),
}
