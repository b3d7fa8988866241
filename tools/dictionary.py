"""A dictionary to try directions with, as configs/looks/dictionary.yaml does: non-negative mixtures of features.

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
    """Directions of unit length, (count, features), float16: each the sum of a few features, by weights above 0."""
    generator = np.random.default_rng(seed)
    chosen = np.stack([generator.choice(features, PARTS, replace=False) for _ in range(count)])  # (count, PARTS)
    found = np.zeros((count, features))
    np.put_along_axis(found, chosen, generator.uniform(0.5, 1, chosen.shape), axis=1)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


def labels(directions: "np.ndarray") -> list[str]:
    """Of each, its features, that of the largest weight first: `= 12 + 7 + 99`."""
    order = np.argsort(-directions, axis=1, kind="stable")[:, :PARTS]
    return ["= " + " + ".join(map(str, row)) for row in order]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write dictionary.npy, and dictionary.txt with a line for each direction."""
    parser = argparse.ArgumentParser("python -m tools.dictionary", description=main.__doc__)
    parser.add_argument("--count", type=int, default=512, help="of directions (default: 512)")
    parser.add_argument("--features", type=int, default=112, help="of the layer (default: 112, of blocks.4.0)")
    parser.add_argument("--seed", type=int, default=0, help="of the mixtures (default: 0)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="to write into (default: configs/looks)")
    words = parser.parse_args(arguments)
    found = mixtures(words.count, words.features, words.seed)
    np.save(words.folder / "dictionary.npy", found)
    (words.folder / "dictionary.txt").write_text("\n".join(labels(found)) + "\n")
    say(f"{len(found)} directions of {words.features} features in {words.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
