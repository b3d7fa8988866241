"""Write a dictionary of directions for configs/looks/dictionary.yaml: non-negative mixtures of features.

python -m tools.dictionary
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from featlight.console import say

FOLDER = Path(__file__).parents[1] / "configs/looks"
PARTS = 3  # features of each mixture


def mixtures(count: int, features: int, seed: int) -> "np.ndarray":
    """Return unit directions, (count, features), float16: positive combinations of a few features."""
    generator = np.random.default_rng(seed)
    chosen = np.stack([generator.choice(features, PARTS, replace=False) for _ in range(count)])  # (count, PARTS)
    found = np.zeros((count, features))
    np.put_along_axis(found, chosen, generator.uniform(0.5, 1, chosen.shape), axis=1)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def labels(directions: "np.ndarray") -> list[str]:
    """Return a label for each direction: its features by descending weight, such as `= 12 + 7 + 99`."""
    order = np.argsort(-directions, axis=1, kind="stable")[:, :PARTS]
    return ["= " + " + ".join(map(str, row)) for row in order]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write dictionary.npy, and dictionary.txt with a label for each direction."""
    parser = argparse.ArgumentParser("python -m tools.dictionary", description=main.__doc__)
    parser.add_argument("--count", type=int, default=512, help="number of directions (default: 512)")
    parser.add_argument("--features", type=int, default=112, help="features of the layer (default: 112, of blocks.4.0)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mixtures (default: 0)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="output folder (default: configs/looks)")
    options = parser.parse_args(arguments)
    found = mixtures(options.count, options.features, options.seed)
    np.save(options.folder / "dictionary.npy", found)
    (options.folder / "dictionary.txt").write_text("\n".join(labels(found)) + "\n")
    say(f"wrote {len(found)} directions of {options.features} features to {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
