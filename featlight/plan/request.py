"""The request of a call, made once by `visualize` or the command line and read by the engine. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featlight.config.schema import Config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from featlight.objectives.directions import Directions
    from featlight.objectives.own import Function


@dataclass(frozen=True)
class RunRequest:
    """A config, and the Python objects that no config can hold; None where the config decides.

    Args:
        config: resolved config.
        network: network from Python.
        device: device from Python.
        init: starting images from Python, in a form that `starts_from` takes.
        caricature: image to caricature from Python, in such a form.
        directions: directions from Python.
        objective: function that the config names.
        threads: CPU threads that replace `auto` in a new plan; 0 to choose them for one worker per core.
        fresh: whether to delete the existing run first.
        quiet: whether to print nothing.
    """

    config: Config
    network: "nn.Module | None" = None
    device: "torch.device | None" = None
    init: Any = None
    caricature: Any = None
    directions: "Directions | None" = None
    objective: "Function | None" = None
    threads: int = 0
    fresh: bool = False
    quiet: bool = False
