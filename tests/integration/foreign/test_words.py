"""Words of a run's maker on a terminal, in tables, on the page."""

import csv
import io
import shutil
import zipfile

import numpy as np
import pytest

from featlight.cli.main import main
from featlight.store.store import Store
from tests.integration.foreign.hands import (
    TILES,
    lines_with,
    plan_with,
    renamed,
    typed,
)


def test_names_move_no_terminal(run, capsys):
    """Of files, whoever has named them."""
    red = "\x1b[31m"
    (run / f"tiles/2/{red}.txt").write_text("mine")
    assert typed("verify") == 0
    assert "\\x1b[31m" in capsys.readouterr().out
    assert main(["verify", "--out", f"no{red}where"]) == 2
    assert main(["--config", f"no{red}where", "--out", f"{red}\n"]) == 2
    assert main([f"{red}verify"]) == 2
    assert main(["--render-only", "--out", f"a\u202eb{red}"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\u202e" not in said.err
    assert said.err.count("\n") == 4


@pytest.mark.parametrize("sign", ["=1+1", "+1", "-1", "@x"])
def test_no_cell_is_a_formula(run, sign, capsys):
    def change(values):
        renamed("-v")(values)
        for tile in values["tiles"]:
            tile["terms"][0]["layer"] = sign
        for shapes in values["layers"].values():
            shapes[sign] = shapes["2"]

    plan_with(change)
    digest = Store(run).plan().digest("-v")
    for file in TILES:
        (run / file.replace("tiles", "tiles/-v")).parent.mkdir(parents=True, exist_ok=True)
        (run / file).rename(run / file.replace("tiles", "tiles/-v"))
    words = {"layer": sign, "variant": "-v", "name": f"{sign}/1", "fingerprint": digest}
    lines_with(lambda record: {**words, "file": record["file"].replace("tiles", "tiles/-v")})
    shutil.rmtree(run / "vectors/chunks")
    assert typed("zip") == 0
    with zipfile.ZipFile("site.zip") as site:
        tables = [site.read(name).decode() for name in site.namelist() if name.endswith(".csv")]
    assert len(tables) == 2  # the data set's and the figure's
    for row in (row for text in tables for row in csv.reader(io.StringIO(text))):
        assert all(not cell.startswith(("=", "+", "-", "@", "\t")) or is_number(cell) for cell in row), row
    assert f"'{sign}" in tables[0]


def is_number(cell):
    try:
        return np.isfinite(float(cell)) and cell != "-1" and cell != "+1"
    except ValueError:
        return False


def test_the_words_of_a_name_stay_words(run):
    plan_with(lambda values: values["network"].update(model="{{scripts}}{{policy}} {{nothing}}", weights="{{about}}"))
    assert typed("render") == 0
    page = (run / "index.html").read_text()
    assert "<h1>{{scripts}}{{policy}} {{nothing}}</h1>" in page
    assert page.count("default-src") == 1
    assert "{{about}} · 6 of 6 tiles" in page
