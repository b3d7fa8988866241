"""The packages in order, from low to high: what imports what, and what is free of torch and of Lightning."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import featlight

ROOT = Path(featlight.__file__).parent
# Each imports from those before it alone. A name without modules of its own is a module of the top folder.
ORDER = (
    *(
        "version",
        "ending",
        "errors",
        "console",
        "files",
        "image_io",
        "ambient",
        "config",
        "distributed",
        "param",
        "transforms",
        "optimizers",
        "objectives",
        "models",
        "plan",
        "store",
    ),
    *(
        "engine",
        "analysis",
        "drawing",
        "report",
        "run",
        "examples",
        "circuits",
        "export",
        "result",
        "api",
        "training",
        "cli",
        "__init__",
        "__main__",
    ),
)
# What is imported before a slip is answered, and what reads a run that is there
FREE_OF_TORCH = {
    *("version", "ending", "errors", "console", "files", "image_io"),
    *("config.schema", "config.recipe", "config.tile", "config.validation"),
    *("distributed.env", "distributed.launcher", "distributed.signals"),
    "models.layer_info",
    *("plan.plan", "plan.batching", "plan.selection", "plan.fingerprint", "plan.reproduce", "plan.parsing"),
    "plan.request",
    *("store.store", "store.paths", "store.records", "store.snapshot", "store.heartbeat", "store.verify"),
    *("store.own_files", "store.own_files", "store.contents", "store.guard.run_folder"),
    *("store.example_files", "examples.image_index", "cli.examples_command"),
    *("store.circuit_files", "cli.circuits_command"),
    *("store.similarity", "report.similarity_map", "analysis.similar_tiles"),
    *("report.sections", "report.build", "report.viewer.page", "run.resume", "run.disk_space"),
    *("cli.main", "cli.commands", "cli.show"),
}
LIGHTNING = {
    *("engine.module", "engine.trainer", "engine.strategy", "engine.progress", "engine.setup", "engine.device"),
    "training.monitor",
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imported(nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Full names of modules; of `from a import b`, `a.b` where that is one of ours."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner.removeprefix("featlight.") in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(names: Iterator[str]) -> set[str]:
    return {name.removeprefix("featlight.") for name in names if name.removeprefix("featlight.") in MODULES}


def at_import(path: Path) -> set[str]:
    """What is imported when the module is, functions' own imports and those of the type checker left out."""
    return set(imported(iter(ast.parse(path.read_text()).body)))


EVERYWHERE = {name: ours(imported(ast.walk(ast.parse(path.read_text())))) for name, path in MODULES.items()}


def test_every_package_has_its_place():
    assert {name.partition(".")[0] for name in MODULES} == set(ORDER)


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name):
    package = name.partition(".")[0]
    for other in EVERYWHERE[name]:
        theirs = other.partition(".")[0]
        assert theirs == package or ORDER.index(theirs) < ORDER.index(package), f"{name} imports {other}"


def test_there_is_no_circle():
    list(graphlib.TopologicalSorter({name: others - {name} for name, others in EVERYWHERE.items()}).static_order())


@pytest.mark.parametrize("name", sorted(FREE_OF_TORCH))
def test_it_is_free_of_torch(name):
    seen, left = set(), {name}
    while left:
        module = left.pop()
        seen.add(module)
        names = at_import(MODULES[module])
        heavy = {each for each in names if each.partition(".")[0] in ("torch", "torchvision", "lightning")}
        assert not heavy, f"{name} imports {heavy} by way of {module}"
        left |= ours(iter(names)) - seen


@pytest.mark.parametrize("name", sorted(MODULES.keys() - LIGHTNING))
def test_lightning_is_at_the_edges(name):
    assert not any(
        each.partition(".")[0] == "lightning" for each in imported(ast.walk(ast.parse(MODULES[name].read_text())))
    )


def test_packages_hold_nothing_but_their_modules():
    for path in ROOT.rglob("__init__.py"):
        if path.parent != ROOT:
            (only,) = ast.parse(path.read_text()).body
            assert isinstance(only, ast.Expr), path


@pytest.mark.parametrize("name", featlight.__all__)
def test_what_the_package_offers_is_there(name):
    assert getattr(featlight, name) is not None


def argument_counts(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            each = node.args
            several = [one for one in (each.vararg, each.kwarg) if one is not None]
            yield node.name, len([*each.posonlyargs, *each.args, *each.kwonlyargs, *several])


def test_no_function_but_visualize_takes_more_than_eleven_arguments():
    counts = [(name, function, count) for name, path in MODULES.items() for function, count in argument_counts(path)]
    assert [(name, function) for name, function, count in counts if count > 11] == [("api", "visualize")]
