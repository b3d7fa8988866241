"""Faces of a feature, and rows of a file of directions, by several workers and under kills: the same bytes."""

from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest

from featlight.config.validation import check
from featlight.distributed.env import Worker
from featlight.distributed.signals import Stop
from featlight.engine.device import device_of
from featlight.errors import AloneError, Interrupted
from featlight.plan.request import RunRequest
from featlight.run.worker import make

RECIPE = {"octaves": [{"size": 32, "steps": 4, "lr": [0.4, 0.3], "sigma": [1.2, 0.6]}]}
LOOKS = {
    "faces": {"features": "0-4", "diversity": 3},
    "directions": {"directions": "rows.npy", "cosine_power": 2, "diversity": 2},
}


class Killed(Stop):
    """A signal at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.left = step

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted("killed")


def config(look, out):
    np.save("rows.npy", np.random.default_rng(0).standard_normal((6, 12)))
    values = {"layer": "4", "recipe": RECIPE, "batch_size": 4, "threads": 1, "out": out, **LOOKS[look]}
    return check(values)


def tiles(out):
    return {path.relative_to(out): path.read_bytes() for path in Path(out).glob("tiles/**/*.png")}


@pytest.mark.parametrize("look", LOOKS)
def test_workers_and_kills_change_no_byte(network_of, look):
    network = network_of("hand_made")
    given = {"network": network, "quiet": True, "device": device_of("cpu", Worker())}
    make(RunRequest(config(look, "alone"), **given))
    expected = tiles("alone")
    assert len(expected) == {"faces": 15, "directions": 12}[look]
    for world in (2, 3) if look == "faces" else (2,):
        for rank in reversed(range(world)):  # the first lays out what all have made
            with suppress(AloneError) if rank else nullcontext():
                make(RunRequest(config(look, f"by{world}"), **given), worker=Worker(rank, world))
        assert tiles(f"by{world}") == expected
    for step in (2, 6, 5) if look == "faces" else (6,):  # in one chunk and another; what was made stays
        with pytest.raises(Interrupted):
            make(RunRequest(config(look, "killed"), **given), stop=Killed(step))
    make(RunRequest(config(look, "killed"), **given))
    assert tiles("killed") == expected
