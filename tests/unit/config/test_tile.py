import numpy as np
import pytest
import torch

from featlight.config.choices import format_features, parse_features
from featlight.config.tile import Term, Tile, feature_tile, file_name
from featlight.config.validation import check
from featlight.errors import UsageError


@pytest.mark.parametrize(
    ("given", "features"),
    [("all", "all"), ("0-3,7", (0, 1, 2, 3, 7)), (5, (5,)), ([2, 0, 2], (2, 0)), (" 1 - 2 , 9", (1, 2, 9))],
)
def test_features_are_read_in_order_each_once(given, features):
    assert parse_features(given) == features
    assert parse_features(format_features(features)) == features


@pytest.mark.parametrize("given", ["", "3-1", "-1", "+", "1,,2", [1.5], None, "0-99999999999"])
def test_other_words_are_refused(given):
    with pytest.raises(ValueError, match="0-15,199,201"):
        parse_features(given)


def test_runs_are_written_short():
    assert format_features((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"


@pytest.mark.parametrize(
    ("tile", "file", "label"),
    [
        (feature_tile("Mixed_6b", 654), "Mixed_6b/00654", "654"),
        (feature_tile("Mixed_6b", 654, "row", 8), "Mixed_6b/00654-row8", "654 row 8"),
        (feature_tile("Mixed_6b", 654, "neuron", (9, 10)), "Mixed_6b/00654-n9x10", "654 (9, 10)"),
        (feature_tile("Mixed_6b", 654, "prefix", 12), "Mixed_6b/00654-p00012", "654 to 12"),
        (feature_tile("Mixed_6b", None), "Mixed_6b/all", "all"),
        (Tile("both", (Term("a", 1), Term("b", 2))), "named/both", "both"),
    ],
)
def test_a_tiles_file_and_label(tile, file, label):
    assert tile.file() == file
    assert tile.file("L2") == f"L2/{file}"
    assert tile.label == label


@pytest.mark.parametrize("name", ["..", "../x", "a/../b", "", "a b", "x\n", ".hidden"])
def test_no_name_leaves_the_run_directory(name):
    safe = file_name(name)
    assert "/" not in safe
    assert not safe.startswith(".")
    with pytest.raises(ValueError, match="name"):
        Tile(name, (Term("a", 1),))


def test_a_layer_that_is_called_like_a_class_token_is_refused():
    line = r"^layer: 'a@class' given; .* is that of a class token: give 'a' with tokens: class"
    with pytest.raises(ValueError, match=line):
        Term("a@class", 1)
    with pytest.raises(UsageError, match=line):
        check({"layer": "a@class"})
    assert Term("a@class.conv", 1, tokens="class").output == "a@class.conv@class"


def test_different_unsafe_names_stay_different():
    assert file_name("a b") != file_name("a_b") != file_name("a/b")


@pytest.mark.parametrize(
    "values",
    [
        {"region": "row"},
        {"region": "row", "index": (1, 2)},
        {"region": "neuron", "index": 3},
        {"region": "prefix", "index": -1},
        {"region": "map", "index": 0},
        {"region": "column", "index": 0},
        {"feature": -1},
    ],
)
def test_an_index_must_fit_its_region(values):
    with pytest.raises(ValueError, match="given"):
        Term("a", **{"feature": 0, **values})


VECTOR = torch.tensor([1.0, -2.0, 0.5])  # exact in every type below
SAME = {
    "bfloat16": VECTOR.bfloat16(),
    "float8": VECTOR.to(torch.float8_e4m3fn),
    "sparse": VECTOR.to_sparse(),
    "with a gradient": VECTOR.clone().requires_grad_(),
    "a lazily negated view": (0 - 1j * VECTOR).conj().imag,
    "long double": np.array([1, -2, 0.5], np.longdouble),
    "big-endian": np.array([1, -2, 0.5], ">f4"),
    "a list of tensors": list(VECTOR),
    "a tuple of long doubles": tuple(np.array([1, -2, 0.5], np.longdouble)),
}


@pytest.mark.parametrize("given", SAME.values(), ids=SAME)
def test_a_direction_is_any_array_of_its_numbers(given):
    assert Term("a", direction=given).direction == (1.0, -2.0, 0.5)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (VECTOR > 0, r"a Tensor of bool, \(3,\), given; finite numbers are needed, one per feature"),
        ([True, False], "a list given; finite numbers"),
        (VECTOR[None], r"a Tensor of float32, \(1, 3\), given"),
        (VECTOR + 1j, "a Tensor of complex64"),
        (VECTOR * torch.nan, "a Tensor of float32"),
        (VECTOR[:0], r"a Tensor of float32, \(0,\), given"),
        ({1: 2}, "a dict of object"),
        (VECTOR.to("meta"), "a Tensor given, which cannot be converted"),
        (np.ma.masked_array([1.0, 2], [0, 1]), "a MaskedArray given, which .* masked"),
    ],
)
def test_what_is_no_direction_is_refused(given, line):
    with pytest.raises(ValueError, match=f"direction: {line}"):
        Term("a", direction=given)
