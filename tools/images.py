"""Write images for `featlight examples` without a download: photographs, and drawn pictures in classes.

python -m tools.images images

Needs scikit-image (`pip install -e ".[test]"` brings it).
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from featlight.console import say
from featlight.models.sources.embedded import CLASSES
from tools.tiny_inception.patterns import draw_balanced

PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins"),
    *("grass", "gravel", "hubble_deep_field", "immunohistochemistry", "rocket"),
)
SMALLEST, LARGEST = 96, 400  # px of a square's side


def main() -> None:
    parser = argparse.ArgumentParser("python -m tools.images", description="Write two folders of images.")
    parser.add_argument("folder", type=Path, help="folder for photographs/NAME/00012.jpg and drawn/CLASS/00012.png")
    parser.add_argument("--count", type=int, default=1000, help="approximate number of each kind (default: 1000)")
    options = parser.parse_args()
    say(f"{photographs(options.folder / 'photographs', options.count)} photographs")
    say(f"{drawn(options.folder / 'drawn', options.count)} drawn pictures of {len(CLASSES)} classes")


def photographs(folder: Path, count: int) -> int:
    """Write random square crops of scikit-image's photographs, with a folder for each photograph."""
    generator = np.random.default_rng(0)
    each = -(-count // len(PHOTOGRAPHS))
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(data, name)()).convert("RGB")
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            side = int(generator.integers(SMALLEST, min(LARGEST, *image.size)))
            left, top = (int(generator.integers(0, most - side + 1)) for most in image.size)
            crop = image.crop((left, top, left + side, top + side))
            crop.save(folder / name / f"{number:05d}.jpg", quality=92)
    return each * len(PHOTOGRAPHS)


def drawn(folder: Path, count: int) -> int:
    """Write training pictures of the embedded network, 64 px, with a folder for each class."""
    each = -(-count // len(CLASSES))
    pictures, labels = draw_balanced(each, torch.Generator().manual_seed(0))  # (N, 3, H, W), (N,)
    pixels = pictures.mul(255).round().byte().permute(0, 2, 3, 1).numpy()  # (N, H, W, 3)
    for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        path = folder / CLASSES[label] / f"{number % each:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return len(labels)


if __name__ == "__main__":
    main()
