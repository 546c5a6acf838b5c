"""Runs the command line: python -m onnx_lrp.cli."""

from onnx_lrp.cli import process

if __name__ == "__main__":
    process()
