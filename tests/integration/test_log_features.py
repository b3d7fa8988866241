"""`featlight.log_features`: features logged from a plain loop, and from transformers' Trainer."""

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import featlight
from featlight.errors import UsageError

RECIPE = featlight.Recipe([featlight.Octave(12, 2, (0.4, 0.3))])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3))


def test_a_plain_loop_logs_pictures_and_scalars_and_is_the_same_to_the_bit():
    weights = []
    for looks in (True, False):
        model, pictures = network(), []
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with SummaryWriter("logs") as writer:
            for step in range(3):
                if looks:
                    pictures = featlight.log_features(
                        model, ["0", "3"], [1, 2], writer=writer, step=step, previous=pictures, recipe=RECIPE
                    )
                optimizer.zero_grad()
                model(torch.rand(2, 3, 12, 12)).square().mean().backward()
                optimizer.step()
        weights.append([each.tolist() for each in model.state_dict().values()])
        if looks:
            assert [picture.layer for picture in pictures] == ["0", "3"]
            assert all(-1 <= value <= 1 for each in pictures for value in each.similarities.values())
    assert weights[0] == weights[1]
    events = EventAccumulator("logs", {"images": 0, "scalars": 0}).Reload()
    assert [each.step for each in events.Images("features/3")] == [0, 1, 2]
    assert [each.step for each in events.Scalars("features/0/similarity")] == [1, 2]
    assert [each.step for each in events.Scalars("features/0/mean_activation")] == [0, 1, 2]


def test_a_folder_gets_files(tmp_path):
    (picture,) = featlight.log_features(network(), 3, [0], writer=tmp_path, step=5, recipe=RECIPE)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")] == ["3/step-00000005.png"]
    assert picture.scalars.keys() == {"mean_activation", "dead"}
    drawn = featlight.visualize(network(), "3", [0], recipe=RECIPE, progress=False)
    assert torch.equal(picture.drawn[0].image, drawn[0])


def test_another_writer_is_refused():
    with pytest.raises(UsageError, match="writer: a int given; allowed: a SummaryWriter, or a folder"):
        featlight.log_features(network(), "3", [0], writer=1, step=0)


@pytest.mark.parametrize("layer", ["resnet.encoder.stages.1", "stages.1"])
def test_networks_of_transformers(tmp_path, layer):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic")
    torch.manual_seed(0)
    model = transformers.ResNetForImageClassification(config).train()
    (picture,) = featlight.log_features(model, layer, [0], writer=tmp_path, step=1, recipe=RECIPE)
    assert picture.layer == "resnet.encoder.stages.1"
    assert model.training
