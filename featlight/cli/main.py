"""The command line: arguments to a config, errors to exit codes. Slow modules are imported after validation."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from featlight.cli.circuits_command import find_for_run as find_circuits_for_run
from featlight.cli.commands import COMMANDS, Parser, hyphens
from featlight.cli.examples_command import check_folder, find_for_run
from featlight.cli.making import last_lines, launch_of, make_run
from featlight.config.image_shape import shape_words
from featlight.config.presets import DEFAULT_LAYERS, recipe_name
from featlight.config.schema import Config
from featlight.config.user_text import expanded
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
from featlight.plan.request import RunRequest
from featlight.store.records import failed_of
from featlight.store.store import Store
from featlight.version import __version__

TABLES = ("tiles", "variants", "figure", "examples")  # keys that only the config file can hold
EPILOG = """
Without arguments, featlight visualizes a layer of EfficientNet-Lite0, in a few minutes on two CPU cores.
Run the same command again to continue after an interruption; only missing tiles are made.
Under srun and torchrun, each process is a worker.
Exit codes: 0 done; 1 some tiles failed; 2 usage or config; 3 weights; 74 disk full or no permission to write;
75 stopped early (run the same command again to continue).

Other commands (featlight COMMAND --help):
"""


def parser() -> Parser:
    """Return the parser; every config key that is not a table is a flag."""
    result = Parser(
        "featlight",
        description="For each feature of a network's layer, find the image that excites it most; draw a labeled atlas.",
        epilog=EPILOG + "\n".join(f"  {name:12} {text}" for name, (text, _) in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument(
        "--config", metavar="FILE", type=expanded, help="YAML file with any of the keys below; flags override it"
    )
    for name, field in Config.model_fields.items():
        if name in TABLES:
            continue
        flag, default = f"--{name.replace('_', '-')}", field.default
        shown = "not set" if default is None else recipe_name(default) if name == "recipe" else default
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
        help="set a key inside a table, for example recipe.optimizer.exponent=0.9 or recipe.octaves.0.steps=10; "
        "repeatable",
    )
    do = result.add_argument_group("other actions")
    do.add_argument(
        "--fresh",
        action="store_true",
        help="delete the run in the directory first (only files named in its records), then start anew",
    )
    do.add_argument(
        "--render-only", action="store_true", help="draw atlases and page again from the existing tiles, and exit"
    )
    do.add_argument(
        "--dry-run",
        action="store_true",
        help="print number of tiles and chunks, expected disk space and time, and exit",
    )
    do.add_argument(
        "--list-layers",
        action="store_true",
        help="print all usable layers with number of features, map size and type, and exit",
    )
    do.add_argument(
        "--list-models",
        nargs="?",
        const="*",
        metavar="PATTERN",
        help="print the networks whose names match a pattern, for example 'timm/vit_*', or contain a word, and exit",
    )
    do.add_argument("--print-config", action="store_true", help="print the resolved config as YAML, and exit")
    do.add_argument("--version", action="version", version=f"featlight {__version__}")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: arguments after the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("featlight: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    # limit how long torch's threads spin, which is slow if another program uses one of the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with memory_errors():
            if given and not given[0].startswith("-"):
                if given[0] not in COMMANDS:
                    raise UsageError(unknown("command", given[0], COMMANDS))
                return COMMANDS[given[0]][1](given[1:])
            return _run(given, same_command() if arguments is None else featlight_command(*given))
    except FeatlightError as error:
        _print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        _print_error(Interrupted("stopped; run the same command again to continue"))
        return Interrupted.exit_code


def _print_error(error: FeatlightError) -> None:
    """Print an error as one line; one that all workers of a cluster have is printed by the first of them."""
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
    with suppress(OSError, ValueError):  # stderr is closed
        print(f"featlight: {who}{printable(str(error))}", file=sys.stderr)


def _run(arguments: Sequence[str], command: Sequence[str]) -> int:
    args = parser().parse_args([hyphens(word) for word in arguments])
    if args.list_models is not None:
        return _list_models(args.list_models)
    config = _config(args)
    try:
        return _do(args, config, command)
    except SystemExit as error:  # only the network's code can raise it
        raise FeatlightError(
            f"{config.model}: its own code ended the program, with exit code {error.code or 0}"
        ) from None


def _do(args: argparse.Namespace, config: Config, command: Sequence[str]) -> int:
    if args.print_config:
        for line in config.to_yaml().splitlines():
            say(line)
        return 0
    if args.list_layers:
        return _list_layers(config)
    request = RunRequest(config, fresh=args.fresh)
    if args.dry_run:
        return _dry_run(request)
    assert config.out is not None
    if args.render_only:
        return _render_only(Path(config.out))
    check_folder(config)
    with Stop().listening() as stop:
        code = make_run(request, stop, command)
    if code != 0 or worker_from_env(os.environ).launcher == LAUNCHER:
        return code
    if config.circuits:
        code = find_circuits_for_run(config)
    return find_for_run(config) if code == 0 and config.examples is not None else code


def _config(args: argparse.Namespace) -> Config:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if args.config is not None:
        values = read(args.config)
        sources = {key: f"{args.config}: {key}" for key in values}
    for name in Config.model_fields:
        given = getattr(args, name, None)
        if given is not None:
            values[name] = given
            sources[name] = f"--{name.replace('_', '-')}"
            if name == "layer":
                values.pop("tiles", None)  # the flag overrides the file's tiles
    for assignment in args.set:
        assign(values, assignment)
        key = assignment.partition("=")[0].partition(".")[0]
        sources[key] = f"--set {key}"
    if args.features is not None and isinstance(values.get("layer"), dict):
        values["layer"] = list(values["layer"])  # the flag overrides the file's features per layer
    return check(values, sources).resolved(None if args.config is None else args.config.stem)


def _render_only(out: Path) -> int:
    from featlight.report.build import render_again

    plan = render_again(out)
    store = Store(out)
    records = store.records()
    failed = failed_of(records, records)
    last_lines(store, made=0, present=store.made(plan, plan.tiles).values(), failed=failed, rate=0.0)
    return 0


def _list_models(pattern: str) -> int:
    from featlight.models.catalog import list_models

    names = list_models(pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")
    if not names:
        raise UsageError(f"--list-models: {unknown('network', pattern, list_models())}")
    for name in names:
        say(name)
    return 0


def _list_layers(config: Config) -> int:
    from featlight.models.catalog import load_model, source_of
    from featlight.models.layer_info import left_out, table
    from featlight.models.layers import survey_of
    from featlight.models.network_input import likely_pixels

    size = config.recipe.first_size
    network = load_model(config.model, config.weights, seed=config.seed, layers=config.named_layers)
    pixels = likely_pixels(config, source_of(network))  # what the run will feed
    survey = survey_of(network, size, config.channels, config.prefix_tokens, config.in_channels, pixels)
    default = DEFAULT_LAYERS.get(config.model)
    say(f"{config.model} at {shape_words(size)} px" + (f"; the default layer is {default}" if default else ""))
    for line in [*table(survey.usable), *left_out(survey.left_out)]:
        say(line)
    return 0


def _dry_run(request: RunRequest) -> int:
    from featlight.run.estimate import estimate

    launch = launch_of(request.config)
    for key, value in estimate(request, workers=launch.worker.world_size * launch.local).items():
        say(f"{key:12} {value}")
    return 0
