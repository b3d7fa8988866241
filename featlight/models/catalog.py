"""Load networks by name, with their weights, in eval mode."""

import fnmatch
import hashlib
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._pytree import tree_leaves

from featlight.ambient import isolated, not_compiled
from featlight.config.presets import LITE
from featlight.config.user_text import weights_file
from featlight.errors import UsageError, WeightsError, memory_errors, one_line
from featlight.models import weights as weight_files
from featlight.models.copying import all_modules, unwrapped
from featlight.models.frozen import check_filled
from featlight.models.sources import efficientnet_lite0, embedded, huggingface, pixels, python_path, timm, torchvision
from featlight.models.sources.entry import NetworkEntry, NetworkSource, TrainingInputs

# The first source that has a name is responsible for it
SOURCES: tuple[NetworkSource, ...] = (embedded, efficientnet_lite0, torchvision, timm, huggingface, python_path)


@dataclass(frozen=True)
class Source(TrainingInputs):
    """Where a network and its weights come from.

    Args:
        model: name that the network was loaded by.
        weights: name of the weights, such as "IMAGENET1K_V1" or "RANDOM WEIGHTS, seed 999".
        file: file that the weights were read from; None if no file holds them.
    """

    model: str
    weights: str
    file: Path | None = None


def list_models(pattern: str = "*") -> list[str]:
    """Return the names that `load_model` takes, besides `hf/<repository or folder>` and `package.module:callable`.

    Args:
        pattern: shell pattern that the names must match, such as "resnet*".
    """
    return fnmatch.filter([name for source in SOURCES for name in source.names()], pattern)


@not_compiled
@memory_errors()
@isolated()
def load_model(
    model: str = LITE, weights: str = "DEFAULT", *, seed: int = 999, layers: Collection[str] = ()
) -> nn.Module:
    """Load a network by name, in eval mode; torchvision's networks get raw pixels (their `transform_input` is off).

    Args:
        model: `efficientnet_lite0`, `tiny_inception`, a classification network of torchvision.models, `timm/<name>`,
            `hf/<repository or folder>`, or `package.module:callable`.
        weights: DEFAULT, a torchvision weights name, a file (`FILE:entry` for one entry of it), or `none` (random).
        seed: seed of random weights.
        layers: names of layers; a weight file may lack the tensors that come after them.

    Raises:
        UsageError: there is no such model.
        WeightsError: the weights are missing, cannot be downloaded, or do not fit.
    """
    torch.manual_seed(seed)  # layers draw their weights from the global stream
    return _load(_entry(model), model, weights, seed, layers)


class _CountedError(BaseException):
    """Ends the building of a network; not an Exception, so that no network catches it."""


@isolated()
def has_more_parameters(model: str, most: int) -> bool:
    """Return whether a network has more parameters than some number; False if building is needed to tell.

    The parameters are counted on torch's meta device, where they take no memory; those that are replaced count too.
    """
    count = 0

    def add(_: nn.Module, __: str, parameter: Tensor | None) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        if count > most:
            raise _CountedError

    hook = register_module_parameter_registration_hook(add)
    try:
        with torch.device("meta"), suppress(Exception):  # some networks copy values while they are built
            _entry(model).build()
    except _CountedError:
        return True
    finally:
        hook.remove()
    return False


def _load(entry: NetworkEntry, model: str, weights: str, seed: int, layers: Collection[str]) -> nn.Module:
    file: Path | None = None
    user_file = weights_file(weights)
    if weights == "none" or (weights == "DEFAULT" and entry.find is None):
        network = entry.build()
        label = f"RANDOM WEIGHTS, seed {seed}" if weights == "none" else "as built"
    else:
        part = ""
        if user_file is not None:
            file, part = user_file
            label = f"{file.name}:{part}" if part else file.name
        elif entry.find is None:
            raise WeightsError(f"{model} has no weights named {weights!r}; DEFAULT, none, or a file of weights")
        else:
            label, file = entry.find(weights)
        network = _from_file(entry, file, part, layers, is_users=user_file is not None)
    training = {each.name: getattr(entry, each.name) for each in fields(TrainingInputs)}
    if entry.mean is None:
        training["mean"], training["std"] = pixels.trained_with(network) or (None, None)
    if user_file is not None or weights == "none":
        training["classes"] = None  # the file's classes may be others
    source = Source(entry.name or model, label, file, **training)
    network.featlight_source = source  # type: ignore[assignment]
    network.eval()  # a user's own `eval` may return nothing
    return network


def _from_file(entry: NetworkEntry, file: Path, part: str, layers: Collection[str], *, is_users: bool) -> nn.Module:
    """Build the network with the weights of a file that the user's training or the network's library wrote."""
    if entry.load is not None and not is_users:
        return entry.load(file)
    try:
        content = weight_files.read(file)
        build_for = entry.build_for if entry.build_with is None else partial(entry.build_with, content)
        return weight_files.fitted(content, build_for, file, entry.fit, part=part, layers=layers)
    except WeightsError:
        if entry.load is None or part:
            raise
        with suppress(WeightsError):  # the first error, about the network's own names, helps more
            return entry.load(file)
        raise


def source_of(network: nn.Module) -> Source:
    """Return where a network comes from; for a user's network, the name of its class and what its library records.

    Raises:
        UsageError: the network's modules cannot be told apart.
    """
    _check_distinct(network)
    inner = unwrapped(network)
    source = getattr(inner, "featlight_source", None)
    if isinstance(source, Source):
        return source
    mean, std = pixels.trained_with(inner) or (None, None)
    return Source(type(network).__name__, "as given", mean=mean, std=std)


def _check_distinct(network: nn.Module) -> None:
    """Raise UsageError if torch cannot walk a network because modules of it define their own equality or hash."""
    reached, waiting = {id(network): network}, [network]
    while waiting:
        children = [
            child for child in waiting.pop()._modules.values() if child is not None and id(child) not in reached
        ]
        reached |= {id(child): child for child in children}
        waiting += children
    kinds = (type(each) for each in reached.values())
    own = next((kind.__name__ for kind in kinds if kind.__hash__ is not nn.Module.__hash__), None)
    if own is None:
        return
    try:
        problem = "" if len(list(network.modules())) == len(reached) else "takes different modules as one"
    except Exception as error:  # a method of a user's module may raise anything
        problem = one_line(f"fails: {type(error).__name__}: {error}", 100)
    if problem:
        raise UsageError(
            f"network: {own} defines __eq__ or __hash__, and torch's modules() {problem}; write "
            f"{own}.__eq__, {own}.__hash__ = object.__eq__, object.__hash__ before the call"
        )


def checksum(network: nn.Module) -> str:
    """Return the SHA-256 of a network's structure and of the names, types, shapes and values of its tensors.

    Tensors of modules that are not registered, in a plain list for example, count too.

    Raises:
        UsageError: a parameter has no values.
    """
    check_filled(network)
    structure = re.sub(r"0x[0-9a-f]+", "", repr(network))  # without addresses, which change
    digest = hashlib.sha256(structure.encode(errors="backslashreplace"))
    for name, tensor in sorted({**network.state_dict(), **dict(network.named_buffers())}.items()):
        for leaf in tree_leaves(tensor):  # a quantized module's state is a tuple
            _update(digest, name, leaf)
    registered = set(network.modules())
    for module in all_modules(network):
        if module not in registered:
            for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                _update(digest, name, tensor)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        return
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode(errors="backslashreplace"))
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    plain = plain.int_repr() if plain.is_quantized else plain.to_dense() if plain.layout != torch.strided else plain
    digest.update(plain.contiguous().flatten().view(torch.uint8).numpy().data)


def _entry(model: str) -> NetworkEntry:
    source = next((source for source in SOURCES if source.has(model)), None)
    if source is not None:
        return source.entry(model)
    if timm.is_architecture(model):
        raise UsageError(f"--model: no network {model!r} in torchvision.models; timm has it: {timm.PREFIX}{model}")
    return torchvision.entry(model)  # raises UsageError with the nearest name
