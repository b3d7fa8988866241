"""Networks by name, in eval mode, with the weights that were asked for."""

import fnmatch
import hashlib
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from featlight.ambient import isolated
from featlight.config.presets import EMBEDDED, LITE
from featlight.config.user_paths import weights_file
from featlight.errors import UsageError, WeightsError
from featlight.models import weights as weight_files
from featlight.models.copying import all_modules, unwrapped
from featlight.models.frozen import check_filled
from featlight.models.sources import efficientnet_lite0, embedded, huggingface, pixels, python_path, timm, torchvision
from featlight.models.sources.entry import NetworkEntry


@dataclass(frozen=True)
class Source:
    """Where a network and its weights come from.

    Args:
        model: the name that it was loaded by.
        weights: the weights in words, as in "IMAGENET1K_V1" or "RANDOM WEIGHTS, seed 999".
        mean: of the pixels that the weights were trained with, per channel; None where it is not known.
        std: likewise.
        file: where the weights were read from; None where no file holds them.
        classes: gives the names of the outputs of its last layer; None where they have none, or nobody knows them.
        size: height and width of the images that it was trained with, in pixels; None where it is not known.
        resize: shorter side of a photograph before its middle is taken at that size; None for all of that middle.
        interpolation: of that resize, `bilinear` or `bicubic`.
    """

    model: str
    weights: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    file: Path | None = None
    classes: Callable[[], list[str]] | None = None
    size: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"


def list_models(pattern: str = "*") -> list[str]:
    """Names that `load_model` takes, besides `hf/<repository or folder>` and `package.module:callable`.

    Args:
        pattern: as a shell's, as in "resnet*".
    """
    every = [*embedded.names(), *efficientnet_lite0.names(), *torchvision.names(), *timm.names()]
    return fnmatch.filter(every, pattern)


@isolated()
def load_model(
    model: str = LITE, weights: str = "DEFAULT", *, seed: int = 999, layers: Collection[str] = ()
) -> nn.Module:
    """A network by name, in eval mode; torchvision's are fed raw pixels (their `transform_input` is off).

    Args:
        model: `efficientnet_lite0`, `tiny_inception`, a classification network of torchvision.models, `timm/<name>`,
            `hf/<repository or folder>`, or `package.module:callable`.
        weights: DEFAULT, a torchvision weights name, a file (`FILE:entry` for one in it), or `none` (random).
        seed: seed of random weights.
        layers: names of layers; a file of weights may lack what comes after them.

    Raises:
        UsageError: no such model.
        WeightsError: the weights cannot be had, or do not fit.
    """
    torch.manual_seed(seed)  # layers draw their weights from the global stream
    return _load(_entry(model), model, weights, seed, layers)


def _load(entry: NetworkEntry, model: str, weights: str, seed: int, layers: Collection[str]) -> nn.Module:
    file: Path | None = None
    named = weights_file(weights)
    if weights == "none" or (weights == "DEFAULT" and entry.find is None):
        network = entry.build()
        label = f"RANDOM WEIGHTS, seed {seed}" if weights == "none" else "as built"
    else:
        part = ""
        if named is not None:
            file, part = named
            label = f"{file.name}:{part}" if part else file.name
        elif entry.find is None:
            raise WeightsError(f"{model} has no weights named {weights!r}; DEFAULT, none, or a file of weights")
        else:
            label, file = entry.find(weights)
        network = _filled(entry, file, part, layers, by_user=named is not None)
    classes = None if named is not None or weights == "none" else entry.classes  # a file's may be others
    fit = entry.size, entry.resize, entry.interpolation
    mean, std = (entry.mean, entry.std) if entry.mean is not None else pixels.trained_with(network) or (None, None)
    source = Source(entry.name or model, label, mean, std, file, classes, *fit)
    network.featlight_source = source  # type: ignore[assignment]
    network.eval()  # which may give back nothing where the user has written it
    return network


def _filled(entry: NetworkEntry, file: Path, part: str, layers: Collection[str], *, by_user: bool) -> nn.Module:
    """The network with a file's weights: a user's own, as training leaves them, or as a library publishes them."""
    if entry.load is not None and not by_user:
        return entry.load(file)
    try:
        content = weight_files.read(file)
        build_for = entry.build_for if entry.build_with is None else partial(entry.build_with, content)
        return weight_files.fitted(content, build_for, file, entry.fit, part=part, layers=layers)
    except WeightsError:
        if entry.load is None or part:
            raise
        with suppress(WeightsError):  # what is said of the network's own names says more
            return entry.load(file)
        raise


def source_of(network: nn.Module) -> Source:
    """Where it comes from; for a network that `load` did not make, the name of its class and what its library says."""
    inner = unwrapped(network)
    source = getattr(inner, "featlight_source", None)
    if isinstance(source, Source):
        return source
    name, known = type(network).__name__, pixels.trained_with(inner)
    return Source(name, "as given") if known is None else Source(name, "as given", *known)


def checksum(network: nn.Module) -> str:
    """SHA-256 over what a network is made of and the names, types, shapes and values of its tensors, hexadecimal.

    Those of modules that it holds otherwise than by registering them, in a plain list say, are among them.

    Raises:
        UsageError: a parameter has no values.
    """
    check_filled(network)
    words = re.sub(r"0x[0-9a-f]+", "", repr(network))  # an address is another every time
    digest = hashlib.sha256(words.encode(errors="backslashreplace"))
    for name, tensor in sorted({**network.state_dict(), **dict(network.named_buffers())}.items()):
        for each in tree_leaves(tensor):  # a quantized module's state is a tuple
            _add(digest, name, each)
    registered = set(network.modules())
    hidden = [module for module in all_modules(network) if module not in registered]
    for module in hidden:
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            _add(digest, name, tensor)
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        return
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="backslashreplace"))
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    plain = plain.int_repr() if plain.is_quantized else plain.to_dense() if plain.layout != torch.strided else plain
    digest.update(plain.contiguous().flatten().view(torch.uint8).numpy().data)


def _entry(model: str) -> NetworkEntry:
    if model.startswith(timm.PREFIX):
        return timm.entry(model)
    if model.startswith(huggingface.PREFIX):
        return huggingface.entry(model)
    if ":" in model:
        return python_path.entry(model)
    if model == EMBEDDED:
        return embedded.entry()
    if model == LITE:
        return efficientnet_lite0.entry()
    if model not in torchvision.names() and timm.has(model):
        raise UsageError(f"--model: no network {model!r} in torchvision.models; timm has it: {timm.PREFIX}{model}")
    return torchvision.entry(model)
