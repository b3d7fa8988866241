"""Pictures by lucent with its defaults, one image at a time, in a process where no featlight changes what it takes.

python -m benchmarks.pictures.peer WEIGHTS LAYER FEATURES THREADS SIZE STEPS OUT     # called where lucent is installed
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

SIZE, STEPS = 192, 256
TREE = Path(__file__).parents[2]


def version(python: str) -> str | None:
    """Which lucent an interpreter has; None where it, or what it needs here, cannot be imported."""
    code = "import importlib.metadata as m, lucent.optvis.render, timm; print(m.version('torch-lucent'))"
    try:
        process = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    except OSError as error:
        raise SystemExit(f"--lucent: {python}: {error.strerror}") from None
    return None if process.returncode else process.stdout.strip()


def pictures(
    python: str,
    network: nn.Module,
    threads: int,
    layer: str,
    features: Sequence[int],
    size: int = SIZE,
    steps: int = STEPS,
) -> tuple[Tensor, float]:
    """Images (N, 3, H, W) of features of EfficientNet-Lite0, and the seconds that each took, in the mean.

    Args:
        python: an interpreter that has lucent.
        network: whose weights are taken.
        threads: on the CPU.
        layer: of the network.
        features: of the layer.
        size: of the images, in pixels.
        steps: of each one's descent.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "network.pth"), Path(folder, "pictures.pth")
        torch.save(network.state_dict(), given)
        words = [str(given), layer, ",".join(map(str, features)), str(threads), str(size), str(steps), str(made)]
        command = [python, "-W", "ignore", "-m", "benchmarks.pictures.peer", *words]
        process = subprocess.run(command, cwd=TREE, stderr=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            raise SystemExit(f"lucent: exit code {process.returncode}: {process.stderr.strip().splitlines()[-1]}")
        found = torch.load(made, weights_only=True)
    return found["images"], found["seconds"]


def seconds_a_step(python: str, network: nn.Module, threads: int, layer: str, size: int, steps: int = 16) -> float:
    """What a step of one image costs beyond what a picture costs once: twice as many steps less as many."""
    (_, more), (_, few) = (pictures(python, network, threads, layer, [0], size, n) for n in (2 * steps, steps))
    return (more - few) / steps


def _make(weights: Path, layer: str, feature: int, size: int, steps: int) -> tuple[Tensor, float]:
    """One image (3, H, W), and the seconds that it took."""
    import numpy as np
    from lucent.optvis import objectives, param, render, transform

    torch.manual_seed(0)
    np.random.seed(0)
    fresh = timm.create_model("tf_efficientnet_lite0", pretrained=False)  # lucent leaves its hooks on every module
    fresh.load_state_dict(torch.load(weights, weights_only=True))
    fresh.eval()  # as its users have it: they do not freeze weights
    started = time.perf_counter()
    (image,) = render.render_vis(
        fresh,
        objectives.channel(layer.replace(".", "_"), feature),
        lambda: param.image(size),
        transforms=[*transform.standard_transforms, lambda x: x * 2 - 1],
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
    )
    return torch.from_numpy(image)[0].permute(2, 0, 1), time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> int:
    weights, layer, features, threads, size, steps, out = sys.argv[1:] if arguments is None else arguments
    torch.set_num_threads(int(threads))
    _make(Path(weights), layer, 0, int(size), 1)  # what the first picture of a process takes besides is nobody's
    made = [_make(Path(weights), layer, int(feature), int(size), int(steps)) for feature in features.split(",")]
    seconds = sum(taken for _, taken in made) / len(made)
    torch.save({"images": torch.stack([image for image, _ in made]), "seconds": seconds}, out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
