"""Encoders of sparse autoencoders, as the common libraries keep them, turned into rows of directions. No torch."""

from pathlib import Path
from typing import Any

import numpy as np

from featlight.errors import UsageError
from featlight.objectives.directions import open_directions

LINEAR = "encoder.weight"
KEYS = ("W_enc", LINEAR)


def encoder_directions(file: str | Path, features: int | None = None) -> "np.ndarray[Any, Any]":
    """What excites each latent of a sparse autoencoder: its encoder, a row for each latent.

    The decoder's rows say what a latent writes, the encoder's what it reads: an image that maximises
    `z . encoder[k]` is one that excites latent k. Two layouts are known, by their keys:

    - `W_enc` (SAELens and its kind): (C, K), applied as `z @ W_enc`; some keep it turned round, (K, C);
    - `encoder.weight` (an `nn.Linear(C, K)`): (K, C).

    Which side of the array is the layer's is told by `features`; without it, `W_enc` is taken to have more latents than
    the layer has features, as dictionaries do, and `encoder.weight` to be (K, C). Biases, and a mean that is taken off
    `z` first, move the value of a latent and not its direction, and are left out.

    Args:
        file: .npz or .safetensors, with one of these keys, or `FILE:key` for another one.
        features: C, of the layer.

    Returns:
        (K, C), mapped from the file; `numpy.save` makes of it a file for `--directions`.

    Raises:
        UsageError: no such key; a shape that does not fit, or fits both ways.

    Example:
        >>> numpy.save("latents.npy", featlight.encoder_directions("sae_weights.safetensors", features=768))
    """
    found = open_directions(str(file), KEYS)
    values = found.rows(range(found.count)) if found.halves else found.values
    rows, columns = values.shape
    if rows == columns and found.name != LINEAR:
        raise UsageError(
            f"{file}: {found.name!r} is square, {rows} x {columns}: nothing tells which side is the layer's; "
            "take the array, turn it round if need be, and numpy.save it"
        )
    if features is not None and features not in (rows, columns):
        raise UsageError(f"{file}: {found.name!r} is {rows} x {columns}; no side has the layer's {features} features")
    width = features or (columns if found.name == LINEAR else min(rows, columns))
    return values if columns == width else values.T
