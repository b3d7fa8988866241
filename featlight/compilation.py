"""The cut network as one compiled graph for each image size."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from featlight.errors import UsageError
from featlight.network import LayerOutputs

TOLERANCE = 1e-3  # of the largest value of an output in float32; another tensor is off by far more


def compiled(
    network: nn.Module, layers: Sequence[str], as_it_is: LayerOutputs, sample: Tensor
) -> Callable[[Tensor], Mapping[str, Tensor]]:
    """A compiled function from images to the outputs of layers.

    Args:
        network: frozen.
        layers: by name.
        as_it_is: the same layers of the network, not compiled.
        sample: images to compare the two on before use, (N, 3, S, S).

    Raises:
        UsageError: the network is no graph that torch.fx can trace, or its graph gives other outputs.
    """
    for module in network.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # it would overwrite a layer that the graph gives
    try:
        graph: nn.Module = create_feature_extractor(network, list(layers))

        def run(images: Tensor) -> Mapping[str, Tensor]:
            found: Mapping[str, Tensor] = graph(as_it_is.prepared(images))
            return found

        with torch.no_grad():
            ours, theirs = as_it_is.of(run)(sample), as_it_is(sample)
    except Exception as error:  # tracing may raise anything
        why = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UsageError(f"compile: on given, but the network is no plain graph ({why}); allowed: auto, off") from None
    for name in layers:
        if (ours[name] - theirs[name]).abs().amax() > TOLERANCE * theirs[name].abs().amax():
            raise UsageError(f"compile: on given, but as a graph layer {name!r} gives other values; allowed: auto, off")
    function: Callable[[Tensor], Mapping[str, Tensor]] = torch.compile(run)
    return function
