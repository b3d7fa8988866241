"""Names of classes, and labels from files."""

import json
from pathlib import Path

import pytest

from featlight.config.choice.features import format_features, parse_features
from featlight.config.choice.names import Names, read_labels
from featlight.errors import UsageError

CLASSES = Names(
    dict(enumerate(["tench, Tinca tinca", "crane", "tiger cat", "tiger, Panthera tigris", "zebra", "crane"])), True
)


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ("tiger", (3,)),
        ("Tiger,zebra", (3, 4)),
        ("0-1,zebra", (0, 1, 4)),
        ("Panthera  tigris", (3,)),
        ("tiger, Panthera tigris,tiger cat,3", (3, 2)),
        (["tiger, Panthera tigris", 5], (3, 5)),
    ],
)
def test_classes_by_any_of_their_names(words, numbers):
    parsed = parse_features(words)
    assert CLASSES.numbers(parsed, "head") == numbers
    assert CLASSES.numbers(parse_features(format_features(parsed)), "head") == numbers


def test_what_is_unknown_or_ambiguous_is_said():
    with pytest.raises(UsageError, match=r"no name 'tigre' among those of layer 'head'; nearest: 'tiger'"):
        CLASSES.numbers(["tigre"], "head")
    with pytest.raises(UsageError, match=r"'crane' given; several are called so: 1 \(crane\), 5 \(crane\); give a num"):
        CLASSES.numbers(["crane"], "head")
    assert [CLASSES.title(i) for i in (0, 3, 9)] == ["tench", "tiger", ""]


def test_labels_with_commas_are_whole():
    names = Names({0: "red, round", 1: "round"})
    assert names.numbers(parse_features("red, round,round"), "a") == (0, 1)
    assert names.title(0) == "red, round"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "one\n\nthree\n"),
        ("a.json", '["one", "", "three"]'),
        ("b.json", '{"0": "one", "2": "three"}'),
        ("c.json", '{"conv": {"0": "one", "2": "three"}, "other": ["x"]}'),
        ("a.csv", 'feature,name\n0,one\n2,"three"\n'),
    ],
)
def test_every_kind_of_file(name, text):
    Path(name).write_text(text)
    assert read_labels(name, ["conv"]) == {"conv": Names({0: "one", 2: "three"})}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "x" * 300, "at most 200"),
        ("a.json", "3", "a int given"),
        ("b.json", '{"a": "b"}', "'a' given; a feature's number"),
        ("c.json", "{", "c.json: "),
        ("d.json", "[[1]]", "a name is needed"),
    ],
)
def test_what_is_no_label_is_refused_in_a_line(name, text, message):
    Path(name).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_labels(name, ["conv"])


def test_several_layers_need_their_names():
    Path("a.json").write_text(json.dumps(["x"]))
    with pytest.raises(UsageError, match="names no layers, and 2 are asked for"):
        read_labels("a.json", ["a", "b"])
    with pytest.raises(UsageError, match=r"gone\.txt: No such file"):
        read_labels("gone.txt", ["a"])


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_sign_in_a_label_ends_no_line(sign):
    Path("a.txt").write_text(f"one{sign}more\ntwo\n", newline="")
    with pytest.raises(UsageError, match="control codes"):
        read_labels("a.txt", ["conv"])


def test_lines_of_labels_end_as_on_any_system():
    Path("a.txt").write_text("one\r\ntwo\rthree\n\n\u202efive", newline="")
    assert read_labels("a.txt", ["conv"])["conv"].words == {0: "one", 1: "two", 2: "three", 4: "\u202efive"}
