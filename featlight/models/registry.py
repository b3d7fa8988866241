"""Networks by name, in eval mode, with the weights that were asked for."""

import hashlib
import importlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from featlight.errors import UsageError, WeightsError, unknown
from featlight.models import weights as weight_files

EMBEDDED = "tiny_inception"
# A transformer's positions fit one image size, so no octave could follow. By a name's start, px.
FIXED_SIZES = {"vit_h_14": 518, "vit_": 224, "maxvit_": 224}
HAS_AUXILIARY = ("inception_v3", "googlenet")


@dataclass(frozen=True)
class Source:
    """Where a network and its weights come from.

    Args:
        model: the name that it was loaded by.
        weights: the weights in words, as in "IMAGENET1K_V1" or "RANDOM WEIGHTS, seed 999".
        mean: of the pixels that the weights were trained with, per channel; None where it is not known.
        std: likewise.
        file: where the weights were read from; None where no file holds them.
    """

    model: str
    weights: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    file: Path | None = None


@dataclass(frozen=True)
class _Entry:
    """One network that can be named."""

    build: Callable[[], nn.Module]  # with random weights, or those that the callable itself gives
    build_for: Callable[[dict[str, Tensor]], nn.Module]  # to receive these weights
    find: (
        Callable[[str], tuple[str, Path]] | None
    )  # a weights name to its full name and its file, downloaded if need be
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def load(model: str = EMBEDDED, weights: str = "DEFAULT", *, seed: int = 999) -> nn.Module:
    """A network by name, in eval mode; torchvision's are fed raw pixels (their `transform_input` is off).

    Args:
        model: a convolutional classification network of torchvision.models, `tiny_inception`, or
            `package.module:callable`.
        weights: a torchvision weights name, a `.safetensors` or `.pth` file, or `none` (random).
        seed: of random weights.

    Raises:
        UsageError: no such model.
        WeightsError: the weights cannot be had, or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # layers draw their weights from the global stream
        return _load(_entry(model), model, weights, seed)


def _load(entry: _Entry, model: str, weights: str, seed: int) -> nn.Module:
    file: Path | None = None
    if weights == "none" or (weights == "DEFAULT" and entry.find is None):
        network = entry.build()
        label = f"RANDOM WEIGHTS, seed {seed}" if weights == "none" else "as built"
    else:
        if weight_files.is_file_name(weights):
            label, file = Path(weights).name, Path(weights)
        elif entry.find is None:
            raise WeightsError(
                f"{model} has no weights named {weights!r}; DEFAULT, none, or a .safetensors or .pth file"
            )
        else:
            label, file = entry.find(weights)
        state = weight_files.read(file)
        network = entry.build_for(state)
        weight_files.fill(network, state, file)
    if hasattr(network, "transform_input"):
        network.transform_input = False  # type: ignore[assignment]
    network.featlight_source = Source(model, label, entry.mean, entry.std, file)  # type: ignore[assignment]
    return network.eval()


def source_of(network: nn.Module) -> Source:
    """Where it comes from; for a network that `load` did not make, the name of its class."""
    source = getattr(network, "featlight_source", None)
    return source if isinstance(source, Source) else Source(type(network).__name__, "as given")


def checksum(network: nn.Module) -> str:
    """SHA-256 over what a network is made of and the names, types, shapes and values of its tensors, hexadecimal."""
    digest = hashlib.sha256(re.sub(r"0x[0-9a-f]+", "", repr(network)).encode())  # an address is another every time
    for name, tensor in sorted({**network.state_dict(), **dict(network.named_buffers())}.items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _entry(model: str) -> _Entry:
    if ":" in model:
        build = _imported(model)
        return _Entry(build, lambda _: build(), None)
    if model == EMBEDDED:
        from featlight.models import tiny_inception

        build = partial(tiny_inception.TinyInception, len(tiny_inception.CLASSES))
        # trained on raw pixels: what it expects is what it gets
        return _Entry(build, lambda _: build(), _embedded_weights, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    return _torchvision(model)


def _embedded_weights(name: str) -> tuple[str, Path]:
    from featlight.models import tiny_inception

    if name != "DEFAULT":
        raise WeightsError(unknown("weights", name, ["DEFAULT", "none"], f"of {EMBEDDED}"))
    return "embedded weights", tiny_inception.WEIGHTS_FILE


def _torchvision(model: str) -> _Entry:
    names = torchvision.models.list_models(module=torchvision.models)
    for start, size in FIXED_SIZES.items():
        if model in names and model.startswith(start):
            raise UsageError(f"--model {model}: it takes images of {size} px only, and octaves change the size")
    if model not in names:
        usable = [name for name in names if not name.startswith(tuple(FIXED_SIZES))]
        raise UsageError(f"--model: {unknown('network', model, [EMBEDDED, *usable], 'in torchvision.models')}")

    def build(**options: bool) -> nn.Module:
        network: nn.Module = torchvision.models.get_model(model, weights=None, **options)
        return network

    choices = torchvision.models.get_model_weights(model)
    trained_with = choices.DEFAULT.transforms()
    mean, std = tuple(trained_with.mean), tuple(trained_with.std)

    def build_for(state: dict[str, Tensor]) -> nn.Module:
        if model not in HAS_AUXILIARY:
            return build()
        return build(aux_logits=any(key.startswith(("AuxLogits.", "aux1.")) for key in state), init_weights=False)

    def build_random() -> nn.Module:
        return build(aux_logits=False, init_weights=True) if model in HAS_AUXILIARY else build()

    def find(name: str) -> tuple[str, Path]:
        if name != "DEFAULT" and name not in choices.__members__:
            raise WeightsError(unknown("weights", name, ["DEFAULT", *choices.__members__, "none"], f"of {model}"))
        weights = choices[name] if name in choices.__members__ else choices.DEFAULT
        return weights.name, weight_files.cached(weights.url, f"{model} {weights.name}")

    return _Entry(build_random, build_for, find, mean, std)


def _imported(path: str) -> Callable[[], nn.Module]:
    """The callable that `package.module:callable` names, as one that surely gives a module."""
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    try:
        sys.path.insert(0, here)  # the installed command does not look where the user stands
        factory: Any = importlib.import_module(module_name)
        for part in name.split("."):
            factory = getattr(factory, part)
    except Exception as error:  # the module is the user's own, and may fail in any way
        raise UsageError(f"--model {path}: {_reason(error)}") from None
    finally:
        sys.path.remove(here)

    def build() -> nn.Module:
        try:
            network = factory() if not isinstance(factory, nn.Module) else factory
        except Exception as error:
            raise UsageError(f"--model {path}: calling it failed: {_reason(error)}") from None
        if not isinstance(network, nn.Module):
            raise UsageError(f"--model {path}: it gives a {type(network).__name__}, not an nn.Module")
        return network

    return build


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {text}"
