"""Names that people's networks bring: a run that was written with them is read back, whatever they are."""

import logging

import pytest
from torch import nn

from featlight.config.user_text import is_word
from featlight.console import printable
from featlight.models.catalog import Source
from featlight.store.records import line_of, parse_line
from featlight.store.store import Store
from tests.photographs import planned_run

WRITABLE = (
    *("-dash", " ", "%", "'\"", "<script>", "\u202eabc", "caf\u00e9", "cafe\u0301", "CON", "con", "a b", "ä/é", "@"),
    *("\\", "\\udcff", "😀" * 300, "x" * 4000, "{{model}}", "שלום", "_" * 201),
)
OTHERS = ("a\nb", "\x1b[31m", "\udcff", "\u2028", "\x85", "x" * 5000)


class Named(nn.Module):
    """One convolution after the other, under these names."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            self.add_module(name, nn.Conv2d(3, 3, 1))

    def forward(self, x):
        for module in self.children():
            x = module(x)
        return x


def test_layers_of_any_name_are_read_back_and_those_that_cannot_be_are_counted(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "featlight"):
        planned_run(tmp_path / "run", Named([*WRITABLE, *OTHERS]), layer="all", features="0")
    said = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said == ["6 of 26 layers left out: a plan cannot hold their names, as 'a\\nb'"]
    plan = Store(tmp_path / "run").need_plan()
    assert [planned.tile.terms[0].layer for planned in plan.tiles] == list(WRITABLE)
    assert len({planned.file.casefold() for planned in plan.tiles}) == len(WRITABLE)
    assert all(planned.file.isascii() and len(planned.file) < 240 for planned in plan.tiles)


class Headed(Named):
    """One whose last layer's features are classes."""

    def __init__(self):
        super().__init__(["conv"])
        self.fc = nn.Linear(3, 3)

    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize("name", ["a\nb", "\udcff", "\u202e", "<script>", "é"])
def test_a_network_and_classes_of_any_name_are_read_back(tmp_path, name):
    network = Headed()
    network.featlight_source = Source(name, f"{name}.pt", classes=lambda: [f"{name}-" * 300, f"{name}, b", "c"])
    planned_run(tmp_path / "run", network, layer="fc")
    plan = Store(tmp_path / "run").need_plan()
    shown = printable(name)
    assert (plan.network.model, plan.network.weights) == (shown, f"{shown}.pt")
    assert [planned.title for planned in plan.tiles] == [(f"{shown}-" * 300)[:200], shown, "c"]


@pytest.mark.parametrize("name", WRITABLE)
def test_a_record_is_read_as_it_was_written(name):
    assert is_word(name)
    values = dict.fromkeys(parse_line(b'{"file": "tiles/a/0.png", "status": "ok", "name": null}'))
    record = values | {"file": "tiles/a/00000.png", "status": "ok", "layer": name, "reason": name, "curve": [(0, 0.5)]}
    assert parse_line(line_of(record)) == record
