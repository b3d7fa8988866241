"""Trains the embedded network: `python -m tools.tiny_inception.train`."""

import argparse
import hashlib
import json
import math
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from tqdm import tqdm

from featlight.models.sources.embedded import CLASSES, TinyInception
from tools.tiny_inception.learning import SMOOTHING, attack, correct, follow, gray_noise, wake_penalty
from tools.tiny_inception.patterns import draw_balanced

HELD_OUT_STREAM = 2**32  # added to the seed: pictures that training never draws
AHEAD = 8  # batches drawn at once
NOISE_SIDES = (64, 96)  # pixels of the gray noise that features are to answer, turn by turn
METHOD = (
    "cross-entropy on fresh pictures, half of them moved by a one-step L2 attack of random length; "
    "a penalty on features that gray noise does not reach; AdamW; averaged weights"
)


@dataclass(frozen=True)
class Settings:
    """One training run.

    Args:
        seed: of the weights and the pictures.
        steps: updates of the weights.
        per_class: pictures of each class per step; every other one is attacked.
        rate: highest learning rate.
        radius: longest attack, L2 norm in pixel units at 64 pixels.
        wake: weight of the penalty on features that gray noise does not reach.
        decay: of the running average of the weights, per step.
        held_out: pictures of each class that the report is measured on.
        threads: of torch; part of what makes two runs alike.
        bf16: compute convolutions in bfloat16, about twice as fast where the processor has it.
    """

    seed: int = 0
    steps: int = 4200
    per_class: int = 2
    rate: float = 4e-3
    radius: float = 1.5
    wake: float = 2.0
    decay: float = 0.998
    held_out: int = 100
    threads: int = 1
    bf16: bool = False


def edge_kernels() -> Tensor:
    """Twelve kernels to start the first layer from: four directions in light, red-green and blue-yellow.

    Returns:
        Kernels of shape (12, 3, 5, 5), each of mean 0 and L2 norm 1.
    """
    line = torch.arange(5) - 2.0
    y, x = torch.meshgrid(line, line, indexing="ij")
    kernels = []
    for k, colour in enumerate(((1, 1, 1), (1, -1, 0), (-1, -1, 2))):
        for turn in range(4):
            angle = math.pi * (turn / 4 + k / 12)
            across = x * math.cos(angle) + y * math.sin(angle)
            wave = (across * 2 * math.pi / 4.5).sin() * (-(x**2 + y**2) / 5).exp()  # (5, 5)
            kernels.append(torch.tensor(colour).view(3, 1, 1) * wave)
    return F.normalize(torch.stack(kernels).flatten(1), dim=1).view(12, 3, 5, 5)


def initialise(network: TinyInception, generator: torch.Generator) -> None:
    """Draws all weights from the generator, so that no global seed matters; the first layer gets edges."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        network.Conv2d_1a_5x5.conv.weight[:12] = edge_kernels()


def optimizer_for(network: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW that lets only kernels decay: a decayed batch norm would fall silent."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate)


def rate_at(step: int, steps: int, rate: float) -> float:
    """Learning rate: a short linear rise, then half a cosine down to zero."""
    rise = max(1, steps // 20)
    if step < rise:
        return rate * (step + 1) / rise
    return rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def batches(settings: Settings, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Balanced batches for every step, drawn several at a time because small drawings are mostly overhead."""
    for start in range(0, settings.steps, AHEAD):
        count = min(AHEAD, settings.steps - start)
        images, labels = draw_balanced(settings.per_class * count, generator)
        for k in range(count):
            yield images[k::count].contiguous(memory_format=torch.channels_last), labels[k::count]


def train(settings: Settings, progress: bool = True) -> tuple[TinyInception, dict[str, float]]:
    """Trains a network on fresh pictures, half of them attacked.

    Args:
        settings: what to run; the same settings on one machine give the same weights.
        progress: whether to show a progress bar.

    Returns:
        The averaged network in eval mode, and the last values of what was minimised.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    network = TinyInception(len(CLASSES))
    initialise(network, generator)
    network = network.to(memory_format=torch.channels_last)
    average = deepcopy(network)
    optimizer = optimizer_for(network, settings.rate)
    losses: dict[str, float] = {}
    network.train()
    bar = tqdm(batches(settings, generator), total=settings.steps, disable=not progress, unit="step")
    for step, (images, labels) in enumerate(bar):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, settings.steps, settings.rate)
        radius = torch.rand(len(labels[::2]), generator=generator) * settings.radius  # (B / 2,)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            images[::2] = attack(network, images[::2], labels[::2], radius)
            scores = network(images).float()  # (B, classes)
        naming = F.cross_entropy(scores, labels, label_smoothing=SMOOTHING)
        waking = wake_penalty(network, gray_noise(1, NOISE_SIDES[step % 2], generator))
        loss = naming + settings.wake * waking
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        follow(average, network, min(settings.decay, (step + 1) / (step + 10)))
        if step % 20 == 0 or step == settings.steps - 1:
            right = (scores.argmax(1) == labels).float()
            losses = {"loss": naming.item(), "wake": waking.item()}
            bar.set_postfix(losses | {"clean": right[1::2].mean().item(), "attacked": right[::2].mean().item()})
    return average.eval().to(memory_format=torch.contiguous_format), losses


def measure(network: nn.Module, settings: Settings) -> dict[str, object]:
    """Accuracy on fresh pictures from another stream of the seed, clean and attacked."""
    generator = torch.Generator().manual_seed(settings.seed + HELD_OUT_STREAM)
    images, labels = draw_balanced(settings.held_out, generator)
    right = correct(network, images, labels)
    per_class = right.view(len(CLASSES), -1).float().mean(1)
    chosen = slice(None, None, 4)
    radius = torch.full((len(labels[chosen]),), 1.0)
    attacked: Tensor = attack(network, images[chosen], labels[chosen], radius)
    return {
        "held_out_pictures": len(labels),
        "held_out_seed": settings.seed + HELD_OUT_STREAM,
        "accuracy": right.float().mean().item(),
        "accuracy_attacked_l2_1": correct(network, attacked, labels[chosen]).float().mean().item(),
        "accuracy_per_class": dict(zip(CLASSES, [round(v, 4) for v in per_class.tolist()], strict=True)),
    }


def save(network: nn.Module, out: Path, record: dict[str, object]) -> None:
    """Writes the weights and, beside them, where they come from (the same name, `.json`)."""
    out.parent.mkdir(parents=True, exist_ok=True)
    data = to_bytes({name: value.contiguous() for name, value in network.state_dict().items()})
    out.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    record = record | {"weights": out.name, "sha256": digest, "bytes": len(data)}
    out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")


def parse(words: list[str] | None) -> tuple[Settings, Path]:
    """Reads the command line."""
    default = Settings()
    parser = argparse.ArgumentParser(description="Train featlight's embedded network on procedural patterns.")
    parser.add_argument("--out", type=Path, default=Path("weights.safetensors"), help="weights file to write")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--per-class", type=int, default=default.per_class, help="pictures per class and step")
    parser.add_argument("--rate", type=float, default=default.rate, help="highest learning rate")
    parser.add_argument("--radius", type=float, default=default.radius, help="longest attack, L2, pixel units")
    parser.add_argument("--wake", type=float, default=default.wake, help="weight of the wake penalty")
    parser.add_argument("--decay", type=float, default=default.decay, help="of the averaged weights, per step")
    parser.add_argument("--held-out", type=int, default=default.held_out, help="pictures per class to report on")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16 (faster where supported)")
    values = vars(parser.parse_args(words))
    out = values.pop("out")
    return Settings(**values), out


def main(words: list[str] | None = None) -> None:
    """Trains, measures, saves and reports."""
    settings, out = parse(words)
    torch.set_num_threads(settings.threads)
    start = time.perf_counter()
    network, losses = train(settings)
    seconds = time.perf_counter() - start
    measured = measure(network, settings)
    given = [word.replace(str(out), out.name) for word in (sys.argv[1:] if words is None else words)]
    record: dict[str, object] = {
        "command": shlex.join(["python", "-m", "tools.tiny_inception.train", *given]),
        "settings": asdict(settings),
        "method": METHOD,
        "parameters": sum(p.numel() for p in network.parameters()),
        "last_step": losses,
        **measured,
        "training_seconds": round(seconds, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    save(network, out, record)
    per_class = measured["accuracy_per_class"]
    assert isinstance(per_class, dict)
    for name, value in sorted(per_class.items(), key=lambda item: item[1]):
        print(f"{value:7.2%}  {name}")
    print(f"{measured['accuracy']:7.2%}  all {measured['held_out_pictures']} held-out pictures")
    print(f"{measured['accuracy_attacked_l2_1']:7.2%}  attacked with an L2 step of 1")
    print(f"{record['parameters']} parameters, {seconds:.0f} s, {settings.threads} threads; wrote {out}")


if __name__ == "__main__":
    main()
