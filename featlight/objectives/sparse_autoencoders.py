"""Read the encoders of sparse autoencoders as directions. No torch."""

from pathlib import Path
from typing import Any

import numpy as np

from featlight.errors import UsageError, memory_errors
from featlight.objectives.directions import open_directions

LINEAR = "encoder.weight"
KEYS = ("W_enc", LINEAR)


@memory_errors()
def encoder_directions(file: str | Path, features: int | None = None) -> "np.ndarray[Any, Any]":
    """Read the encoder of a sparse autoencoder, a row for each latent.

    Row k is the direction that excites latent k: an image that maximizes `z . encoder[k]` excites it. Two layouts are
    known by their keys:

    - `W_enc` (SAELens and its kind): (C, K), applied as `z @ W_enc`; some files hold the transpose, (K, C);
    - `encoder.weight` (an `nn.Linear(C, K)`): (K, C).

    `features` identifies the layer's side of the array. Without it, the longer side of `W_enc` holds the latents, and
    `encoder.weight` is (K, C). Biases, and a mean subtracted from `z`, do not change a latent's direction and are
    ignored.

    Args:
        file: .npz or .safetensors file with one of these keys, or `FILE:key` for another key.
        features: number of the layer's features, C.

    Returns:
        (K, C), mapped from the file; `numpy.save` writes it as a file for `--directions`.

    Raises:
        UsageError: the file has no such key, or its shape does not fit or is ambiguous.

    Example:
        >>> numpy.save("latents.npy", featlight.encoder_directions("sae_weights.safetensors", features=768))
    """
    found = open_directions(str(file), KEYS)
    values = found.rows(range(found.count)) if found.halves else found.values
    rows, columns = values.shape
    if rows == columns and found.name != LINEAR:
        raise UsageError(
            f"{file}: {found.name!r} is square, {rows} x {columns}: the layer's side is ambiguous; "
            "numpy.save the array as (latents, features)"
        )
    if features is not None and features not in (rows, columns):
        raise UsageError(f"{file}: {found.name!r} is {rows} x {columns}; no side has the layer's {features} features")
    width = features or (columns if found.name == LINEAR else min(rows, columns))
    return values if columns == width else values.T
