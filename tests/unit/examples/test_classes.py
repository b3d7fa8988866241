"""What images show, by the folders that they lie in."""

import pytest

from featlight.examples.finish import class_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train/n01440764/n01440764_10026.JPEG", "tench"),
        ("honeycomb/1.png", "honeycomb"),
        ("n99999999/1.png", "n99999999"),
        ("00/1.png", None),
        ("1.png", None),
    ],
)
def test_a_class_is_named_by_its_folder(name, expected):
    assert class_of(name) == expected
