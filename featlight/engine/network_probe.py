"""Run a network to its layers, and find the module at which two runs first differ."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import prod
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from featlight.config.image_shape import image_size, size_words
from featlight.engine.device import Draws, is_out_of_memory, seeded
from featlight.errors import UsageError, one_line
from featlight.models.hooks import forward_hooks, running
from featlight.models.layers import Survey
from featlight.models.output_layout import part_of
from featlight.models.prepared import PreparedNetwork
from featlight.models.probing.calls import meant_call, names_called, names_of

ENDS = (0, -1)  # indices of the compared images; their neighbors lie in between


class _Event(NamedTuple):
    place: str  # the module whose forward runs, or has just returned
    tensors: list[Tensor]


class NetworkProbe:
    """Runs the original network, and refuses it in one line.

    Args:
        network: prepared network.
        layers: names of the layers to run to.
        name: name of the network, for messages.
    """

    def __init__(self, network: PreparedNetwork, layers: Sequence[str], name: str) -> None:
        self.layers = layers
        self._name = name
        self._prepared = network
        self._network = network.original_network
        self._cut = network.original(layers)
        self._modules = dict(self._network.named_modules(remove_duplicate=False))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """Return each layer's output for the first and the last of images (N, C, H, W).

        Raises:
            UsageError: the network fails before it reaches all layers, or returns other shapes than in the survey.
        """
        size = image_size(*images.shape[-2:])
        survey = self._prepared.surveys[size]
        left = {layer: survey[layer].call_number for layer in self.layers}
        outputs: dict[str, Tensor] = {}

        def keeper(layer: str) -> Callable[..., None]:
            def keep(_: nn.Module, __: Any, output: Any) -> None:
                left[layer] -= 1
                if left[layer] == 0:
                    outputs[layer] = _ends(part_of(output, survey[layer].part), len(images), survey[layer].batch)
                if len(outputs) == len(left):
                    raise _AllGivenError

            return keep

        failure = "it is not called"
        hooks = [(self._modules[survey[layer].module], keeper(layer)) for layer in self.layers]
        with forward_hooks(hooks), torch.no_grad():
            try:
                self._network(self._cut.network_input(images))
            except _AllGivenError:
                pass
            except (Exception, SystemExit) as error:  # a network may raise anything
                if is_out_of_memory(error):
                    raise
                failure = one_line(f"{type(error).__name__}: {error}", 300)
        for layer in self.layers:
            if layer not in outputs:
                self.refuse(
                    layer,
                    f"it gives nothing for {_count(images)} of {size_words(size)} px{_range(images)}: {failure}",
                )
            self._check_shape(layer, outputs[layer], images)
        return outputs

    def _check_shape(self, layer: str, output: Tensor, images: Tensor) -> None:
        known, given = self._prepared.surveys[image_size(*images.shape[-2:])][layer], tuple(output.shape)
        batch = min(len(ENDS), len(images))
        if len(given) not in (2, 3, 4) or given[0] != batch or prod(given[1:]) != known.value_count:
            shape = ", ".join(map(str, given))
            self.refuse(layer, f"for {_count(images)} it gives ({shape}), for 2 it gave {known.shape} each")

    def refuse(self, layer: str, why: str) -> NoReturn:
        raise UsageError(f"layer {layer!r} in {self._name}: {why}")

    def refuse_unsteady(self, layer: str, images: Tensor) -> NoReturn:
        """Refuse a layer whose output for the same images has changed; name the cause."""
        asked = []
        for seed in (0, 0, 1):
            with seeded(seed):
                asked.append(self.run(images)[layer])
        where = self.first_difference(images, images)
        if torch.equal(asked[0], asked[1]) and not torch.equal(asked[1], asked[2]):
            self.refuse(layer, f"it draws random numbers: the same images give something else each time{where}")
        self.refuse(layer, f"it keeps state from call to call: the same images give something else next time{where}")

    def check_whole(self, images: Tensor) -> None:
        """Run the whole network.

        Raises:
            UsageError: the network draws from torch's random stream before a layer, or these images change the number
                of a layer's calls.
        """
        draws = Draws(images.device)
        drawn: dict[str, str | None] = {}
        calls: Counter[str] = Counter()

        def keeper(layer: str) -> Callable[..., None]:
            def keep(*_: Any) -> None:
                drawn[layer] = draws.place
                calls[layer] += 1

            return keep

        survey = self._prepared.surveys[image_size(*images.shape[-2:])]
        self._check_calls(survey, images)
        hooks = [(self._modules[survey[layer].module], keeper(layer)) for layer in self.layers]
        with running(self._network) as stack, forward_hooks(hooks), torch.no_grad(), suppress(Exception, SystemExit):
            draws.stack = stack
            with draws:
                self._network(self._cut.network_input(images))
        for layer, place in drawn.items():
            if place is not None:
                self.refuse(layer, f"it draws random numbers, in {self._label(place)}")
            counts = sorted({self._prepared.surveys[image_size(*images.shape[-2:])][layer].calls, calls[layer]})
            if len(counts) > 1:
                text = " or ".join(map(str, counts))
                self.refuse(layer, f"it is called {text} times, as the images ask: which call is meant is not known")

    def _check_calls(self, survey: Survey, images: Tensor) -> None:
        """Raise UsageError if a layer's name means another call of its module for these images."""
        one_of_several = [layer for layer in self.layers if survey[layer].call is not None]
        names = names_of(self._network) if one_of_several else {}
        calls = names_called(self._network, self._cut.network_input(images)) if one_of_several else {}
        for layer in one_of_several:
            every, known = names[self._modules[survey[layer].module]], survey[layer]
            if meant_call(known.module, every, calls[every[0]], known.calls) != known.call:
                self.refuse(layer, "which call of its module it means depends on the images")

    def check_gradient(self, images: Tensor) -> None:
        """Raise UsageError if no gradient reaches the images, or only the first time."""
        for again in (False, True):
            images = images.detach().clone().requires_grad_(True)
            try:
                outputs = self._cut(images)
                for layer, output in outputs.items():
                    if not _reaches(output, images):
                        self.refuse(layer, f"no gradient reaches the image{self._gradient_ends(images)}")
                torch.stack([output.sum() for output in outputs.values()]).sum().backward()  # type: ignore[no-untyped-call]
            except UsageError:
                raise
            except Exception as error:  # from autograd, or from the network when gradients are on
                if is_out_of_memory(error):
                    raise
                reason = one_line(f"{type(error).__name__}: {error}", 240)
                what = "it keeps state from call to call" if again else "no gradient can be taken"
                self.refuse(", ".join(self.layers), f"{what} ({reason}){self._gradient_ends(images)}")

    def first_difference(self, ours: Tensor, theirs: Tensor) -> str:
        """Describe the first module whose output differs between two batches with equal first and last images."""
        for mine, yours in zip(self._events(ours), self._events(theirs), strict=False):
            if mine.place != yours.place or not _equal(mine.tensors, yours.tensors):
                return f"; it begins in {self._label(mine.place)}"
        return ""

    def _events(self, images: Tensor) -> list[_Event]:
        events: list[_Event] = []

        def note(place: str, values: Any) -> None:
            tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor) and leaf.ndim]
            whole = [tensor for tensor in tensors if tensor.layout == torch.strided and not len(tensor) % len(images)]
            events.append(_Event(place, [_ends(tensor.detach(), len(images)) for tensor in whole]))

        with running(self._network, note), torch.no_grad(), suppress(Exception, SystemExit):
            self._network(self._cut.network_input(images))
        return events

    def _gradient_ends(self, images: Tensor) -> str:
        """Describe the first module whose input has a gradient and whose output has none."""
        ends: list[str] = []

        def note(module: nn.Module, given: Any, output: Any) -> None:
            if _has_gradient(given) and not _has_gradient(output) and not ends:
                ends.append(next(name for name, each in self._modules.items() if each is module))

        modules = [(module, note) for module in self._network.modules()]
        with forward_hooks(modules), suppress(Exception, SystemExit), torch.enable_grad():
            self._network(self._cut.network_input(images.detach().clone().requires_grad_(True)))
        return f"; it ends in {self._label(ends[0])}" if ends else ""

    def _label(self, place: str) -> str:
        module = self._modules[place]
        kind = type(module).__name__
        if not place:
            return f"the network's own forward ({kind})"
        return f"{place!r} ({kind})" if not list(module.children()) else f"the forward of {place!r} ({kind})"


class _AllGivenError(BaseException):
    """Ends a forward pass early; not an Exception, so that no network catches it."""


def _range(images: Tensor) -> str:
    """Describe the range of pixels outside [0, 1], which a recipe with an unbounded range allows."""
    low, high = images.aminmax()
    if low >= 0 and high <= 1:
        return ""
    return f" and pixels in [{low:.3g}, {high:.3g}] (recipe.range: sigmoid keeps them in [0, 1])"


def _reaches(output: Tensor, images: Tensor) -> bool:
    """Return whether the output's gradient reaches the images."""
    left = [output.grad_fn]
    seen = set(left)
    while left:
        node = left.pop()
        if node is None:
            continue
        if getattr(node, "variable", None) is images:
            return True
        new = [other for other, _ in node.next_functions if other not in seen]
        seen.update(new)
        left += new
    return False


def _ends(output: Any, count: int, batch: int = 0) -> Tensor:
    """Copy the output for the first and the last image, since the network may write into it later.

    Several rows of an image, such as its windows, are adjacent in the output.
    """
    if not isinstance(output, Tensor):
        return torch.empty(0)
    first: Tensor = output.movedim(batch, 0) if batch < output.ndim else output
    if not first.ndim or len(first) % count:
        return first
    parts = first.reshape(count, -1, *first.shape[1:])
    return parts[list(ENDS) if count > 1 else [0]].flatten(0, 1)


def _has_gradient(values: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves(values))


def _equal(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    if [tensor.shape for tensor in ours] != [tensor.shape for tensor in theirs]:
        return False
    return all(torch.equal(mine.nan_to_num(), yours.nan_to_num()) for mine, yours in zip(ours, theirs, strict=True))


def _count(images: Tensor) -> str:
    return f"{len(images)} image{'' if len(images) == 1 else 's'}"
