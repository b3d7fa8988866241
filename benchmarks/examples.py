"""Measure speed and memory of the search for examples.

python -m benchmarks.examples [--images 2000] [--memory 500,20000]

Speed: images per second of a pass over JPEG crops of scikit-image's photographs (256 to 420 px), compared with a plain
forward pass of the same network to the same layer with the same batch size. Both use one decoding process (torch's
DataLoader) and one computing thread. Memory: peak of a whole pass by the embedded network, in its own process. The
record is written to benchmarks/results/.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.record import TREE, peak_megabytes, surroundings, write
from featlight.examples.decoding import ignore_signals
from featlight.examples.find import find
from featlight.examples.manifest import CPU_SCORED, ExamplesRequest
from featlight.models.catalog import load_model
from tests.photographs import PHOTOGRAPHS, crops, folder_of, planned_run

MODEL, LAYER, SIDE = "efficientnet_lite0", "blocks.4.0", 224


def photographs(folder: Path, count: int) -> Path:
    generator = np.random.default_rng(3)
    large = [Image.fromarray(getattr(data, name)()) for name in PHOTOGRAPHS]
    large = [image.resize((2 * image.width, 2 * image.height)) for image in large]
    folder.mkdir()
    for number in range(count):
        image, side = large[number % len(large)], int(generator.integers(256, 420))
        left, top = (int(generator.integers(0, most - side)) for most in image.size)
        image.crop((left, top, left + side, top + side)).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


class Plain(Dataset[torch.Tensor]):
    """Photographs, read in the usual way."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.jpg"))
        kind = v2.InterpolationMode.BICUBIC
        self.fit = v2.Compose([v2.Resize(256, kind), v2.CenterCrop(SIDE), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> torch.Tensor:
        with Image.open(self.files[place]) as image:
            return self.fit(image.convert("RGB"))


class Reached(Exception):
    """Ends a forward pass at the layer."""


def plain_rate(folder: Path) -> float:
    """Return images per second of the plain forward pass."""
    network = load_model(MODEL).to(memory_format=torch.channels_last)

    def stop(*_: object) -> None:
        raise Reached

    network.get_submodule(LAYER).register_forward_hook(stop)
    images = Plain(folder)
    loader = DataLoader(images, batch_size=CPU_SCORED, num_workers=1, worker_init_fn=ignore_signals)
    started = time.perf_counter()
    with torch.no_grad():
        for batch in loader:
            try:
                network(((batch.float() / 255 - 0.5) / 0.5).to(memory_format=torch.channels_last))
            except Reached:
                continue
    return len(images) / (time.perf_counter() - started)


def peak(count: int) -> float:
    """Return the peak memory of a pass over `count` images, in megabytes."""
    words = [sys.executable, "-m", "benchmarks.examples", "--one", str(count)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])


def one(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = folder_of(Path(name) / "images", crops(count))
        planned_run(Path(name) / "run", layer={"Mixed_3a": "all", "Mixed_4a": "all"})
        find(Path(name) / "run", ExamplesRequest(folder), processes=1)
    print(peak_megabytes(os.getpid()))  # getrusage would include the parent's peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="number of images to measure speed (default: 2000)")
    parser.add_argument("--repeats", type=int, default=2, help="number of repeats (default: 2)")
    parser.add_argument("--memory", default="500,20000", help="numbers of images to measure memory, or none")
    parser.add_argument("--record", type=Path, default=TREE / "benchmarks" / "results" / "examples.json")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one)
        return
    torch.set_num_threads(1)
    values = surroundings(torch.device("cpu"), "benchmarks.examples")
    print(values["cpu"]["name"], values["date"])
    passes, memory = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = photographs(Path(name) / "images", options.images) if options.images else None
        for repeat in range(options.repeats if folder else 0):
            out = Path(name) / f"run-{repeat}"
            planned_run(out, model=MODEL, layer=LAYER)
            theirs = plain_rate(folder)
            started = time.perf_counter()
            ours = find(out, ExamplesRequest(folder), processes=1).rate
            whole = time.perf_counter() - started
            passes.append({"plain": round(theirs, 1), "ours": round(ours, 1), "whole_seconds": round(whole)})
            print(
                f"{options.images} images, batch {CPU_SCORED}: plain {theirs:.1f} images/s, featlight {ours:.1f}",
                end=" ",
            )
            print(f"({ours / theirs:.2f}); the whole command with its pictures {whole:.0f} s")
    for count in [] if options.memory == "none" else map(int, options.memory.split(",")):
        memory[count] = round(peak(count))
        print(f"memory of a pass over {count} images: {memory[count]} MB")
    values |= {"model": MODEL, "layer": LAYER, "images": options.images, "batch_size": CPU_SCORED}
    write(options.record, values | {"images_per_second": passes, "highest_megabytes": memory})


if __name__ == "__main__":
    main()
