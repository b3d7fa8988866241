"""Names of classes, and labels from files."""

import json
from pathlib import Path

import pytest

from featlight.config.choices import format_features, parse_features
from featlight.config.names import Names, read_labels
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
    with pytest.raises(UsageError, match=r"'crane' given; several features have this name: 1 \(crane\), 5 \(crane\)"):
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
    with pytest.raises(UsageError, match="names no layers, but 2 are requested"):
        read_labels("a.json", ["a", "b"])
    with pytest.raises(UsageError, match=r"gone\.txt: No such file"):
        read_labels("gone.txt", ["a"])


def test_a_mistyped_layer_beside_a_right_one_is_refused():
    Path("a.json").write_text(json.dumps({"conv": ["x"], "blok": ["y"], "fc": ["z"]}))
    assert set(read_labels("a.json", ["conv"])) == {"conv"}  # nothing is known of the network
    with pytest.raises(UsageError, match="no layer 'blok' in the network; nearest: 'block'"):
        read_labels("a.json", ["conv"], {"conv", "block", "fc"})
    assert set(read_labels("a.json", ["conv"], {"conv", "blok", "fc"})) == {"conv"}


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
def test_a_sign_in_a_label_ends_no_line(sign):
    Path("a.txt").write_text(f"one{sign}more\ntwo\n", newline="")
    with pytest.raises(UsageError, match="control codes"):
        read_labels("a.txt", ["conv"])


def test_lines_of_labels_end_as_on_any_system():
    Path("a.txt").write_text("one\r\ntwo\rthree\n\n\u202efive", newline="")
    assert read_labels("a.txt", ["conv"])["conv"].words == {0: "one", 1: "two", 2: "three", 4: "\u202efive"}


NAMES = {0: "tench", 1: "goldfish, Carassius", 2: "white shark"}
SYNSETS = ["n01440764", "n01443537", "n01484850"]
ROWS = list(zip(SYNSETS, NAMES.values(), strict=True))
LINES = "\n".join(NAMES.values())


def written(name, content):
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(name, ["fc"])["fc"].for_layer("fc", 3)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.txt", LINES),
        ("crlf.txt", LINES.replace("\n", "\r\n") + "\r\n\r\n\r\n"),
        ("bom.txt", "\ufeff" + LINES),
        ("utf16.txt", LINES.encode("utf-16")),
        ("utf16be.txt", b"\xfe\xff" + LINES.encode("utf-16-be")),
        ("synsets.txt", "\n".join(" ".join(row) for row in ROWS)),
        ("numbers.txt", "\n".join(f"{number} {name}" for number, name in NAMES.items())),
        ("gist.txt", "{" + ",\n ".join(f"{number}: {name!r}" for number, name in NAMES.items()) + "}"),
        ("tabs.txt", "\n".join(f"{number}\t{name}" for number, name in NAMES.items())),
        ("synsets.tsv", "\n".join("\t".join(row) for row in ROWS)),
        ("head.tsv", "synset\tname\n" + "\n".join("\t".join(row) for row in ROWS)),
        ("head.csv", "index,name\n" + "\n".join(f'{number},"{name}"' for number, name in NAMES.items())),
        ("three.csv", "id,wnid,label\n" + "\n".join(f'{i},{row[0]},"{row[1]}"' for i, row in enumerate(ROWS))),
        ("turned.csv", "class_name,class_id\n" + "\n".join(f'"{name}",{number}' for number, name in NAMES.items())),
        ("bare.csv", "\n".join(f'{row[0]},"{row[1]}"' for row in ROWS) + "\n\n"),
        ("class_index.json", json.dumps({str(number): row for number, row in enumerate(ROWS)})),
        ("config.json", json.dumps({"model_type": "vit", "id2label": NAMES, "label2id": {}, "patch": [16]})),
        ("timm.json", json.dumps({"architecture": "vit", "label_names": list(NAMES.values()), "pretrained_cfg": {}})),
        ("turned.json", json.dumps({name: number for number, name in NAMES.items()})),
        ("list.json", json.dumps(list(NAMES.values()))),
        ("pairs.json", json.dumps(list(NAMES.items()))),
        ("rows.json", json.dumps(ROWS)),
        ("coco.json", json.dumps([{"id": number, "name": name} for number, name in NAMES.items()])),
        ("lines.jsonl", "\n".join(map(json.dumps, NAMES.values()))),
        ("lines.json", "\n".join(json.dumps({"label": i, "name": name}) for i, name in NAMES.items())),
        ("commas.txt", "\n".join(f"{number},{name}" for number, name in NAMES.items())),
        ("places.txt", "\n".join(f"{name} {number}" for number, name in NAMES.items())),
        ("data.yaml", "path: coco\nnames:\n  0: tench\n  1: goldfish, Carassius\n  2: white shark\n"),
        ("list.yml", "".join(f"- {name}\n" for name in NAMES.values())),
        ("turned_in.json", json.dumps({"label2id": {name: number for number, name in NAMES.items()}})),
        ("tables.json", json.dumps({number: {"name": name} for number, name in NAMES.items()})),
        ("by_synset.json", json.dumps({row[0]: [number, row[1]] for number, row in enumerate(ROWS)})),
        ("layers.json", json.dumps({"fc": list(NAMES.values()), "conv": ["a"]})),
    ],
)
def test_label_files_as_they_are_published(name, content):
    assert written(name, content).words == NAMES


@pytest.mark.parametrize("first", ["background", "__background__", "Background", "dummy"])
def test_a_background_too_many_is_dropped_and_said(first, caplog):
    shifted = [first, *NAMES.values()]
    for name, content in {
        "a.txt": "\n".join(shifted),
        "a.json": json.dumps(shifted),
        "b.json": json.dumps(dict(enumerate(shifted))),
    }.items():
        caplog.clear()
        assert written(name, content).words == NAMES
        assert f"the first name, {first}, is dropped: layer fc has 3 features" in caplog.text
    own = read_labels("a.txt", ["fc"])["fc"].for_layer("fc", 4)
    assert own.words[0] == first  # a class of its own, as in segmentation


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.txt", "a\nb", "features 0 to 1 given; layer 'fc' has 3 features"),
        ("long.txt", "a\nb\nc\nd", "features 0 to 3 given"),
        ("short.json", '{"0": "a", "1": "b"}', "features 0 to 1 given"),
        ("from1.json", '{"1": "a", "2": "b", "3": "c"}', "features 0 to 3 given"),
        ("empty.txt", "", "no names in the file"),
        ("blank.txt", "\n \n\n", "no names in the file"),
        ("empty.json", "{}", "no names in the file"),
        ("empty.csv", "index,name\n", "no names in the file"),
        ("layer.json", '{"layer": ["a", "b", "c"]}', "no layer 'layer'"),
        ("near.json", '{"fcc": ["a", "b", "c"]}', "nearest: 'fc'"),
        ("twice.json", '{"0": "a", "0": "b", "1": "c", "2": "d"}', "'0' given twice"),
        ("twice.csv", "0,a\n1,b\n1,c\n2,d", "the number 1 given twice"),
        ("nulls.json", "[null, null, null]", "a name is needed"),
        ("bytes.txt", b"\xff\xff\x00", "decode"),
        ("half.txt", b"\xff\xfea", "truncated"),
        ("deep.json", "[" * 100_000, "labels: deep.json: "),
        ("digits.json", '{"' + "9" * 5000 + '": "a"}', "a feature's number is needed"),
        ("number.json", "9" * 5000, "labels: number.json: "),
        ("other.json", '{"0": "a", "²": "b", "2": "c"}', "a feature's number is needed"),
        ("map_clsloc.txt", "n02119789 1 kit_fox\nn02100735 2 setter", "counts in another order; leave the numbers out"),
        ("from1.txt", "1: a\n2: b\n3: c", "features 0 to 3 given"),
        ("minus.csv", "-1,a\n0,b\n1,c", "features 0 to 1 given"),
    ],
)
def test_labels_that_do_not_fit_are_refused_in_a_line(name, content, message):
    with pytest.raises(UsageError, match=message) as caught:
        written(name, content)
    assert len(str(caught.value)) < 400


def test_numbers_with_gaps_name_some_features():
    assert written("some.json", '{"2": "c"}').words == {2: "c"}
    assert written("some.txt", "\n\nc").words == {2: "c"}


def test_semicolons_separate_where_there_are_no_commas():
    assert written("a.csv", "id;name\n0;tench\n1;crane\n2;shark\n").words == {0: "tench", 1: "crane", 2: "shark"}


def test_numbers_that_tell_names_apart_stay():
    assert written("a.txt", "class 0\nclass 1\nclass 2\n").words == {0: "class 0", 1: "class 1", 2: "class 2"}
