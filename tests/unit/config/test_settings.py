"""One table of settings, and everybody who walks over it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from featlight.cli.main import main, parser
from featlight.config.describe import brief, facts, in_words
from featlight.config.presets import ARTICLE, EMBEDDED, NATURAL, TINY_INCEPTION
from featlight.config.recipe import Octave
from featlight.config.settings import SHARED, Settings, digest, plain
from featlight.config.validation import check
from featlight.errors import UsageError

SETTLED = Settings(
    model=EMBEDDED,
    weights="0" * 64,
    normalize="none",
    recipe=TINY_INCEPTION,
    batch_size=8,
    threads=1,
    compile="off",
)
LATER = {
    "channels": "last",
    "prefix_tokens": 1,
    "tokens": "class",
    "in_channels": 4,
    "show_channels": (3, 2, 1),
    "directions": "rows.npy",
    "cosine_power": 2.0,
    "diversity": 4,
    "objective": "mine 2",
    "caricature": "cat.jpg",
    "stay": 3.0,
    "diversity_weight": 5.0,
}  # settings that runs of the first form did not have: left out where they are as usual


def test_every_setting_is_a_key_a_flag_and_a_part_of_the_fingerprint():
    flags = {option for action in parser()._actions for option in action.option_strings}
    for key in Settings.model_fields:
        assert key in SETTLED.model_copy(update=LATER).fingerprint()
        assert (key in SETTLED.fingerprint()) is (key not in LATER)
        assert key == "recipe" or f"--{key.replace('_', '-')}" in flags
        assert Settings.model_fields[key].description
        assert key == "recipe" or key in facts(SETTLED.model_copy(update=LATER))
    assert not {"directions", "diversity"} & facts(SETTLED).keys()


@pytest.mark.parametrize("key", Settings.model_fields)
def test_every_setting_is_a_variants_own_or_shared(key):
    other = {
        "region": "all",
        "tokens": "class",
        "recipe": plain(ARTICLE),
        "seed": 1,
        "target": 1.0,
        "init": "gray",
        "metric": "l2",
        "cosine_power": 2,
        "diversity": 2,
        "stay": 3,
        "diversity_weight": 5,
    }
    values = {"cosine_power": {"directions": "rows.npy"}, "stay": {"init": "cat.jpg"}}.get(key, {})
    values |= {"variants": [{"name": "a", key: other.get(key, "none")}]}
    if key in SHARED:
        with pytest.raises(UsageError, match=f"{key}: .* all variants share it"):
            check(values)
    elif key != "index":
        assert getattr(check(values).settings["a"], key) != getattr(check({}), key)


def test_a_fingerprint_is_what_it_was_in_the_first_form():
    text = json.dumps(SETTLED.fingerprint(), sort_keys=True)
    assert text == (
        '{"batch_size": 8, "compile": "off", "index": null, "init": "noise", "metric": "l1", '
        '"model": "tiny_inception", "normalize": "none", "precision": "fp32", "recipe": '
        '{"gradient": "rms", "octaves": ['
        '{"lr": [0.08, 0.06], "sigma": [1.2, 0.6], "size": 80, "steps": 24}, '
        '{"lr": [0.06, 0.04], "sigma": [1.0, 0.5], "size": 112, "steps": 20}, '
        '{"lr": [0.03, 0.015], "sigma": [0.8, 0.4], "size": 144, "steps": 12}]}, '
        '"region": "map", "seed": 999, "target": 200.0, "threads": 1, "weights": "' + "0" * 64 + '"}'
    )
    assert digest(SETTLED.fingerprint()) == "9bc23df9250095d7"


def test_a_fingerprint_reads_back_equal():
    settings = SETTLED.model_copy(update={"region": "neuron", "index": (3, 4), "recipe": ARTICLE})
    again = Settings.model_validate(json.loads(json.dumps(settings.fingerprint())))
    assert again == settings
    assert again.fingerprint() == settings.fingerprint()


def test_what_came_later_is_left_out_where_it_is_as_usual():
    @dataclass(frozen=True)
    class Later:
        name: str
        strength: float = 1.0
        wide: bool = False

    assert plain([Later("a"), Later("b", strength=2.0)]) == [{"name": "a"}, {"name": "b", "strength": 2.0}]
    assert in_words((Later("a"), Later("b", 2.0, True))) == "a, b strength 2 wide yes"


def test_natural_is_every_networks_recipe():
    assert check({}).recipe == check({"recipe": None}).recipe == check({"model": "resnet50"}).recipe == NATURAL


def test_what_is_said_in_a_line():
    assert brief(SETTLED) == "l1 to 200 · 56 steps at 80, 112, 144 px · recipe tiny_inception · start noise, seed 999"
    own = SETTLED.model_copy(update={"recipe": replace(TINY_INCEPTION, range="sigmoid")})
    assert brief(own) == (
        "range sigmoid · l1 to 200 · 56 steps at 80, 112, 144 px · rms gradient · start noise, seed 999"
    )
    other = SETTLED.model_copy(update={"region": "neuron", "index": (3, 4), "init": "f" * 64, "normalize": "weights"})
    assert brief(other).startswith("region neuron · index 3, 4 · l1 to 200 ")
    assert brief(other).endswith(f"start {'f' * 24}, seed 999")


def test_words_of_values():
    assert in_words(Octave(80, 4, (1.0, 0.5))) == "4 steps at 80 px"
    assert [in_words(v) for v in (None, True, 0.25, (0.4, 0.3), (3, 4), "gray")] == [
        "none", "yes", "0.25", "0.4 to 0.3", "3, 4", "gray",
    ]  # fmt: skip
    assert in_words(replace(TINY_INCEPTION).octaves) == "24 steps at 80 px, 20 steps at 112 px, 12 steps at 144 px"


def test_a_variants_slip_is_told_with_its_key(capsys):
    Path("run.yaml").write_text("variants: [{name: a, model: resnet50}]")
    assert main(["--config", "run.yaml", "--print-config"]) == 2
    assert "run.yaml: variants[0].model: 'resnet50' given; all variants share it" in capsys.readouterr().err
