"""Helpers of error messages."""

import pytest
from torch import nn

from featlight.errors import UsageError, one_line
from featlight.models.layers import list_layers
from tests.strange.networks import Does, conv


@pytest.mark.parametrize(
    ("text", "most", "line"),
    [
        ("a  b\n c", None, "a b c"),
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two ..."),
        ("one two three four", 13, "one two ..."),
        ("x" * 20, 10, "xxxxxx ..."),
    ],
)
def test_a_line_is_cut_between_words(text, most, line):
    assert one_line(text, most) == line


def test_a_networks_long_reason_ends_with_a_whole_word():
    def fail(self, x):
        raise ValueError(" ".join(f"number{i}" for i in range(99)))

    with pytest.raises(UsageError) as caught:
        list_layers(Does(fail, first=conv(), last=nn.Linear(2, 2)), 16)
    assert str(caught.value).startswith("no layer runs at 16 x 16 px: ValueError: number0 number1 number2")
    assert str(caught.value).endswith(" number31 ...")
