"""Transparencies in a run directory: a tile is there with its own alone, and none is lost, believed or left over."""

import os
import time

import numpy as np
import pytest
from PIL import Image

from featlight.config.tile import feature_tile
from featlight.errors import FeatlightError
from featlight.image_io import encode_png
from featlight.plan.plan import PlannedTile
from featlight.store.contents import read_laid_on_white
from featlight.store.own_files import Deletion
from featlight.store.snapshot import Snapshot, take_snapshot
from featlight.store.store import Store
from featlight.store.verify import repair, verify
from tests.made_up import MACO, RECIPE, half, made_up_plan, made_up_run

PLANNED = [PlannedTile("", feature_tile("a", i)) for i in range(4)]
FILES = [planned.file for planned in PLANNED]
ALPHA = "tiles/a/00001.alpha.png"
WORDS = {"Software": "featlight 0"}


def run(root, recipe=MACO, alpha=half):
    """A run of four tiles, their files an hour old, in which `verify` finds nothing."""
    source = made_up_run(root.parent / "source", {"a": 4}, alpha=alpha)
    store, plan = Store(root), made_up_plan(PLANNED, recipe=recipe)
    store.write_plan(plan)
    for planned in PLANNED:
        content = encode_png(Image.open(source.root / planned.file), WORDS)
        record = {**source.records()[planned.file], "fingerprint": plan.digest("")}
        if alpha is not None:
            store.write(store.alpha_path(planned.file), source.alpha_path(planned.file).read_bytes())
        store.commit(content, record)
    np.save(root / "vectors.npy", np.zeros((4, 100), np.float32))
    store.write(store.vector_path(FILES), (root / "vectors.npy").read_bytes())
    (root / "vectors.npy").unlink()
    age(root)
    return store


def age(root):
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture
def store(tmp_path):
    store = run(tmp_path / "run")
    report = verify(store.root)
    assert (len(report.whole), report.problems, report.notes) == (4, [], [])
    return store


def made(store):
    plan = store.plan()
    return list(store.made(plan, plan.tiles))


def test_a_tile_without_its_transparency_is_not_there(store):
    assert made(store) == FILES
    (store.root / ALPHA).unlink()
    left = [FILES[0], *FILES[2:]]
    assert made(store) == left
    assert list(Snapshot.from_store(store, store.plan()).there) == left
    assert list(take_snapshot(store.root).there) == left
    report = verify(store.root)
    assert [(problem.path, problem.what) for problem in report.problems] == [
        (ALPHA, "missing; the run's own command makes it again")
    ]
    assert repair(store.root, report) == (0, 0)


@pytest.mark.parametrize(
    "content",
    [b"", encode_png(half(0), WORDS)[:-9], encode_png(Image.new("L", (40, 40), 7), WORDS)],
    ids=["empty", "cut short", "another one"],
)
def test_a_harmed_transparency_is_found_and_goes_and_its_tile_stays(store, content):
    (store.root / ALPHA).write_bytes(content)
    report = verify(store.root)
    assert [problem.path for problem in report.problems] == [ALPHA]
    assert "checksum differs from its record" in report.problems[0].what
    assert repair(store.root, report) == (1, 0)
    assert (store.root / FILES[1]).is_file()
    assert made(store) == [FILES[0], *FILES[2:]]


def test_what_lies_behind_a_link_is_not_taken(store, tmp_path):
    (store.root / ALPHA).rename(tmp_path / "elsewhere.png")
    (store.root / ALPHA).symlink_to(tmp_path / "elsewhere.png")
    assert FILES[1] not in made(store)
    with pytest.raises(FeatlightError, match=r"00001\.alpha\.png: no regular file"):
        take_snapshot(store.root)
    (problem,) = verify(store.root).problems
    assert (problem.path, problem.remove) == (ALPHA, ())


def test_leftovers_are_told_from_a_users_own(store):
    ours, theirs = store.root / "tiles/a/00009.alpha.png", store.root / "tiles/a/00008.alpha.png"
    ours.write_bytes(encode_png(half(0), WORDS))
    theirs.write_bytes(encode_png(half(0), {"Software": "a camera"}))
    age(store.root)
    report = verify(store.root)
    assert [problem.remove for problem in report.problems] == [(ours,)]
    assert report.notes == ["tiles/a/00008.alpha.png: not the run's own, kept"]


def test_fresh_takes_the_runs_own_and_leaves_those_of_other_runs(store, tmp_path):
    assert {store.alpha_path(file) for file in FILES} <= set(Deletion.from_store(store).files)
    Deletion.from_store(store).carry_out()
    assert not list(store.root.rglob("*.alpha.png"))
    other = run(tmp_path / "two" / "run", RECIPE, None)
    mine = other.alpha_path(FILES[0])
    mine.write_bytes(b"mine")
    assert mine not in Deletion.from_store(other).files
    assert mine in Deletion.from_store(other).foreign


def test_without_maco_no_transparency_is_asked_for(tmp_path):
    store = run(tmp_path / "run", RECIPE, None)
    assert made(store) == FILES
    assert verify(store.root).problems == []


def test_a_tile_is_laid_on_white_as_far_as_it_is_clear(store):
    picture = np.asarray(read_laid_on_white(store.folder, store.root / FILES[1], store.root / ALPHA))
    plain = np.asarray(Image.open(store.root / FILES[1]))
    assert (picture[:, :20] == 255).all()
    assert (picture[:, 20:] == plain[:, 20:]).all()
    (store.root / ALPHA).write_bytes(encode_png(Image.new("L", (39, 40)), WORDS))
    with pytest.raises(FeatlightError, match="its size differs from the tile"):
        read_laid_on_white(store.folder, store.root / FILES[1], store.root / ALPHA)
