"""The best images of each tile: against a plain sort, whatever the order in which images come."""

import torch

from featlight.examples.top_k import TopK, merged

CPU = torch.device("cpu")
TILES, K, IMAGES = 5, 4, 37
RANKS = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(2))


def values() -> torch.Tensor:
    """(images, tiles), many of them equal, one of them no number."""
    found = torch.randint(0, 6, (IMAGES, TILES), generator=torch.Generator().manual_seed(1)).double()
    found[3, 1], found[4, 2], found[:, 4] = torch.nan, torch.inf, -torch.inf
    return found


def plain(value: torch.Tensor) -> list[list[int]]:
    """By tile, the numbers of the best images."""
    finite = [[i for i in range(IMAGES) if value[i, tile].isfinite()] for tile in range(TILES)]
    return [sorted(mine, key=lambda i: (-value[i, t], RANKS[i]))[:K] for t, mine in enumerate(finite)]


def looked_at(order: list[int], batch: int) -> TopK:
    top, found = TopK.empty(TILES, K, CPU), values()
    for start in range(0, len(order), batch):
        numbers = torch.tensor(order[start : start + batch])
        for tiles in (torch.tensor([3, 0]), torch.tensor([1, 2, 4])):
            entered = top.update(found[numbers][:, tiles], numbers, RANKS, tiles)
            # whose place it is
            top.places[tiles[entered.columns], entered.slots, 0] = numbers[entered.images]
    return top


def listed(top: TopK) -> list[list[int]]:
    return [[number for number in row if number >= 0] for row in top.images.tolist()]


def test_the_best_are_those_of_a_plain_sort_and_ties_go_by_path():
    for order, batch in (
        (list(range(IMAGES)), 8),
        (list(reversed(range(IMAGES))), 5),
        ([*range(20, 37), *range(20)], 1),
    ):
        top = looked_at(order, batch)
        assert listed(top) == plain(values())
        assert torch.equal(top.places[top.images >= 0][:, 0], top.images[top.images >= 0])  # each keeps its own place


def test_what_several_workers_have_found_is_what_one_would_have_found():
    whole = looked_at(list(range(IMAGES)), 8)
    parts = [looked_at(list(range(rank, IMAGES, 3)), 4) for rank in range(3)]
    both = merged([*parts, TopK.empty(TILES, K, CPU)], K, RANKS)
    for key in ("values", "images", "places"):
        assert torch.equal(getattr(both, key), getattr(whole, key))
