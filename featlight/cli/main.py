"""The command line: words to a config, errors to exit codes. What is heavy is imported when a run is sure."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from featlight.cli.commands import COMMANDS, Parser, hyphens
from featlight.cli.examples_command import check_folder, find_for_run
from featlight.cli.making import last_lines, launch_of, make_run
from featlight.config.inputs.sizes import shape_words
from featlight.config.presets import DEFAULT_LAYERS, recipe_name
from featlight.config.schema import Config
from featlight.config.user_paths import expanded
from featlight.config.validation import assign, check, read
from featlight.console import PrintableFormatter, printable, say
from featlight.distributed.env import (
    ALONE,
    LAUNCHER,
    is_surely_started,
    worker_from_env,
)
from featlight.distributed.launcher import featlight_command, same_command
from featlight.distributed.signals import Stop
from featlight.errors import AloneError, FeatlightError, Interrupted, UsageError, memory_errors, unknown
from featlight.store.records import failed_of
from featlight.store.store import Store
from featlight.version import __version__

TABLES = ("tiles", "variants", "figure", "examples")  # keys of the config file alone
EPILOG = """
Without a config, a layer of EfficientNet-Lite0 is made, in a few minutes on two CPU cores.
The same command again goes on where it was stopped, and makes only what is missing.
Under srun and torchrun, each process is a worker.
Exit codes: 0 done; 1 some tiles failed; 2 usage or config; 3 weights; 74 no room or no right to write;
75 stopped early, the same command goes on.

Commands, instead of a run (featlight COMMAND --help):
"""


def parser() -> Parser:
    """Every key of the config that is no table is a flag; its help is the key's."""
    result = Parser(
        "featlight",
        description="Make the image that excites each feature of a layer most, and a labelled atlas of them.",
        epilog=EPILOG + "\n".join(f"  {name:12} {words}" for name, (words, _) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "--config", metavar="FILE", type=expanded, help="YAML file with any of the keys below; a flag beats it"
    )
    for name, field in Config.model_fields.items():
        if name in TABLES:
            continue
        flag, default = f"--{name.replace('_', '-')}", field.default
        shown = "none given" if default is None else recipe_name(default) if name == "recipe" else default
        text = f"{field.description} (default: {shown})".replace("%", "%%")
        if isinstance(default, bool):
            result.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif name == "layer":
            result.add_argument(flag, metavar="NAME", nargs="+", action="extend", help=text)
        else:
            result.add_argument(flag, metavar=name.upper(), help=text)
    result.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a key inside a table, as in recipe.optimizer.exponent=0.9 or recipe.octaves.0.steps=10; repeatable",
    )
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
        "--list-layers", action="store_true", help="print each usable layer with number of features, map and kind"
    )
    do.add_argument(
        "--list-models",
        nargs="?",
        const="*",
        metavar="PATTERN",
        help="print the networks whose names match a pattern, as in 'timm/vit_*', or hold a word",
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
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("featlight: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # torch's threads spin while they wait for each other, far too long where another program has one of the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with memory_errors():
            if words and not words[0].startswith("-"):
                if words[0] not in COMMANDS:
                    raise UsageError(unknown("command", words[0], COMMANDS))
                return COMMANDS[words[0]][1](words[1:])
            return _run(words, same_command() if arguments is None else featlight_command(*words))
    except FeatlightError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        _complain(Interrupted("stopped; the same command continues from here"))
        return Interrupted.exit_code


def _complain(error: FeatlightError) -> None:
    """One line; among workers that a cluster has surely started, the first speaks for all of what all of them meet."""
    try:
        worker = worker_from_env(os.environ)
    except UsageError:
        worker = ALONE
    who = ""
    if worker.rank > 0 and worker.launcher != LAUNCHER:
        shared = isinstance(error, UsageError | Interrupted) and not isinstance(error, AloneError)
        if shared and is_surely_started(worker, os.environ):
            return
        who = f"worker {worker.rank + 1}: "
    with suppress(OSError, ValueError):  # nobody reads it any more
        print(f"featlight: {who}{printable(str(error))}", file=sys.stderr)


def _run(arguments: Sequence[str], command: Sequence[str]) -> int:
    words = parser().parse_args([hyphens(word) for word in arguments])
    if words.list_models is not None:
        return _list_models(words.list_models)
    config = _config(words)
    try:
        return _do(words, config, command)
    except SystemExit as error:  # nothing of ours ends the program so
        raise FeatlightError(
            f"{config.model}: its own code ended the program, with exit code {error.code or 0}"
        ) from None


def _do(words: argparse.Namespace, config: Config, command: Sequence[str]) -> int:
    if words.print_config:
        for line in config.to_yaml().splitlines():
            say(line)
        return 0
    if words.list_layers:
        return _list_layers(config)
    if words.dry_run:
        return _dry_run(config, fresh=words.fresh)
    assert config.out is not None
    if words.render_only:
        return _render_only(Path(config.out))
    check_folder(config)
    with Stop().listening() as stop:
        code = make_run(config, stop, command, fresh=words.fresh)
    if code == 0 and config.examples is not None and worker_from_env(os.environ).launcher != LAUNCHER:
        return find_for_run(config)
    return code


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
    for assignment in words.set:
        assign(values, assignment)
        key = assignment.partition("=")[0].partition(".")[0]
        sources[key] = f"--set {key}"
    if words.features is not None and isinstance(values.get("layer"), dict):
        values["layer"] = list(values["layer"])  # likewise, also its features by layer
    return check(values, sources).resolved(None if words.config is None else words.config.stem)


def _render_only(out: Path) -> int:
    from featlight.report.build import render_again

    plan = render_again(out)
    store = Store(out)
    there = store.made(plan, plan.tiles)
    records = store.records()
    failed = failed_of(records, records)
    last_lines(store, made=0, there=there.values(), failed=failed, rate=0.0)
    return 0


def _list_models(pattern: str) -> int:
    from featlight.models.catalog import list_models

    found = list_models(pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")
    if not found:
        raise UsageError(f"--list-models: {unknown('network', pattern, list_models())}")
    for name in found:
        say(name)
    return 0


def _list_layers(config: Config) -> int:
    from featlight.models.catalog import load_model
    from featlight.models.layer_info import left_out, table
    from featlight.models.layers import survey_of

    size = config.recipe.first_size
    network = load_model(config.model, config.weights, seed=config.seed, layers=config.named_layers)
    found = survey_of(network, size, config.channels, config.prefix_tokens, config.in_channels)
    default = DEFAULT_LAYERS.get(config.model)
    say(f"{config.model} at {shape_words(size)} px" + (f"; the default layer is {default}" if default else ""))
    for line in [*table(found.usable), *left_out(found.left_out)]:
        say(line)
    return 0


def _dry_run(config: Config, *, fresh: bool) -> int:
    from featlight.run.estimate import estimate

    launch = launch_of(config)
    for key, value in estimate(config, workers=launch.worker.world_size * launch.local, fresh=fresh).items():
        say(f"{key:12} {value}")
    return 0
