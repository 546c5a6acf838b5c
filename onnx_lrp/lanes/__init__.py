"""Several relevance passes over one forward pass."""

from onnx_lrp.lanes.lifter import lift
from onnx_lrp.lanes.shapes import NotLiftable

__all__ = ["NotLiftable", "lift"]
