"""The network of an existing run, loaded only from the sources that `sources_of` allows."""

from pathlib import Path

from torch import nn

from featlight.errors import UsageError
from featlight.models.catalog import checksum, has_more_parameters, load_model, source_of
from featlight.plan.plan import Plan
from featlight.plan.sources import ANY_NETWORK, Sources, must_type

MOST_PARAMETERS = 700_000_000  # of a network that only a plan names; torchvision's largest has 645 million


def load_run_network(out: Path, plan: Plan, sources: Sources, network: nn.Module | None = None) -> nn.Module:
    """Load a run's network and compare its checksum before use.

    Args:
        out: run directory, for messages.
        plan: plan of the run.
        sources: allowed model and weights.
        network: network from Python, instead of loading one.

    Raises:
        UsageError: the network cannot be loaded by a name, is large and not typed, or differs from the run's.
        WeightsError: the weights cannot be loaded.
    """
    if network is None:
        if not sources.is_typed and has_more_parameters(sources.model, MOST_PARAMETERS):
            why = f"a network of more than {MOST_PARAMETERS:,} parameters"
            raise must_type(out, "--model", sources.model, why)
        try:
            layers = tuple(dict.fromkeys(layer for shapes in plan.layers.values() for layer in shapes))
            network = load_model(sources.model, sources.weights, seed=sources.seed, layers=layers)
        except UsageError as error:
            raise UsageError(f"{error} ({out} was made with {plan.network.model!r}; {ANY_NETWORK})") from None
    if checksum(network) != plan.network.sha256:
        raise UsageError(f"--out: {out} was made with another network than this {source_of(network).model}")
    return network
