"""Writing of an optimized chunk: tiles, their additional files, and records."""

import io
import json
from collections.abc import Container, Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from featlight.analysis.image_metrics import high_frequency_share, total_variation
from featlight.config.schema import Extra
from featlight.engine.chunk_result import ChunkResult
from featlight.image_io import encode_png
from featlight.plan.plan import Plan, PlannedTile
from featlight.store.records import CURVE_POINTS, Status, TileRecord
from featlight.store.store import Store
from featlight.version import __version__


def records_of(result: ChunkResult, plan: Plan) -> Iterator[tuple[int, TileRecord]]:
    """Yield the record of each tile of a chunk, without padding, and its index in the batch."""
    chunk = result.chunk
    pictures = result.pictures[: len(chunk.tiles)].permute(0, 3, 1, 2).double() / 255  # (N, 3, H, W)
    variation, fine = total_variation(pictures), high_frequency_share(pictures)
    finite = torch.isfinite(result.images).flatten(1).all(1) & torch.isfinite(result.activation).all(0)
    for i, tile in enumerate(chunk.tiles):
        status: Status = "ok"
        reason = None
        if not finite[i]:
            status, reason = "failed", "image or activation is not finite"
        elif not result.alive[i]:
            status, reason = "dead", f"no gradient at any of the {len(result.activation) - 1} steps"
        curve = result.activation[:, i]
        planned = PlannedTile(chunk.variant, tile)
        yield (
            i,
            {
                "name": tile.name,
                "file": planned.file,
                "layer": tile.terms[0].layer,
                "feature": tile.terms[0].feature,
                "variant": chunk.variant,
                "status": status,
                "reason": reason,
                "activation_start": _number(curve[0]),
                "activation_end": _number(curve[-1]),
                "gradient_norm": _number(result.gradient_norm[i]),
                "total_variation": None if status == "failed" else _number(variation[i]),
                "high_frequency_share": None if status == "failed" else _number(fine[i]),
                "curve": [(step, _number(curve[step])) for step in _curve_steps(len(curve))],
                "seconds": round(result.seconds / len(chunk.tiles), 4),
                "sha256": None,
                "bytes": None,
                "chunk": chunk.number,
                "batch_size": result.batch_size,
                "alpha_sha256": None,
                "float_sha256": None,
                "fingerprint": plan.digest(chunk.variant),
            },
        )


def _curve_steps(points: int) -> list[int]:
    """Return the steps of a record's curve: at most 60, including the first and the last."""
    return sorted({round(i) for i in np.linspace(0, points - 1, min(points, CURVE_POINTS))})


def _number(value: Tensor) -> float | None:
    """Round to six digits; return None for NaN and infinity, which JSON lacks."""
    number = float(value)
    return float(f"{number:.6g}") if np.isfinite(number) else None


def provenance(result: ChunkResult, place: int, plan: Plan) -> dict[str, str]:
    """Return the text of a tile's PNG: all settings that made it, and nothing that differs between runs."""
    variant, tile = result.chunk.variant, result.chunk.tiles[place]
    settings = plan.fingerprints[variant] | {"batch_size": result.chunk.batch_size}
    values: dict[str, Any] = {"terms": [term.values() for term in tile.terms], **settings}
    return {
        "Title": f"{plan.network.model} {tile.name}",
        "Software": f"featlight {__version__}",
        "featlight": json.dumps(values, sort_keys=True),
    }


def commit(
    result: ChunkResult,
    plan: Plan,
    store: Store,
    kept: Container[str],
    extras: Sequence[Extra],
    examples: Container[str] = (),
) -> list[TileRecord]:
    """Write the tiles of a chunk that do not exist yet.

    Args:
        result: result of the optimization.
        plan: plan of the run.
        store: store of the run.
        kept: files of the tiles that exist already.
        extras: additional files to write for each tile.
        examples: files of the tiles whose octaves are always written.

    Returns:
        The records of the tiles that were written or have failed.
    """
    store.check_held()
    vectors = io.BytesIO()
    np.save(vectors, result.vectors[: len(result.chunk.tiles)].float().numpy())
    files = [PlannedTile(result.chunk.variant, tile).file for tile in result.chunk.tiles]
    store.write(store.vector_path(files), vectors.getvalue())
    written = []
    for place, record in records_of(result, plan):
        if record["file"] in kept:
            continue
        png = None
        if record["status"] != "failed":
            if "floats" in extras:
                content = save({"image": result.images[place].contiguous().clone()})
                store.write(store.float_path(record["file"]), content)
                record["float_sha256"] = sha256(content).hexdigest()
            if "maps" in extras:
                maps = {str(term): values[place].clone() for term, values in enumerate(result.maps)}
                store.write(store.map_path(record["file"]), save(maps))
            if "octaves" in extras or record["file"] in examples:
                for number, octave in enumerate(result.octaves, 1):
                    small = encode_png(Image.fromarray(octave[place].numpy()), {})
                    store.write(store.octave_path(record["file"], number), small)
            text = provenance(result, place, plan)
            if result.alphas is not None:
                content = encode_png(Image.fromarray(result.alphas[place].numpy()), text)
                store.write(store.alpha_path(record["file"]), content)
                record["alpha_sha256"] = sha256(content).hexdigest()
            png = encode_png(Image.fromarray(result.pictures[place].numpy()), text)
        store.commit(png, record)
        written.append(record)
    return written
