"""Folders of small photographs, and runs that have only a plan."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from torch import nn

from featlight.config.schema import Config
from featlight.config.validation import check
from featlight.engine.setup import prepare
from featlight.plan.request import RunRequest
from featlight.store.store import Store

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")


def crops(count: int, side: int = 64, seed: int = 0) -> Iterator[Image.Image]:
    """Yield random square crops of scikit-image's photographs."""
    generator = np.random.default_rng(seed)
    photographs = [getattr(data, name)() for name in PHOTOGRAPHS]
    for number in range(count):
        pixels = photographs[number % len(photographs)]
        top, left = (generator.integers(0, most - side) for most in pixels.shape[:2])
        yield Image.fromarray(pixels[top : top + side, left : left + side])


def folder_of(folder: Path, images: Iterator[Image.Image]) -> Path:
    """Write images into subfolders of a hundred images, and return the folder."""
    for number, image in enumerate(images):
        path = folder / f"{number // 100}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, compress_level=1)
    return folder


def planned_run(out: Path, network: nn.Module | None = None, **settings: object) -> Config:
    """Write a run's plan and config without tiles; an existing run is extended."""
    recipe = {"octaves": [{"size": 48, "steps": 1, "lr": [0.1, 0.1]}]}
    config = check({"model": "tiny_inception", "out": str(out), "recipe": recipe, **settings}).resolved()
    store = Store(out)
    job = prepare(RunRequest(config, network=network), store.plan())
    store.write_plan(job.plan)
    store.write_output("config.yaml", config.to_yaml().encode())
    return config
