"""The embedded network: small, trained on pictures that the package draws itself, weights included."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from featlight.models.tiny_inception.model import TinyInception
from featlight.models.tiny_inception.patterns import CLASSES

__all__ = ["CLASSES", "WEIGHTS_FILE", "TinyInception", "load"]

WEIGHTS_FILE = Path(__file__).parent / "weights.safetensors"


def load() -> TinyInception:
    """The embedded network with its packaged weights, in eval mode."""
    with torch.device("meta"):  # nothing is drawn, so the global random state stays as it is
        network = TinyInception(len(CLASSES))
    network.load_state_dict(load_file(WEIGHTS_FILE), strict=True, assign=True)
    return network.eval()
