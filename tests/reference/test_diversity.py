"""Groups of faces in float64 beside a loop over pairs, and how little moves them: workers, neighbours, halves."""

import copy
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

import featlight
from featlight.config.tile import Tile, diverse_tiles, feature_tile
from featlight.errors import UsageError
from featlight.objectives.diversity import gram_similarity, whole_groups
from featlight.objectives.objective import Objective
from featlight.plan.parsing import read_plan
from featlight.plan.plan import PlannedTile
from tests.literal import layer_function
from tests.made_up import made_up_plan
from tests.reference.test_objectives import recipe_of, table


def literal_likeness(outputs):
    """Of each image (C, H, W), the mean over the others of the cosine of Gram matrices."""
    grams = []
    for z in outputs:
        gram = sum(torch.outer(z[:, m, n], z[:, m, n]) for m in range(z.shape[1]) for n in range(z.shape[2]))
        grams.append(gram / torch.sqrt((gram**2).sum()))
    paid = [0.0] * len(grams)
    for i, j in itertools.permutations(range(len(grams)), 2):
        paid[i] = paid[i] + (grams[i] * grams[j]).sum() / (len(grams) - 1)
    return paid


def test_a_batch_of_groups_equals_the_loop():
    torch.manual_seed(0)
    output = torch.randn(6, 4, 3, 2, dtype=torch.float64)
    ours = gram_similarity(output, 3)
    theirs = torch.stack([*literal_likeness(output[:3]), *literal_likeness(output[3:])])
    assert torch.allclose(ours, theirs, rtol=1e-12)
    # two views of an image count as one of twice the positions
    assert torch.allclose(gram_similarity(output, 3, boxes=2), torch.stack(literal_likeness(
        [torch.cat([output[i], output[i + 1]], 1) for i in (0, 2, 4)])), rtol=1e-12)  # fmt: skip


def test_whole_descents_equal_the_loop(network_of):
    network = copy.deepcopy(network_of("hand_made")).double()
    rows, feature, faces = table(3.0), 2, 3
    result = featlight.visualize(
        network,
        "4",
        feature,
        diversity=faces,
        diversity_weight=50,
        recipe=recipe_of(rows),
        precision="fp64",
        batch_size=4,
        progress=False,
    )
    function = layer_function(network, "4")
    x = []
    for face in range(faces):
        words = "\0".join(("999", "4", str(feature), f"face {face}"))
        seed = int.from_bytes(hashlib.sha256(words.encode()).digest()[:7])
        x.append((torch.rand((3, 32, 32), generator=torch.Generator().manual_seed(seed)) / 10 + 0.5).double())
    x = torch.stack(x)
    for size, n, lr, sigma in rows:
        if x.shape[-1] != size:
            x = torchvision.transforms.functional.resize(x, [size, size], antialias=False)
        for i in range(n):
            x = x.detach().requires_grad_(True)
            z = torch.stack([function(image[None])[0] for image in x])
            loss = sum((200.0 - z[k, feature]).sum() for k in range(faces))
            loss = loss + 50.0 * z[0, feature].numel() * sum(literal_likeness(z))
            (g,) = torch.autograd.grad(loss, x)
            x = x.detach() - (lr[0] * (n - i) / n + lr[1] * i / n) * g
            s = sigma[0] * (n - i) / n + sigma[1] * i / n
            x = torchvision.transforms.functional.gaussian_blur(x, 3, [s, s])
    assert (result.images - x).abs().max() < 1e-6 * x.std()
    assert [planned.label for planned in result.tiles] == ["2 face 1", "2 face 2", "2 face 3"]


def test_padding_is_nobodys_face():
    tiles = diverse_tiles(feature_tile("a", 0), 2) + diverse_tiles(feature_tile("a", 1), 2)
    assert whole_groups([*tiles, tiles[-1], tiles[-1]], 2) == 2
    output = torch.randn(6, 3, 2, 2)
    padded = Objective([*tiles, tiles[-1], tiles[-1]], "l1", 200.0, {"a": (2, 2)}, faces=2, diversity_weight=20.0)(
        {"a": output}
    ).loss
    alone = Objective(tiles, "l1", 200.0, {"a": (2, 2)}, faces=2, diversity_weight=20.0)({"a": output[:4]}).loss
    assert torch.equal(padded[:4], alone)
    assert torch.equal(padded[4:], (200.0 - output[4:, 1]).sum((1, 2)))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_groups_are_whole_whatever_the_workers_and_halves(workers):
    plan = made_up_plan(batch_size=8, diversity=3)
    tiles = [face for i in range(7) for face in diverse_tiles(feature_tile("a", i), 3)]
    plan.layers = {"32": {"a": (9, 2, 2)}}
    plan.add([PlannedTile("", tile) for tile in tiles])
    shares = [plan.share(rank, workers, {planned.file for planned in plan.tiles}) for rank in range(workers)]
    assert sorted(number for share in shares for number in share) == list(range(4))
    for number in range(4):
        for size in (8, 4, 3):
            for part in plan.chunk(number, plan.settings).parts(size):
                assert [tile.face for tile in part.tiles] == [0, 1, 2] * (len(part.tiles) // 3)
    assert read_plan(plan.to_json()) == plan
    plan.chunks[0], plan.chunks[1] = [*plan.chunks[0][:-1]], [plan.chunks[0][-1], *plan.chunks[1][:-1]]
    plan.chunks[2] = [plan.chunks[1].pop(), *plan.chunks[2]]
    plan.chunks.append([i for i in range(21) if all(i not in members for members in plan.chunks)])
    plan.chunks = [members for members in plan.chunks if members]
    with pytest.raises(ValueError, match="splits the 3 pictures"):
        read_plan(plan.to_json())


def test_bits_hang_on_neither_memory_nor_company(network_of, small_recipe, monkeypatch):
    words = {"recipe": small_recipe, "diversity": 2, "batch_size": 4, "progress": False}
    network = network_of("hand_made")
    whole = featlight.visualize(network, "4", [1, 5, 7], out="whole", **words)
    alone = featlight.visualize(network, "4", [5], **words)
    assert torch.equal(whole.images[2:4], alone.images)
    # one face is lost: its whole group is made again, with the same bits
    lost = Path("whole/tiles/4/00001-face2.png")
    before = lost.read_bytes()
    lost.unlink()
    featlight.visualize(network, "4", [1, 5, 7], out="whole", **words)
    assert lost.read_bytes() == before

    from featlight.engine.step import evaluate

    def short(batch, *rest):
        if len(batch) > 2:
            raise MemoryError
        return evaluate(batch, *rest)

    monkeypatch.setattr("featlight.engine.module.evaluate", short)
    halved = featlight.visualize(network, "4", [1, 5, 7], **words)
    assert np.allclose(halved.images, whole.images, atol=1e-4)
    with pytest.raises(featlight.errors.FeatlightError, match="no memory for the 4 images of a feature"):
        featlight.visualize(network, "4", [1], recipe=small_recipe, diversity=4, batch_size=4, progress=False)


def test_a_group_needs_its_batch(network_of, small_recipe):
    with pytest.raises(UsageError, match=r"diversity: 4 given, but only 2 images are optimized together"):
        featlight.visualize(network_of("hand_made"), "4", 1, recipe=small_recipe, diversity=4, batch_size=2)
    tile = Tile("mine", (featlight.Term("4", 1),), 0)
    with pytest.raises(UsageError, match="tiles: a face given; use `diversity`"):
        featlight.visualize(network_of("hand_made"), tiles=[tile], recipe=small_recipe)
