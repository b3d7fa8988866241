"""Attribution of a tile's activation to the features of earlier layers, on its own final image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from featlight.circuits.network import CircuitNetwork
from featlight.examples.activations import Activations, TileQuery


class Attributions(NamedTuple):
    """The attributions of one tile.

    Args:
        activation: mean activation of the tile's neurons.
        by_layer: attribution of each feature of each earlier layer, (C,), float64; layers that do not feed the tile
            are left out.
    """

    activation: float
    by_layer: dict[str, Tensor]


def attribute(network: CircuitNetwork, query: TileQuery, image: Tensor, earlier: Sequence[str]) -> Attributions:
    """Attribute a tile's activation: the sum over all positions of da/dz times z, by one backward pass.

    Where the network between two layers is linear, up to constants and ReLUs that keep their state, the attributions
    of a layer and the parts of the biases after it sum to the activation.

    Args:
        network: network of the run.
        query: neurons of the tile's objective.
        image: final image of the tile in pixel units, (C, H, W).
        earlier: names of earlier outputs.
    """
    own = list(dict.fromkeys(term.output for term in query.terms))
    with torch.enable_grad():
        linked = network.linked(image, [*earlier, *own])
        values = Activations([query], network.device, network.directions)(linked.maps)  # (N, 1)
        activation = values[0, 0]
        gradients = linked.gradients(activation, earlier)
    by_layer = {}
    for name in earlier:
        if name in gradients:
            z = linked.maps[name].detach()[0].double()  # (C, H, W)
            by_layer[name] = (gradients[name][0].double() * z).sum((1, 2)).cpu()
    return Attributions(float(activation.detach()), by_layer)
