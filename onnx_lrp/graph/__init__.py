"""Reading a model file into a graph, and what can be known of it without running it."""

from onnx_lrp.graph.graph import CANONICAL, Graph, Node, captured_by
from onnx_lrp.graph.reader import ModelSource, read_graph
from onnx_lrp.tensors import Array, TensorType

__all__ = ["CANONICAL", "Array", "Graph", "ModelSource", "Node", "TensorType", "captured_by", "read_graph"]
