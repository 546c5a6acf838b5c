"""Turn models of other frameworks and old file formats into ONNX files; installed as `onnx_lrp.converters`.

    from onnx_lrp.converters import convert

    conversion = convert("LeNet-5.txt")
    conversion.report.difference          # the largest difference between the source and the ONNX model on the same input
    conversion.save("lenet.onnx")

The sub-packages read one format each and import what they need only when they are used.
"""

from .conversion import Conversion, Layer, Report
from .registry import CONVERTERS, Converter, convert, find

__all__ = ["CONVERTERS", "Conversion", "Converter", "Layer", "Report", "convert", "find"]
