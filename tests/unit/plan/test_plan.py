import json

import pytest
import torch

from featlight.config.choices import Sample
from featlight.config.validation import check
from featlight.errors import UsageError
from featlight.models.frozen import frozen_copy
from featlight.models.layers import survey
from featlight.plan.batching import auto_batch_size, fewest_chunks
from featlight.plan.parsing import read_plan
from featlight.plan.selection import named_layers, wanted_tiles
from tests.conftest import hand_made
from tests.made_up import made_up_plan

RECIPE = {"octaves": [{"size": 32, "steps": 2, "lr": [0.1, 0.1], "sigma": None}]}
OTHER = {"octaves": [{"size": 20, "steps": 1, "lr": [0.1, 0.1], "sigma": None}]}


def wanted(**values):
    config = check({"model": "net:net", "recipe": RECIPE, **values}).resolved()
    network = frozen_copy(hand_made(), torch.device("cpu"), torch.float32)
    surveys = {size: survey(network, size) for size in {way.recipe.first_size for way in config.settings.values()}}
    return wanted_tiles(config, surveys, "net")


def plan_of(tiles, batch_size=4):
    return made_up_plan(tiles, batch_size=batch_size)


def files(plan):
    return [[plan.tiles[i].file for i in chunk] for chunk in plan.chunks]


def test_layers_and_features_in_the_order_of_asking():
    tiles = wanted(layer={"3": "2,0", "5": None}, features="1")
    assert [tile.file for tile in tiles] == ["tiles/3/00002.png", "tiles/3/00000.png", "tiles/5/00001.png"]


def named(layer, usable=("a", "b.0", "b.1", "b", "c*"), own=lambda names: names):
    config = check({"model": "net:net", "layer": layer, "features": "sample:2"})
    return list(named_layers(config.layer, {"a", "b", "b.0", "b.1", "c*"}, usable, own, "net").items())


def test_patterns_take_layers_in_the_networks_order():
    assert [name for name, _ in named("all")] == ["a", "b.0", "b.1", "b", "c*"]
    assert [name for name, _ in named(["b.*", "a"])] == ["b.0", "b.1", "a"]
    assert named({"b.1": "3", "b.*": "sample:4", "**": None}) == [
        ("b.1", (3,)),
        ("b.0", Sample(4)),
        *((name, None) for name in ("a", "b", "c*")),
    ]
    assert [name for name, _ in named(["c*"])] == ["c*"]  # a module's very name
    assert [name for name, _ in named("all", own=lambda names: [n for n in names if n != "b"])][-2:] == ["b.1", "c*"]
    with pytest.raises(UsageError, match=r"layer: 'd.\*' given; it matches no layer of net with features"):
        named("d.*")


def test_a_sample_of_a_layer_hangs_on_no_other_layer():
    alone, both = wanted(layer="3", features="sample:4"), wanted(layer=["0", "3"], features="sample:4")
    assert alone == both[4:]
    assert len(both) == 8
    assert [tile.tile.terms[0].feature for tile in alone] == list(Sample(4).draw("3", 12, 999))


def test_all_features():
    assert len(wanted(layer="3")) == 12
    assert [tile.file for tile in wanted(layer="3", region="all")] == ["tiles/3/all.png"]


@pytest.mark.parametrize(("region", "count"), [("row", 15), ("neuron", 225), ("prefix", 225)])
def test_all_positions_of_a_region(region, count):
    tiles = wanted(layer="3", features="4", region=region, index="all")
    assert len({tile.file for tile in tiles}) == count


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"layer": "6"}, "no layer '6' in net"),
        ({"layer": "3", "features": "0,12"}, "features: 12 given; layer '3' has 12, 0 to 11"),
        ({"layer": "3", "features": "0", "region": "row", "index": 15}, "index: 15 given; the map of layer '3' has 15"),
        ({"layer": "3", "features": "0", "region": "neuron", "index": [0, 15]}, r"index: \[0, 15\] given"),
        ({"layer": "3", "features": "0", "region": "prefix", "index": 225}, "index: 225 given"),
        ({"tiles": [{"name": "a", "terms": [{"layer": "3", "feature": 12}]}]}, "features: 12 given"),
    ],
)
def test_what_the_network_does_not_have_is_refused(values, line):
    with pytest.raises(UsageError, match=line):
        wanted(**values)


def test_variants_make_the_same_tiles_each_its_own_way():
    variants = [{"name": "L2", "metric": "l2"}, {"name": "small", "recipe": OTHER, "seed": 1}]
    config = check({"model": "net:net", "recipe": RECIPE, "variants": variants}).resolved()
    l2, small = config.settings.values()
    assert (l2.metric, l2.seed, l2.recipe.first_size) == ("l2", 999, 32)
    assert (small.metric, small.seed, small.recipe.first_size) == ("l1", 1, 20)
    tiles = wanted(layer="3", features="0-2", variants=variants)
    assert [tile.file for tile in tiles][2:4] == ["tiles/L2/3/00002.png", "tiles/small/3/00000.png"]


def test_chunks_hold_one_layer_and_stay_as_they_are_when_a_run_grows():
    plan = plan_of(wanted(layer={"3": "0-5", "5": "0"}))
    assert [len(chunk) for chunk in plan.chunks] == [4, 2, 1]
    before = files(plan)
    plan.add(wanted(layer={"3": "0-7", "5": "0-1"}))
    assert files(plan) == [*before, ["tiles/3/00006.png", "tiles/3/00007.png"], ["tiles/5/00001.png"]]
    assert len(plan.tiles) == 10


def test_chunks_of_a_run_that_grows_from_a_few_tiles_are_larger():
    plan = plan_of(wanted(layer="3", features="0"), batch_size=1)
    plan.add(wanted(layer="3", features="0-9"), 4)
    plan.add(wanted(layer="3", features="10,11"), 2)  # never smaller
    assert [len(chunk) for chunk in plan.chunks] == [1, 4, 4, 1, 2]
    assert [plan.chunk(number, plan.settings).batch_size for number in range(5)] == [1, 4, 4, 4, 4]
    assert [plan.batch_of_tile(f"tiles/3/0000{number}.png") for number in (0, 1)] == [1, 4]
    assert read_plan(plan.to_json()) == plan
    assert read_plan(plan.copy().to_json()).larger_batches == {1: 4}


@pytest.mark.parametrize("batches", [{"0": 1}, {"1": 4, "2": 3}, {"9": 4}, {"-1": 4}, {"1": 0}, {"one": 4}, [4]])
def test_batches_that_do_not_grow_are_refused(batches):
    plan = plan_of(wanted(layer="3", features="0"), batch_size=1)
    plan.add(wanted(layer="3", features="0-9"), 4)
    values = json.loads(plan.to_json()) | {"larger_batches": batches}
    with pytest.raises(ValueError, match=r"larger_batches|chunks"):
        read_plan(json.dumps(values))


def test_a_plan_reads_back_equal():
    tiles = [{"name": "both", "terms": [{"layer": "3", "feature": 1}, {"layer": "5", "weight": 0.5}]}]
    plan = plan_of(wanted(tiles=tiles))
    plan.add(wanted(layer="3", features="1", region="neuron", index=[2, 3]))
    assert read_plan(plan.to_json()) == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2}', '{"format": 2, "tiles": [1]}'])
def test_what_is_no_plan_is_refused(text):
    with pytest.raises(ValueError, match=r"plan|damaged|Expecting"):
        read_plan(text)


def test_the_batch_is_a_power_of_two_no_larger_than_it_need_be():
    def size(tiles, gpu, image_bytes=1, memory=1 << 30):
        return auto_batch_size(tiles, gpu=gpu, image=image_bytes, memory=memory)

    assert [size(n, gpu=False) for n in (1, 2, 3, 8, 768)] == [1, 2, 4, 8, 8]
    assert [size(n, gpu=True) for n in (1, 40, 768)] == [1, 64, 64]
    assert [size(768, gpu=True, image_bytes=b, memory=800) for b in (9, 10, 100, 101, 1000)] == [32, 32, 4, 2, 1]
    assert [size(768, gpu=False, image_bytes=b, memory=800) for b in (10, 30, 1000)] == [8, 2, 1]


def test_a_digest_hangs_on_the_fingerprint():
    digests = {made_up_plan(seed=1).digest(""), made_up_plan(seed=2).digest(""), made_up_plan(seed=2).digest("")}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"chunks": [[0, 9]]}, "chunks: not every tile is in exactly one chunk"),
        ({"chunks": [[0, 1, 1]]}, "chunks: not every tile is in exactly one chunk"),
        ({"batch_size": "many"}, "batch_size: "),
        ({"network": []}, "network: "),
        ({"fingerprints": {}}, "variant: not among the fingerprints"),
        ({"fingerprints": {"../x": {}, "": {}}}, "variant: not a valid name"),
        ({"tiles": [{"variant": "", "name": "../a", "terms": []}]}, "damaged"),
    ],
)
def test_a_damaged_plan_is_refused(change, line):
    values = json.loads(plan_of(wanted(layer="3", features="0-1")).to_json())
    with pytest.raises(ValueError, match=line):
        read_plan(json.dumps({**values, **change}))


def test_a_plan_keeps_the_numbers_as_they_were_written():
    values = json.loads(made_up_plan().to_json())
    values["fingerprints"][""]["recipe"]["octaves"][0]["lr"] = [1, 0]  # not 1.0: records name a digest of this text
    plan = read_plan(json.dumps(values))
    assert plan.settings[""].recipe.octaves[0].lr == (1.0, 0.0)
    assert read_plan(plan.to_json()).digest("") == plan.digest("")
    assert '"lr": [1, 0]' in json.dumps(plan.fingerprints)


@pytest.mark.parametrize(
    ("values", "chunks"),
    [
        ({}, None),  # all features
        ({"features": "0-7"}, 1),
        ({"features": "0-8"}, 2),
        ({"features": "0-8", "batch_size": 2}, 5),
        ({"layer": {"a": "0-7", "b": None}, "features": "0-3"}, 2),
        ({"layer": {"a": "0-7", "b": "all"}}, None),
        ({"features": "0-7", "variants": [{"name": "a"}, {"name": "b", "metric": "l2"}]}, 2),
        ({"features": "0", "region": "prefix", "index": "all"}, None),
        ({"tiles": [{"name": "a", "terms": [{"layer": "a"}]}]}, 1),
    ],
)
def test_workers_without_chunks_are_not_started(values, chunks):
    assert fewest_chunks(check(values).resolved()) == chunks
