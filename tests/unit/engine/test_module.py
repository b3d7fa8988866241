"""The Lightning module around the pure step."""

import lightning as L
import torch

import featlight
from featlight.config.validation import check
from featlight.engine.setup import prepare
from featlight.engine.trainer import descend
from featlight.plan.request import RunRequest


class Steps(L.Callback):
    """Notes `trainer.global_step` and the shape of the parameter after each step."""

    def __init__(self):
        self.counts, self.shapes = [], []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.counts.append(trainer.global_step)
        ((name, batch),) = pl_module.named_parameters()
        assert name == "batch"
        self.shapes.append(tuple(batch.shape))
        self.batch = batch.detach().clone()


def test_lightning_counts_the_steps_and_the_image_batch_is_the_parameter(network_of):
    results, steps, asked = [], Steps(), []

    def numbers():
        for number in (0, 1):
            asked.append((number, len(results)))
            yield number

    recipe = featlight.Recipe([featlight.Octave(size, 2, (0.1, 0.1), (0.8, 0.6)) for size in (24, 32)])
    config = check({"model": "a:b", "layer": "4", "features": [0, 1, 2], "recipe": recipe, "batch_size": 2})
    job = prepare(RunRequest(config.resolved(), network=network_of("hand_made")))
    descend(job, numbers(), results.append, callbacks=[steps], before_step=lambda: None)
    assert asked == [(0, 0), (1, 1)]  # a chunk is asked for when the one before is optimized
    assert steps.counts == [1, 2, 3, 4, 5, 6, 7, 8]
    assert steps.shapes == 2 * (2 * [(2, 3, 24, 24)] + 2 * [(2, 3, 32, 32)])
    assert torch.equal(steps.batch, results[1].images)
