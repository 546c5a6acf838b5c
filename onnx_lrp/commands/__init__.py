"""What the commands of onnx-lrp do; `onnx_lrp.cli` has their options."""
