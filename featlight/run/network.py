"""The network of an existing run, loaded only from the sources that `sources_of` allows."""

from pathlib import Path

from torch import nn

from featlight.errors import UsageError
from featlight.models.catalog import checksum, load_model, source_of
from featlight.plan.plan import Plan
from featlight.plan.sources import ANY_NETWORK, Sources


def load_run_network(out: Path, plan: Plan, sources: Sources, network: nn.Module | None = None) -> nn.Module:
    """Load a run's network and compare its checksum before use.

    Args:
        out: run directory, for messages.
        plan: plan of the run.
        sources: allowed model and weights.
        network: network from Python, instead of loading one.

    Raises:
        UsageError: the network cannot be loaded by a name, or differs from the run's.
        WeightsError: the weights cannot be loaded.
    """
    if network is None:
        try:
            layers = tuple(dict.fromkeys(layer for shapes in plan.layers.values() for layer in shapes))
            network = load_model(sources.model, sources.weights, seed=sources.seed, layers=layers)
        except UsageError as error:
            raise UsageError(f"{error} ({out} was made with {plan.network.model!r}; {ANY_NETWORK})") from None
    if checksum(network) != plan.network.sha256:
        raise UsageError(f"--out: {out} was made with another network than this {source_of(network).model}")
    return network
