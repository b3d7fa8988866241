"""The expected size of a run, against what runs take and against sums made by hand."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from featlight.cli.main import main
from featlight.config.recipe import Octave, Recipe
from featlight.config.tile import feature_tile
from featlight.console import format_bytes
from featlight.errors import StorageError
from featlight.plan.plan import OCTAVE_SAMPLES, PlannedTile
from featlight.run.disk_space import POINT, VIEWER, check_room, expected_bytes, free_bytes
from featlight.store.store import Store
from tests.made_up import made_up_plan


def plan_of(tiles, *, size=100, batch_size=8, precision="fp32"):
    recipe = Recipe((Octave(80, 1, (0.1, 0.1)), Octave(size, 1, (0.1, 0.1))))
    layers = {"80": {"a": (50, 4, 4), "b": (70, 4, 4)}}
    return made_up_plan(tiles, recipe=recipe, batch_size=batch_size, precision=precision, layers=layers)


def layer(name, count):
    return [PlannedTile("", feature_tile(name, i)) for i in range(count)]


def expected(plan, there=None, *, missing=None, floats=False, octaves=False):
    files = [planned.file for planned in plan.tiles if missing is None or planned in missing]
    extras = [extra for extra, kept in (("floats", floats), ("octaves", octaves)) if kept]
    return expected_bytes(plan, there or {}, files, extras)


def test_the_embedded_networks_run_takes_what_was_expected(capsys):
    octaves = [{"size": 128, "steps": 6, "lr": [0.1, 0.1]}, {"size": 192, "steps": 2, "lr": [0.05, 0.05]}]
    Path("short.yaml").write_text(yaml.safe_dump({"recipe": {"base": "natural", "octaves": octaves}}))
    flags = ["--config", "short.yaml", "--features", "0-1", "--threads", "1", "--out", "run"]
    assert main([*flags, "--dry-run"]) == 0
    line = re.search(
        r"^disk +about ([\d.]+) KiB in run, where [\d.]+ [KMGTP]iB are free$", capsys.readouterr().out, re.M
    )
    assert line is not None
    assert main(flags) == 0
    plan = Store(Path("run")).plan()
    assert float(line[1]) == pytest.approx(expected(plan) / 1024, abs=0.06)
    pictures = sum(path.stat().st_size for path in Path("run").glob("[at]*/**/*.png"))
    raw = 2 * 3 * 192**2
    assert 2 * 0.75 * raw == pytest.approx(pictures, rel=0.2)
    everything = sum(path.stat().st_size for path in Path("run").rglob("*") if path.is_file())
    assert expected(plan) == pytest.approx(everything, rel=0.2)
    assert main([*flags, "--dry-run"]) == 0
    assert "about 0 B in run" in capsys.readouterr().out


def test_transparencies_are_counted():
    tiles = layer("a", 5)
    without = plan_of(tiles)
    recipe = replace(without.settings[""].recipe, parameterization="maco", range="sigmoid")
    layers = {"80": {"a": (50, 4, 4)}}
    plan = made_up_plan(tiles, recipe=recipe, batch_size=8, layers=layers)
    assert expected(plan) - expected(without) == pytest.approx(5 * (0.75 * 100**2 + 0.6 * 96**2), abs=1)


def test_float_images_are_counted_to_the_byte():
    tiles = layer("a", 5)
    plan = plan_of(tiles)
    assert expected(plan, floats=True) - expected(plan) == 5 * 3 * 100 * 100 * 4
    double = plan_of(tiles, precision="fp64")
    assert expected(double, floats=True) - expected(double) == 5 * 3 * 100 * 100 * 8


def test_octave_pictures_are_counted():
    plan = plan_of(layer("a", OCTAVE_SAMPLES + 5))  # those of the first few are kept in any case
    more = expected(plan, octaves=True) - expected(plan)
    assert 0.4 * 5 * 2 * 3 * 96 * 96 < more < 5 * 2 * 3 * 96 * 96


def test_only_what_is_missing_counts():
    tiles = [*layer("a", 6), *layer("b", 6)]
    plan = plan_of(tiles)
    assert expected(plan, missing=[]) == 0
    assert expected(plan, missing=tiles[:6]) < expected(plan)
    halves = expected(plan, missing=tiles[:6]) + expected(plan, missing=tiles[6:])
    assert halves == pytest.approx(expected(plan) + VIEWER, abs=2)
    wider = expected(plan, missing=tiles[6:]) - expected(plan, missing=tiles[:6])
    each = 2 * 4 + POINT  # float32 vectors, of the chunk and of the layer, and a number in the projector's table
    assert wider == pytest.approx(6 * each * (70 - 50), abs=1)


def test_a_run_with_tiles_goes_by_them():
    tiles = layer("a", 20)
    plan = plan_of(tiles)
    few, enough = ({tile.file: {"bytes": 70_000} for tile in tiles[:count]} for count in (7, 8))
    missing = tiles[10:]
    assert expected(plan, few, missing=missing) == expected(plan, missing=missing)
    more = expected(plan, enough, missing=missing) - expected(plan, missing=missing)
    assert more == pytest.approx(10 * 2 * (70_000 - 0.75 * 3 * 100 * 100), abs=1)


def test_an_atlas_in_pages_has_an_overview_beside_them():
    one, pages = plan_of(layer("a", 200), size=380), plan_of(layer("a", 400), size=380)
    growth = expected(pages) - 2 * expected(one)
    assert 10e6 < growth < 4096 * 4096 * 3 * 0.75


def test_free_room_is_that_of_the_nearest_folder_there_is(tmp_path):
    assert free_bytes(tmp_path / "not" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.1)
    assert free_bytes(Path("not/there")) > 0


def test_what_fits_passes_and_what_does_not_is_exit_74(tmp_path):
    check_room(tmp_path, 1)
    with pytest.raises(StorageError, match=r"about 1024\.0 PiB needed, only [\d.]+ [KMGTP]iB free") as caught:
        check_room(tmp_path, 2**60)
    assert caught.value.exit_code == 74
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (3 * 2**40, "3.0 TiB")]
)
def test_bytes_in_words(count, words):
    assert format_bytes(count) == words
