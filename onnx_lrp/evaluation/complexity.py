"""How much of the input an explanation names: sparse maps are easier to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def _flat(relevance: ArrayLike) -> NDArray[np.float64]:
    """The absolute relevance of each sample, (N, elements)."""
    array = np.asarray(relevance, np.float64)
    if array.ndim < 2 or not array.size:
        raise InputError(f"relevance of samples, (N, ...), is expected, not shape {array.shape}")
    if not np.isfinite(array).all():
        raise InputError("the relevance holds NaN or infinity")
    return np.abs(array).reshape(len(array), -1)


def sparseness(relevance: ArrayLike) -> NDArray[np.float64]:
    """The Gini index of the absolute relevance (Chalasani et al. 2020): 0 where all elements are equal, near 1 where one has everything.

    With the elements a_1 <= ... <= a_n of a sample: sum_i (2 i - n - 1) a_i / (n sum_i a_i). A map of zeros has 0.

    Args:
        relevance: (N, ...).

    Returns:
        (N,).

    Raises:
        InputError: these are no samples, or not finite.
    """
    sorted_ = np.sort(_flat(relevance), 1)
    n = sorted_.shape[1]
    total = sorted_.sum(1)
    weighted = sorted_ @ (2 * np.arange(1, n + 1) - n - 1)
    return np.asarray(np.divide(weighted, n * total, out=np.zeros(len(total)), where=total > 0))


def complexity(relevance: ArrayLike) -> NDArray[np.float64]:
    """The entropy of the shares of absolute relevance, in nats (Bhatt et al. 2020): small where few elements have most of it.

    With p_i = |a_i| / sum |a|: - sum_i p_i ln p_i, between 0 and ln n. A map of zeros says nothing about any element: ln n.

    Args:
        relevance: (N, ...).

    Returns:
        (N,).

    Raises:
        InputError: these are no samples, or not finite.
    """
    flat = _flat(relevance)
    total = flat.sum(1, keepdims=True)
    share = np.divide(flat, total, out=np.full_like(flat, 1 / flat.shape[1]), where=total > 0)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(-(share * logarithm).sum(1))


def effective_complexity(relevance: ArrayLike, threshold: float = 1e-5) -> NDArray[np.int64]:
    """How many elements have more than `threshold` of the largest absolute relevance (Nguyen and Martinez 2020).

    Args:
        relevance: (N, ...).
        threshold: a fraction of each sample's largest.

    Returns:
        (N,).

    Raises:
        InputError: these are no samples, or not finite.
    """
    flat = _flat(relevance)
    return np.asarray((flat > threshold * flat.max(1, keepdims=True)).sum(1), np.int64)
