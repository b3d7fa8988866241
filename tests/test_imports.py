"""One direction of imports, low to high."""

import ast
from pathlib import Path

import featlight

ROOT = Path(featlight.__file__).parent
FLOORS = [
    {"errors", "hooks", "ledger", "measure", "neighbours", "version", "recipe", "tile", "layer"}
    | {"speech", "typography", "writer"},
    {"config", "events", "folding", "image", "objective", "place", "sheet", "signals", "tiny_inception", "weights"},
    {"animation", "atlas", "check", "launch", "network", "plan", "sprites", "webp", "workers", "zoo"},
    {"fingerprint", "graph", "poster", "wanted"},
    {"engine"},
    {"comparison", "layout", "module", "job", "remake"},
    {"store"},
    {"areas", "commit", "descent", "leftovers", "mosaic", "page", "presence", "progress", "projector", "stock"},
    {"growth", "verify"},
    {"figures"},
    {"render"},
    {"card", "disk", "finished", "look", "result", "tensorboard"},
    {"site", "view"},
    {"export", "run"},
    {"api", "commands", "estimate"},
    {"cli"},
    {"__init__", "__main__", "gallery"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
WITHOUT_LIGHTNING = FLOOR.keys() - {"descent", "job", "module", "progress", "workers"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_every_file_has_its_floor():
    rooms = {path.stem for path in ROOT.glob("*.py")} | {"tiny_inception"}
    assert rooms == FLOOR.keys()


def test_nobody_imports_from_a_floor_above():
    for path in ROOT.rglob("*.py"):
        room = path.stem if path.parent == ROOT else path.parent.name
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "featlight" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room:
                assert FLOOR[parts[1]] < FLOOR[room], f"{path.name} imports {name}"


def test_lightning_is_at_the_edges():
    for path in ROOT.rglob("*.py"):
        if path.stem in WITHOUT_LIGHTNING or path.parent != ROOT:
            assert not any(name.split(".")[0] == "lightning" for name in imports(path)), path.name
