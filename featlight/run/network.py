"""The network of a run that is there, for commands that look into it: loaded as `sources_of` allows, and no other."""

from pathlib import Path

from torch import nn

from featlight.errors import UsageError
from featlight.models.catalog import checksum, load_model, source_of
from featlight.plan.plan import Plan
from featlight.plan.sources import ANY_NETWORK, Sources


def load_run_network(out: Path, plan: Plan, sources: Sources, network: nn.Module | None = None) -> nn.Module:
    """Load a run's network, and compare its checksum before it runs.

    Args:
        out: run directory, for messages.
        plan: plan of the run.
        sources: what may be loaded.
        network: network from Python, instead of loading one.

    Raises:
        UsageError: it cannot be loaded by a name, or is another network than the run's.
        WeightsError: its weights cannot be had.
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
