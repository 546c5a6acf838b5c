"""Relevance maps that were made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_lrp.commands.data import HDF5, Data
from onnx_lrp.errors import InputError

if TYPE_CHECKING:
    from onnx_lrp.graph import Array

__all__ = ["align"]


def align(maps: Path, data: Data, names: Iterable[str]) -> tuple[Array, dict[int, str]]:
    """Relevance maps made elsewhere, one for each sample.

    Args:
        maps: an .npy, .npz (key "relevance") or HDF5 file with as many maps as `names`, in that order; or a folder that has, for a sample
            of stem S, S.npy or, as `onnx-lrp explain` writes it, S_relevance.npz.
        data: the samples.
        names: of all samples, those left out of `data` included.

    Returns:
        The maps, shaped like data.x, and for the rows without a usable one the reason.

    Raises:
        InputError: the file cannot be read, or holds another number of maps.
    """
    one_by_one = maps.is_dir()
    whole = None if one_by_one else _maps(maps)
    places = {name: place for place, name in enumerate(names)}
    if whole is not None and len(whole) != len(places):
        raise InputError(f"{maps} holds {len(whole)} maps for {len(places)} samples")
    found = np.zeros_like(data.x)
    bad = {}
    for row, name in enumerate(data.names):
        try:
            one = _map_of(maps, Path(name).stem) if whole is None else np.asarray(whole[places[name]])
        except InputError as error:
            bad[row] = str(error)
            continue
        one = one[0] if one.shape == (1, *data.x.shape[1:]) else one
        if one.shape != data.x.shape[1:]:
            bad[row] = f"the map has shape {one.shape}, the sample {data.x.shape[1:]}"
        elif one.dtype.kind not in "fiu" or not np.isfinite(one).all():
            bad[row] = "the map holds NaN or infinity"
        else:
            found[row] = one
    return found, bad


def _map_of(folder: Path, stem: str) -> Array:
    for file in (folder / f"{stem}_relevance.npz", folder / f"{stem}.npz", folder / f"{stem}.npy"):
        if file.is_file():
            return np.asarray(_maps(file))
    raise InputError(f"no map {stem}.npy or {stem}_relevance.npz in {folder}")


def _maps(path: Path) -> Any:
    if path.suffix.lower() in HDF5:
        try:
            import h5py
        except ImportError:
            raise InputError(f'{path}: HDF5 files need h5py: pip install "onnx-lrp[hdf5]"') from None
        try:
            file = h5py.File(path, "r")
            key = "relevance" if "relevance" in file else "attribution" if "attribution" in file else next(iter(file))
            return file[key]
        except (OSError, StopIteration):
            raise InputError(f"cannot read {path}: it is no HDF5 file with maps") from None
    try:
        loaded = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npz":
            with loaded:
                return loaded["relevance" if "relevance" in loaded else loaded.files[0]]
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it holds no maps, or is damaged'}") from None
    return loaded
