"""The command line: words to a config, errors to exit codes. What is heavy is imported when a run is sure."""

import argparse
import logging
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from featlight.check import check, read
from featlight.config import Config
from featlight.errors import FeatlightError, Interrupted, UsageError, nearest
from featlight.signals import Stop
from featlight.speech import say
from featlight.version import __version__

if TYPE_CHECKING:
    from featlight.store import Record, Store

TABLES = ("tiles", "variants", "figure", "recipe")  # keys of the config file alone
EPILOG = """
Without a config, the embedded network's default layer is made, in about a minute on two CPU cores.
The same command again goes on where it was stopped, and makes only what is missing.
Exit codes: 0 done; 1 some tiles failed; 2 usage or config; 3 weights; 74 no room or no right to write;
75 stopped early, the same command goes on.
"""


class Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        given = message.removeprefix("unrecognized arguments: ").split()
        if given and message.startswith("unrecognized") and given[0].startswith("-"):
            flag = given[0].partition("=")[0]
            near = nearest(flag, [option for action in self._actions for option in action.option_strings])
            message = f"no flag {flag!r}" + (f"; nearest: {near!r}" if near else "; --help lists them")
        raise UsageError(message)


def parser() -> Parser:
    """Every key of the config that is no table is a flag; its help is the key's."""
    result = Parser(
        "featlight",
        description="Make the image that excites each feature of a layer most, and a labelled atlas of them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "--config", metavar="FILE", type=Path, help="YAML file with any of the keys below; a flag beats it"
    )
    for name, field in Config.model_fields.items():
        if name in TABLES:
            continue
        flag, default = f"--{name.replace('_', '-')}", field.default
        text = f"{field.description} (default: {default if default is not None else 'none given'})".replace("%", "%%")
        if isinstance(default, bool):
            result.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif name == "layer":
            result.add_argument(flag, metavar="NAME", nargs="+", action="extend", help=text)
        else:
            result.add_argument(flag, metavar=name.upper(), help=text)
    do = result.add_argument_group("instead of a run, or of an ordinary one")
    do.add_argument(
        "--fresh", action="store_true", help="delete the run in the directory first: only files that its records name"
    )
    do.add_argument(
        "--render-only", action="store_true", help="build the atlases and the page again from the tiles that are there"
    )
    do.add_argument(
        "--dry-run", action="store_true", help="print tiles, chunks, expected disk and time, and make nothing"
    )
    do.add_argument(
        "--list-layers", action="store_true", help="print each usable layer with its shape and number of features"
    )
    do.add_argument("--print-config", action="store_true", help="print the resolved config as YAML, and make nothing")
    do.add_argument("--version", action="version", version=f"featlight {__version__}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: the words after the command; None for the process's own.

    Returns:
        The exit code.
    """
    logging.basicConfig(format="featlight: %(message)s", level=logging.WARNING)
    # torch's threads spin while they wait for each other, far too long where another program has one of the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        with Stop().listening() as stop:
            return _run(sys.argv[1:] if arguments is None else arguments, stop)
    except FeatlightError as error:
        print(f"featlight: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("featlight: stopped; the same command goes on from here", file=sys.stderr)
        return Interrupted.exit_code


def _run(arguments: Sequence[str], stop: Stop) -> int:
    words = parser().parse_args([_hyphens(word) for word in arguments])
    config = _config(words)
    if words.print_config:
        say(config.to_yaml().rstrip())
        return 0
    if words.list_layers:
        return _list_layers(config)
    if words.dry_run:
        return _dry_run(config, fresh=words.fresh)
    assert config.out is not None
    if words.render_only:
        return _render_only(Path(config.out))
    return _make(config, stop, fresh=words.fresh)


def _hyphens(word: str) -> str:
    """`--batch_size` is `--batch-size`."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _config(words: argparse.Namespace) -> Config:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if words.config is not None:
        values = read(words.config)
        sources = {key: f"{words.config}: {key}" for key in values}
    for name in Config.model_fields:
        given = getattr(words, name, None)
        if given is not None:
            values[name] = given
            sources[name] = f"--{name.replace('_', '-')}"
            if name == "layer":
                values.pop("tiles", None)  # a flag beats the file
    if words.features is not None and isinstance(values.get("layer"), dict):
        values["layer"] = list(values["layer"])  # likewise, also its features by layer
    return check(values, sources).settled(None if words.config is None else words.config.stem)


def _make(config: Config, stop: Stop, *, fresh: bool) -> int:
    from featlight.finished import finished
    from featlight.store import Store

    assert config.out is not None
    store = Store(Path(config.out))
    there = None if fresh else finished(config, store)
    if there is not None:
        _last_lines(store, made=0, there=there.values(), failed=0, rate=0.0)
        return 0
    from featlight.run import make

    outcome = make(config, fresh=fresh, stop=stop)
    records, rate = outcome.records.values(), outcome.tiles_per_second
    _last_lines(store, made=outcome.made, there=records, failed=outcome.failed, rate=rate)
    return outcome.exit_code


def _last_lines(store: "Store", *, made: int, there: Collection["Record"], failed: int, rate: float) -> None:
    """What was made, and where to look."""
    from featlight.render import atlas_of, sections

    dead = sum(record["status"] == "dead" for record in there)
    speed = f"; {rate:.2f} tiles/s" if made else ""
    tiles = f"{len(there) + failed} tile{'' if len(there) + failed == 1 else 's'}"
    say(f"{tiles}: {made} made, {len(there) - made} kept, {dead} dead, {failed} failed{speed}")
    plan = store.plan()
    assert plan is not None
    if plan.network["asked"] == "none":
        say(f"note         {plan.network['weights']}: what these features show was never learned")
    asked = {record["file"] for record in there}
    for section in sections(plan):
        if asked & {planned.file for planned in section.tiles}:
            say(f"atlas        {store.root / atlas_of(section)}")
    say(f"page         {store.root / 'index.html'}")
    if (store.root / "tensorboard").is_dir():
        say(f"TensorBoard  tensorboard --logdir {store.root / 'tensorboard'}")


def _render_only(out: Path) -> int:
    from featlight.run import render_again
    from featlight.store import Store

    plan = render_again(out)
    store = Store(out)
    there = store.made(plan, plan.tiles)
    failed = sum(record["status"] == "failed" for record in store.records().values())
    _last_lines(store, made=0, there=there.values(), failed=failed, rate=0.0)
    return 0


def _list_layers(config: Config) -> int:
    from featlight.network import list_layers
    from featlight.zoo import load

    assert config.recipe is not None
    size = config.recipe.first_size
    layers = list_layers(load(config.model, config.weights, seed=config.seed), size)
    width = max(len(layer.name) for layer in layers)
    say(f"{config.model} at {size} x {size} px\n{'layer':{width}}  features  map")
    for layer in layers:
        height, across = layer.map_size
        shape = f"{height} x {across}" if len(layer.shape) == 3 else "flat"
        say(f"{layer.name:{width}}  {layer.features:8}  {shape}")
    return 0


def _dry_run(config: Config, *, fresh: bool) -> int:
    from featlight.estimate import estimate

    for key, value in estimate(config, fresh=fresh).items():
        say(f"{key:12} {value}")
    return 0
