"""Turn models of other frameworks and old file formats into ONNX files; installed as `onnx_lrp.converters`."""
