"""Arrays of numbers given in Python, of any library. No torch."""

from typing import Any

import numpy as np


def plain_array(array: Any) -> "np.ndarray[Any, Any]":
    """Convert an array to a numpy array of a float that numpy has; lists of integers become floats."""
    if hasattr(array, "detach"):  # a tensor
        array = array.detach().cpu()
        array = array.dequantize() if array.is_quantized else array
        array = array if str(array.layout) == "torch.strided" else array.to_dense()
        if array.is_floating_point() and str(array.dtype) not in ("torch.float16", "torch.float32", "torch.float64"):
            array = array.float()  # bfloat16 and smaller: the same numbers
        array = array.resolve_neg().numpy()
    if isinstance(array, list | tuple):
        rows = np.asarray([plain_array(row) if hasattr(row, "__len__") else row for row in array])
        return rows.astype(np.float64) if rows.dtype.kind in "iu" else rows
    if np.ma.is_masked(array):
        raise ValueError("some of its values are masked")
    plain = np.asarray(array.toarray() if hasattr(array, "toarray") else array)  # scipy's sparse ones
    return plain.astype(np.float32) if plain.dtype.name.startswith(("bfloat16", "float8")) else plain
