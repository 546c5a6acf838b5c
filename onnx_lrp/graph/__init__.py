"""Reading a model file into a graph, and what can be known of it without running it."""

from onnx_lrp.graph.graph import CANONICAL, Array, Graph, Node, TensorType, captured_by
from onnx_lrp.graph.reader import ModelSource, read_graph

__all__ = ["CANONICAL", "Array", "Graph", "ModelSource", "Node", "TensorType", "captured_by", "read_graph"]
