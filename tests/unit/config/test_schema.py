import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from featlight.config.schema import Config
from featlight.config.validation import check, read
from featlight.errors import UsageError

OCTAVE = {"size": 64, "steps": 3, "lr": [0.3, 0.1], "sigma": None}


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"modle": "x"}, "no key 'modle'; nearest: 'model'"),
        ({"recipe": {"octaves": [{**OCTAVE, "step": 3}]}}, "recipe.octaves[0]: no key 'step'; nearest: 'steps'"),
        ({"recipe": {"octaves": [{**OCTAVE, "size": 1}]}}, "recipe.octaves[0].size: 1 pixels given"),
        ({"recipe": {"octaves": []}}, "recipe.octaves: none given"),
        ({"recipe": {"octaves": [OCTAVE], "gradient": "x"}}, "recipe.gradient: 'x' given; allowed: raw, rms"),
        ({"metric": "l3"}, "metric: 'l3' given; allowed: l1, l2, linf, linf-rows"),
        (
            {"features": "0-"},
            "features: '0-' given; allowed: `all`, numbers and ranges as in 0-15,199,201, names, or sample:16",
        ),
        ({"layer": {"a": "-"}}, "layer.a: '-' given"),
        ({"layer": 3.5}, "layer: 3.5 given; allowed: a layer's name, a list of names"),
        ({"layer": [True]}, "layer: True given; allowed: a layer's name"),
        ({"seed": -1}, "seed: -1 given; it should be greater than or equal to 0"),
        ({"seed": "a"}, "seed: 'a' given; it should be a valid integer"),
        ({"devices": 0}, "devices: 0 given; allowed: auto, or a whole number from 1 to 4096"),
        ({"batch_size": "many"}, "batch_size: 'many' given"),
        ({"target": float("nan")}, "target: nan given"),
        ({"region": "row"}, "index: None given; region row needs a row"),
        ({"index": 3}, "index: 3 given; region map needs no index"),
        ({"region": "neuron", "index": "x"}, "index: 'x' given"),
        ({"tiles": [{"name": "../a", "terms": [{"layer": "a", "feature": 3}]}]}, "tiles[0].name: '../a' given"),
        ({"tiles": [{"name": "a", "terms": [{"layr": "a"}]}]}, "tiles[0].terms[0]: no key 'layr'; nearest: 'layer'"),
        ({"tiles": [{"name": "a", "terms": []}]}, "tiles[0].terms: none given"),
        ({"variants": [{"name": "a", "metrics": "l1"}]}, "variants[0]: no key 'metrics'; nearest: 'metric'"),
        ({"variants": [{"name": "a"}, {"name": "a"}]}, "variants: the name 'a' is given twice"),
        ({"Model": "x"}, "no key 'Model'; nearest: 'model'"),
        ({"": 1}, "no key ''"),
        ({"recipe": {"Octaves": []}}, "recipe: no key 'Octaves'; nearest: 'octaves'"),
        ({"tiles": [{"name": "a", "terms": [{"layer": "a", "Feature": 1}]}]}, "tiles[0].terms[0]: no key 'Feature'"),
        ({"tiles": []}, "tiles: none given"),
        ({"layer": []}, "layer: none given"),
        ({"features": []}, "features: none given"),
        ({"variants": []}, "variants: none given"),
        ({"features": "0", "tiles": [{"name": "a", "terms": [{"layer": "a"}]}]}, "features: given with named tiles"),
        ({"region": "row", "index": 1, "variants": [{"name": "a", "region": "map"}]}, "index: 1 given; region map"),
        ({"variants": [{"name": "a/b"}]}, "variants: name 'a/b' given"),
        (
            {"layer": "a", "tiles": [{"name": "a", "terms": [{"layer": "a"}]}]},
            "tiles: named tiles and `layer` given",
        ),
    ],
)
def test_a_slip_is_answered_in_one_line(values, line):
    with pytest.raises(UsageError) as caught:
        check(values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_the_line_says_where_the_key_stands():
    with pytest.raises(UsageError, match=r"^my\.yaml: metric: 'l3' given"):
        check({"metric": "l3"}, {"metric": "my.yaml: metric"})
    with pytest.raises(UsageError, match=r"^my\.yaml: no key 'modle'; nearest: 'model'"):
        check({"modle": "x"}, {"modle": "my.yaml: modle"})


def test_yaml_on_and_off_are_words():
    assert check(yaml.safe_load("compile: on")).compile == "on"
    assert check(yaml.safe_load("compile: off")).compile == "off"


@pytest.mark.parametrize(("given", "index"), [("8", 8), ("9,10", (9, 10)), ("[9, 10]", (9, 10)), ([9, 10], (9, 10))])
def test_an_index_reads_alike_from_a_flag_and_a_file(given, index):
    region = "neuron" if isinstance(index, tuple) else "row"
    assert check({"region": region, "index": given}).index == index


def test_defaults_hang_on_the_network():
    assert check({}).resolved().model == "efficientnet_lite0"
    assert check({}).resolved().layer == {"blocks.4.0": None}
    settled = check({"model": "inception_v3"}).resolved()
    assert settled.layer == {"Mixed_6b": None}
    assert settled.out == str(Path("runs/inception_v3-Mixed_6b"))
    assert check({}).resolved("my").out == str(Path("runs/my"))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model": "resnet50", "features": "0-3,9", "layer": ["layer1", "layer2"], "compile": "off"},
        {"layer": {"Mixed_6a": "0-7", "Mixed_6b": "all"}, "recipe": {"octaves": [OCTAVE], "gradient": "rms"}},
        {"region": "neuron", "index": [3, 4], "variants": [{"name": "L2", "metric": "l2"}]},
        {"region": "row", "index": 1, "variants": [{"name": "whole", "region": "map", "index": None}]},
        {"tiles": [{"name": "both", "terms": [{"layer": "a", "feature": 1}, {"layer": "b", "weight": 0.5}]}]},
    ],
)
def test_what_is_written_reads_back_equal(values):
    settled = check(values).resolved()
    assert check(yaml.safe_load(settled.to_yaml())).resolved() == settled


def test_a_null_in_a_variant_is_the_runs_own():
    variant = {"name": "a", "metric": None, "recipe": None, "seed": 3, "index": None}
    own = {"metric": "l2", "region": "row", "index": 1, "recipe": {"octaves": [{"size": 9, "steps": 1, "lr": [0, 0]}]}}
    settings = check({**own, "variants": [{**variant, "region": "map"}]}).settings["a"]
    assert (settings.metric, settings.seed, settings.index, settings.recipe.first_size) == ("l2", 3, None, 9)


def test_a_run_directorys_name_stays_short():
    out = check({"model": "resnet50", "layer": [f"layer1.{i}.conv1" for i in range(40)]}).resolved().out
    assert len(out) < 120


def test_a_file_that_is_no_table_is_refused(tmp_path):
    for text, word in [
        ("- 1\n- 2\n", "list given"),
        ("a: [1\n", "not YAML"),
        ("1: 2\n", "no key 1; a key is text"),
        ("!!python/object:os.system {}", "YAML"),
    ]:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(UsageError, match=word) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="No such file"):
        read(tmp_path / "none.yaml")


def test_every_key_has_a_help_text():
    assert all(field.description for field in Config.model_fields.values())


def test_reading_a_config_imports_nothing_heavy():
    code = "import sys, featlight.cli.main, featlight.run.resume; "
    code += "print([m for m in ('torch', 'lightning') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
