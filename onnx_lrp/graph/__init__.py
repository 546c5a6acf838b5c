"""Reading a model file into a graph, and what can be known of it without running it."""

from onnx_lrp.graph.graph import CANONICAL, Array, Graph, Node, TensorType
from onnx_lrp.graph.reader import ModelSource, read_graph

__all__ = ["CANONICAL", "Array", "Graph", "ModelSource", "Node", "TensorType", "read_graph"]
