import pytest

from featlight.config.choices import Sample, format_features, is_pattern, matching, parse_features

NAMES = ["stem", "blocks.0", "blocks.0.conv1", "blocks.0.conv2", "blocks.1", "blocks.1.conv1", "blocks.10", "head[x]"]


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("all", NAMES),
        ("**", NAMES),
        ("blocks.*", ["blocks.0", "blocks.1", "blocks.10"]),
        ("blocks.?", ["blocks.0", "blocks.1"]),
        ("blocks.**", NAMES[1:7]),
        ("**.conv1", ["blocks.0.conv1", "blocks.1.conv1"]),
        ("blocks.[02-9].*", ["blocks.0.conv1", "blocks.0.conv2"]),
        ("blocks.[!0]", ["blocks.1"]),
        ("s*", ["stem"]),
        ("block", []),
        ("head[[]x]", ["head[x]"]),
    ],
)
def test_a_pattern_takes_parts_of_names(pattern, taken):
    assert is_pattern(pattern) == (pattern != "block")
    assert matching(pattern, NAMES) == taken


def test_a_sample_is_read_and_written():
    assert parse_features("sample:16") == Sample(16)
    assert format_features(Sample(16)) == "sample:16"
    for given in ("sample:0", "sample:", "sample:-1", ["sample:3"]):
        with pytest.raises(ValueError, match="sample"):
            parse_features(given)


def test_a_sample_is_of_its_layer_and_seed_alone_and_grows():
    chosen = Sample(16).draw("blocks.1", 200, 999)
    assert len(set(chosen)) == 16
    assert list(chosen) == sorted(chosen)
    assert set(chosen) < set(Sample(40).draw("blocks.1", 200, 999))
    assert chosen != Sample(16).draw("blocks.1", 200, 998)
    assert chosen != Sample(16).draw("blocks.2", 200, 999)
    assert Sample(16).draw("blocks.1", 5, 999) == (0, 1, 2, 3, 4)
    assert chosen[:4] == (2, 12, 13, 21)  # a run of today goes on tomorrow
