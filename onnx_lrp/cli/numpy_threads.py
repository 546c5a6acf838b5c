"""How many threads NumPy starts."""

from __future__ import annotations

import os
import sys

__all__ = ["load_numpy"]


def load_numpy() -> None:
    """Imports NumPy with one thread for linear algebra, of which an explanation does none: ending the others takes up to 50 ms."""
    name = "OPENBLAS_NUM_THREADS"
    if "numpy" in sys.modules or name in os.environ:
        return
    os.environ[name] = "1"
    import numpy as np  # noqa: F401

    del os.environ[name]  # it is read when NumPy is loaded; programs that are called shall not have it
