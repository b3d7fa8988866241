"""How tokens lie on the image, from numbers alone."""

import pytest

from featlight.models.token_grid import FixedTokens, TokenGrid, grid_of

PATCHES = [{"proj": (14, 14)}]


@pytest.mark.parametrize(
    ("counts", "maps", "sides", "options", "expected"),
    [
        ([197], PATCHES, [224], {"fixed": FixedTokens(1, 0)}, TokenGrid(1, ((14, 14),))),
        ([197], PATCHES, [224], {}, None),  # before or after the patches
        ([196], PATCHES, [224], {}, TokenGrid(0, ((14, 14),))),
        ([201], PATCHES, [224], {"declared": 5}, TokenGrid(5, ((14, 14),))),
        ([212], PATCHES, [224], {}, None),  # sixteen left, of one size: may be anything
        ([212], PATCHES, [224], {"declared": 16}, TokenGrid(16, ((14, 14),))),
        ([100], [{"a": (14, 14), "b": (10, 10)}], [224], {}, TokenGrid(0, ((10, 10),))),
        ([17], [{"a": (4, 4), "b": (3, 4)}], [32], {}, None),  # 1 or 5
        ([17], [{"a": (4, 4), "b": (3, 4)}], [32], {"declared": 1}, TokenGrid(1, ((4, 4),))),
        ([17], [{"a": (4, 4), "b": (3, 4)}], [32], {"given": 5}, TokenGrid(5, ((3, 4),))),
        # another size tells them apart, and that queries are no map
        (
            [17, 26],
            [{"a": (4, 4), "b": (3, 4)}, {"a": (5, 5), "b": (3, 4)}],
            [32, 40],
            {"fixed": FixedTokens(1, 0)},
            TokenGrid(1, ((4, 4), (5, 5))),
        ),
        ([25, 25], [{"a": (5, 5)}, {"a": (6, 6)}], [40, 48], {}, None),
        # no map at all: by the image's own size, where two are known or the number before the patches is
        ([17, 26], [{}, {}], [32, 40], {"fixed": FixedTokens(1, 0)}, TokenGrid(1, ((4, 4), (5, 5)))),
        # registers after the patches, whatever the network declares
        ([200], PATCHES, [224], {"fixed": FixedTokens(0, 4), "declared": 4}, TokenGrid(0, ((14, 14),), 4)),
        ([212], PATCHES, [224], {"fixed": FixedTokens(1, 15)}, TokenGrid(1, ((14, 14),), 15)),
        ([201], PATCHES, [224], {"fixed": FixedTokens(1, 4), "given": 1}, TokenGrid(1, ((14, 14),), 4)),
        ([201], PATCHES, [224], {"fixed": FixedTokens(1, 4), "given": 5}, None),
        ([198], PATCHES, [224], {"fixed": FixedTokens(1, 0)}, None),  # the place of the other is unknown
        ([198], PATCHES, [224], {"fixed": FixedTokens(1, 0), "given": 1}, TokenGrid(1, ((14, 14),), 1)),
        ([20, 29], [{}, {}], [32, 40], {"fixed": FixedTokens(0, 4)}, TokenGrid(0, ((4, 4), (5, 5)), 4)),
        ([17], [{}], [32], {}, None),
        ([17], [{}], [32], {"declared": 1}, TokenGrid(1, ((4, 4),))),
        ([18], [{}], [32], {"given": 2}, TokenGrid(2, ((4, 4),))),
        ([18], [{}], [32], {"given": 1}, None),
        ([1, 1], [{"a": (4, 4)}, {"a": (5, 5)}], [32, 40], {}, TokenGrid(0, ((1, 1), (1, 1)))),
    ],
)
def test_the_grid_of_tokens(counts, maps, sides, options, expected):
    assert grid_of(counts, maps, [(side, side) for side in sides], **options) == expected


def test_images_that_are_no_squares():
    assert grid_of([12 + 1], [{}], [(24, 32)], declared=1) == TokenGrid(1, ((3, 4),))
