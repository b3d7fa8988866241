"""Configs that stand for too much, and run directories of too many folders."""

import re
from pathlib import Path

import pytest
import yaml

from featlight.cli.main import main
from tests.damage import nested_folders
from tests.integration.foreign.hands import one_line, tiles, typed
from tests.integration.test_faults import CONFIG

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TOO_MUCH = {
    "anchors in anchors": (BOMB, "more than 30,000 values"),
    "anchors in flow": ("a: &a [x,x]\nb: &b [" + "*a," * 9000 + "]\nc: [*b,*b]", "more than 30,000 values"),
    "merged anchors": (
        "a: &a {" + ", ".join(f"k{i}: 1" for i in range(99)) + "}\nb:\n" + "- <<: *a\n" * 999,
        "more than",
    ),
    "an anchor in itself": ("a: &a [*a]", "inside of what it stands for"),
    "an anchor in its key": ("&a {*a : 1}", "inside of what it stands for"),
    "depth": ("a: " + "[" * 40 + "]" * 40, "deeper than 32"),
    "great depth": ("a: " + "[" * 100_000, "not YAML"),
    "depth of dashes": ("- " * 5000 + "x", "deeper than 32"),
    "a number of 4,400 digits": ("seed: " + "1" * 4400, "a number of 4,400 digits"),
    "a hexadecimal one": ("seed: 0x" + "f" * 4400, "a number of 4,402 digits"),
    "a float of as many": ("target: 1." + "1" * 4400, "a number of 4,402 digits"),
    "a date that is none": ("seed: 2026-13-45", "bad.yaml: "),
    "20,000 named tiles": (
        "tiles:\n" + "".join(f"- {{name: t{i}, terms: [{{layer: '2', feature: 0}}]}}\n" for i in range(20_000)),
        "more than 30,000 values",
    ),
    "five megabytes": ("# " + "x" * 5_000_000, "characters given"),
    "NUL in a path": ('out: "a\\0b"', "control codes"),
    "NUL in another": ('init: "a\\0b.png"', "control codes"),
    "an escape in a name": ('model: "\\e[2Jx"', "control codes"),
    "a line's end in a layer": ('layer: ["a\\nb"]', "control codes"),
    "a word of 5,000 signs": ("weights: " + "x" * 5000, "text of 5000 characters"),
    "features without end": ("features: 0-9999999", "10,000,000 features given"),
    "features many times": ("features: [" + "0-999999," * 999 + "]", "features given"),
    "features of many layers": (
        "layer: {" + ", ".join(f"l{i}: 0-999999" for i in range(999)) + "}",
        "features given in all",
    ),
    "a feature of 99 digits": ("features: " + "9," * 3 + "9" * 30, "numbers and ranges"),
    "an octave of a billion pixels": (
        f"recipe: {{octaves: [{{size: {10**9}, steps: 1, lr: [0, 0]}}]}}",
        "8192 at most",
    ),
    "steps without end": (f"recipe: {{octaves: [{{size: 9, steps: {10**12}, lr: [0, 0]}}]}}", "1,000,000 at most"),
    "a thousand octaves": ("recipe: {octaves: [" + "{size: 9, steps: 1, lr: [0, 0]}," * 1000 + "]}", "at most 100"),
    "a thousand terms": ("tiles: [{name: a, terms: [" + "{layer: a}," * 1001 + "]}]", "needs 1 to 1000"),
    "endless machines": (f"num_nodes: {10**9}", "num_nodes: 1000000000 given"),
    "2,000 variants": ("variants: [" + ", ".join(f"{{name: v{i}}}" for i in range(2000)) + "]", "variants: "),
}


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_a_config_of_too_much_is_one_line(kind, capsys):
    text, line = TOO_MUCH[kind]
    Path("bad.yaml").write_text(text)
    assert main(["--config", "bad.yaml", "--dry-run"]) == 2
    error = one_line(capsys)
    assert "bad.yaml" in error
    assert line in error
    assert len(error) < 400
    assert [path.name for path in Path().iterdir()] == ["bad.yaml"]


def test_more_tiles_than_a_run_has_are_one_line(capsys):
    """Each of a layer's features at each of its positions."""
    Path("big.yaml").write_text(yaml.safe_dump({**CONFIG, "recipe": {"octaves": [{**BIG, "size": 2048}]}}))
    words = ["--config", "big.yaml", "--features", "all", "--region", "prefix", "--index", "all", "--out", "big"]
    assert main(words) == 2
    assert re.search(r"features and index: [\d,]+ tiles requested; a run has at most 1,000,000", one_line(capsys))


BIG = {"steps": 1, "lr": [0.1, 0.1], "sigma": None}


def test_folders_of_any_depth_harm_no_command(run, capsys):
    before = tiles()
    with nested_folders(run / "tiles/nested", 1500), nested_folders(run / "examples", 1500):
        for word in ("verify", "repair", "render", "zip", "run"):
            assert typed(word) == 0, capsys.readouterr().err
    assert tiles() == before
