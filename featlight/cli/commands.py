"""Subcommands such as `featlight verify`. Slow modules are imported after the arguments are parsed."""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, get_args

from featlight.config.schema import MOST_TOP, Accelerator
from featlight.config.user_text import expanded
from featlight.console import link, say
from featlight.errors import UsageError, nearest, plural
from featlight.plan.sources import TypedSources

LINES_SHOWN = 50  # problems, and notes
VERIFY = """
Tiles that are not made yet do not count as damage. Run it while no worker is active in the directory.
Exit codes: 0 no problem; 1 problems found, repaired or not; 2 usage, or no run; 74 no permission to remove files;
75 stopped early.
"""
VIEW = """
If no browser can be opened, for example on a cluster, the command says how to view the page elsewhere.
Exit codes: 0 done; 2 usage, no run, or a run without page; 74 disk full or no permission to write; 75 stopped early.
"""
TENSORBOARD = """
Flags after a lone -- are passed to TensorBoard: featlight tensorboard --out DIR -- --reload_interval 30
Exit codes: those of TensorBoard; 2 usage, no run, or a run without log; 75 stopped before TensorBoard started.
"""

WRITTEN = ("poster", "zip", "webp", "card")
# The exports that use each flag
USED_BY = {
    "layer": ("poster",),
    "paper": ("poster",),
    "dpi": ("poster",),
    "tiles": ("zip",),
    "quality": ("webp", "zip"),
    "examples": ("poster",),
}
EXPORT = """
Give one or more of --poster, --zip, --webp and --card. Existing files are overwritten, except inside the run
directory. An unfinished run can be exported. --zip first updates the run's page if it is out of date.
Exit codes: 0 done; 1 a tile is damaged; 2 usage, or no run; 74 disk full or no permission to write;
75 stopped early.
"""

ALIKE = """
Tiles are compared by their mean activations of all features of their layer. Only the run directory is needed, not
the network.
Exit codes: 0 done; 2 usage, no run, or no layer with four different tiles; 74 disk full or no permission to write;
75 stopped early.
"""


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        given = message.removeprefix("unrecognized arguments: ").split()
        if given and message.startswith("unrecognized") and given[0].startswith("-"):
            flag = given[0].partition("=")[0]
            near = nearest(flag, [option for action in self._actions for option in action.option_strings])
            message = f"no flag {flag!r}" + (f"; nearest: {near!r}" if near else "; --help lists them")
        elif given and message.startswith("unrecognized"):
            message = f"{given[0]!r} given after a flag; a command ({', '.join(COMMANDS)}) comes first"
        raise UsageError(message)


def hyphens(word: str) -> str:
    """Return a flag with hyphens for underscores: `--batch_size` becomes `--batch-size`."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _parser(name: str, epilog: str) -> Parser:
    """Return the parser of a command on a run."""
    result = Parser(
        f"featlight {name}",
        description=COMMANDS[name][0] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--out", metavar="DIR", type=expanded, help="run directory")
    return result


def _parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    args = parser.parse_args([hyphens(word) for word in arguments])
    if args.out is None:
        raise UsageError("--out: none given; the run directory is needed")
    return args


def add_source_flags(parser: Parser) -> None:
    """Add the flags of commands that need a run's network; `typed_sources` reads them."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="network of the run, needed for hf/... and for package.module:callable, which imports that module; "
        "networks of featlight, torchvision and timm are found by the name in the plan",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of the run, needed if the plan names a file")
    parser.add_argument("--directions", metavar="FILE", help="directions of the run, needed if the plan names a file")
    parser.add_argument(
        "--accelerator",
        metavar="|".join(get_args(Accelerator)),
        choices=get_args(Accelerator),
        default="auto",
        help="device of the network: auto (a GPU if there is one), cpu, or gpu (default: auto)",
    )


def typed_sources(args: argparse.Namespace) -> TypedSources:
    return TypedSources(args.model, args.weights, args.directions)


def _verify(arguments: Sequence[str]) -> int:
    parser = _parser("verify", VERIFY)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="remove damaged tiles and records, so that the run's command makes them again",
    )
    args = _parse(parser, arguments)
    from featlight.store.verify import repair, verify

    report = verify(args.out)
    problems = [f"{problem.path}: {problem.what}" for problem in report.problems]
    _some(problems, most=len(problems) if args.repair else LINES_SHOWN)  # name everything that is removed
    _some(f"note: {note}" for note in report.notes)
    say(
        f"{plural(report.tiles, 'tile')}: {len(report.whole)} whole, {report.harmed} harmed, "
        f"{report.failed} failed, {report.unmade} not made yet; {plural(len(report.problems), 'problem')}"
    )
    if args.repair and report.problems:
        files, lines = repair(args.out, report)
        say(f"removed {plural(files, 'file')}, blanked {plural(lines, 'line')}; the run's command makes them again")
    return 1 if report.problems else 0


def _some(lines: Iterable[str], most: int = LINES_SHOWN) -> None:
    """Print the first lines and the number of the others."""
    all_lines = list(lines)
    for line in all_lines[:most]:
        say(line)
    if len(all_lines) > most:
        say(f"... and {len(all_lines) - most} more")


def _view(arguments: Sequence[str]) -> int:
    args = _parse(_parser("view", VIEW), arguments)
    from featlight.cli.show import open_page, page_of

    page = page_of(args.out)
    say("page         ", link(page))
    if not open_page(page):
        say(f"no browser can be opened here: copy the folder {args.out} to a computer with one, and open {page.name}")
    return 0


def _tensorboard(arguments: Sequence[str]) -> int:
    parser = _parser("tensorboard", TENSORBOARD)
    parser.add_argument("--port", metavar="N", help="port, 0 for any free one (default: the first free one from 6006)")
    parser.add_argument("--host", metavar="NAME", help="address to listen on (default: localhost only)")
    own, passed_on = list(arguments), []
    if "--" in own:
        place = own.index("--")
        own, passed_on = own[:place], own[place + 1 :]
    args = _parse(parser, own)
    from featlight.cli.show import tensorboard_command

    command = tensorboard_command(args.out, _port(args.port), args.host, passed_on)
    from featlight.report.tensorboard.writer import catch_up

    catch_up(args.out)
    os.execv(command[0], command)  # TensorBoard takes over signals and exit code


def _port(word: str | None) -> int | None:
    if word is not None and not (word.isascii() and word.isdecimal() and int(word) <= 65535):
        raise UsageError(f"--port: {word!r} given; allowed: a number from 0 to 65535")
    return None if word is None else int(word)


def _export(arguments: Sequence[str]) -> int:
    parser = _parser("export", EXPORT)
    parser.add_argument(
        "--poster", metavar="FILE", type=expanded, help="poster of a whole layer on one page, a .pdf or .png"
    )
    parser.add_argument("--layer", metavar="NAME", help="layer of the poster (default: the only layer of the run)")
    parser.add_argument(
        "--examples", action="store_const", const=True, help="show each tile's three best examples on the poster"
    )
    parser.add_argument("--paper", metavar="A4|A3|A2|A1|A0", type=str.upper, help="size of the poster (default: A2)")
    parser.add_argument("--dpi", metavar="N", type=int, help="resolution of the poster, pixels per inch (default: 300)")
    parser.add_argument(
        "--zip",
        metavar="FILE",
        type=expanded,
        help="zip file of the page and everything it shows, for any static web host",
    )
    parser.add_argument("--tiles", choices=("png", "webp"), help="format of the tiles in the zip (default: png)")
    parser.add_argument("--webp", metavar="FOLDER", type=expanded, help="folder for the tiles as WebP files")
    parser.add_argument(
        "--quality",
        metavar="1-100|lossless",
        type=_quality,
        help="quality of WebP tiles, also in the zip (default: 90)",
    )
    parser.add_argument(
        "--card", metavar="FILE", type=expanded, help="dataset card, a .md file in Hugging Face's format"
    )
    parser.add_argument(
        "--no-photos",
        action="store_const",
        const=True,
        help="leave out everything made from photographs: examples, and tiles that start from or show one",
    )
    args = _parse(parser, arguments)
    given = {name: value for name, value in vars(args).items() if value is not None and name != "out"}
    if not given.keys() & WRITTEN:
        raise UsageError(f"nothing to export; give one or more of --{', --'.join(WRITTEN)}")
    for name, uses in USED_BY.items():
        if name in given and not given.keys() & uses:
            users = f"--{' or --'.join(uses)}"
            raise UsageError(f"--{name.replace('_', '-')}: given without {users}; add {users}, or leave it out")
    if "quality" in given and "webp" not in given and args.tiles != "webp":
        raise UsageError("--quality: given for PNG tiles, which are lossless; add --tiles webp")
    from featlight.export.export import ExportOptions, export

    for line in export(args.out, ExportOptions(**given)):
        say(line)
    return 0


def _quality(word: str) -> int | str:
    if word == "lossless":
        return word
    if not word.isdecimal() or not 1 <= int(word) <= 100:
        raise argparse.ArgumentTypeError(f"{word!r} given; allowed: 1 to 100, or lossless")
    return int(word)


def _counted(flag: str, word: str | None, most: int) -> int | None:
    """Parse a whole number from 1 to `most`.

    Raises:
        UsageError: the text is no such number.
    """
    if word is None:
        return None
    if not (word.isascii() and word.isdecimal() and 1 <= int(word) <= most):
        raise UsageError(f"{flag}: {word!r} given; allowed: a whole number from 1 to {most}")
    return int(word)


def _examples(arguments: Sequence[str]) -> int:
    from featlight.cli.examples_command import EPILOG, draw_atlases, find_examples, fit_of

    parser = _parser("examples", EPILOG)
    parser.add_argument(
        "--images", metavar="FOLDER", type=expanded, help="folder of PNG, JPEG and WebP files, searched recursively"
    )
    parser.add_argument("--top", metavar="N", default="9", help="examples per tile (default: 9)")
    parser.add_argument(
        "--fit",
        metavar="auto|none|SIZE",
        default="auto",
        help="input size of the images: auto (resize and crop as in the network's training, or if that is unknown to "
        "the size of the run's pictures), none (keep each image's size), or pixels as in 224 or 96x128 (default: auto)",
    )
    parser.add_argument(
        "--batch-size", metavar="N", help="images per batch (default: 32, GPU: 128, large images fewer)"
    )
    parser.add_argument("--devices", metavar="N", help="workers on this machine (default: one per GPU, else per core)")
    parser.add_argument(
        "--atlas", action="store_true", help="also draw atlases of each picture with its three best examples"
    )
    parser.add_argument(
        "--paths",
        action="store_true",
        help="also measure how far each tile is processed like its own examples, layer by layer (path similarity)",
    )
    add_source_flags(parser)
    args = _parse(parser, arguments)
    top = _counted("--top", args.top, MOST_TOP) or 1
    batch_size, devices = _counted("--batch-size", args.batch_size, 4096), _counted("--devices", args.devices, 4096)
    fit, typed = fit_of(args.fit), typed_sources(args)
    code = find_examples(
        args.out,
        args.images,
        top,
        fit,
        batch_size,
        devices,
        typed,
        arguments,
        accelerator=args.accelerator,
        paths=args.paths,
    )
    if code == 0 and args.atlas:
        draw_atlases(args.out)
    return code


def _circuits(arguments: Sequence[str]) -> int:
    from featlight.cli.circuits_command import DEFAULT_TOP, EPILOG, find_circuits

    parser = _parser("circuits", EPILOG)
    parser.add_argument(
        "--top", metavar="N", help=f"features kept for each tile and earlier layer (default: {DEFAULT_TOP})"
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        nargs="+",
        action="extend",
        help="layer whose tiles are attributed to earlier layers, repeatable (default: all layers of the run)",
    )
    add_source_flags(parser)
    args = _parse(parser, arguments)
    top = _counted("--top", args.top, MOST_TOP) or DEFAULT_TOP
    return find_circuits(args.out, top, args.layer or (), typed_sources(args), args.accelerator)


def _alike(arguments: Sequence[str]) -> int:
    parser = _parser("alike", ALIKE)
    parser.add_argument(
        "--layer", metavar="NAME", action="append", help="layer, repeatable (default: all layers with four tiles)"
    )
    parser.add_argument(
        "--method",
        metavar="auto|umap|pca",
        help="umap (preserves neighborhoods; pip install 'featlight[umap]'), pca (first two principal components), or "
        "auto: umap if it is installed, else pca (default: auto)",
    )
    parser.add_argument("--clusters", metavar="N", help="number of clusters (default: sqrt(tiles / 2))")
    args = _parse(parser, arguments)
    count = _counted("--clusters", args.clusters, 10_000)
    from featlight.report.similarity_map import find_alike

    for name, found in find_alike(
        args.out, layers=args.layer or (), method=args.method or "auto", clusters=count
    ).items():
        say(f"{name}: {plural(len(found.tiles), 'tile')} by {found.words}; {plural(max(found.clusters), 'cluster')}")
        say("alike        ", link(args.out / "alike" / f"{name}.png"))
    say("page         ", link(args.out / "index.html"), "#alike")
    return 0


# Help text and function of each command
COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "verify": ("check every tile of a run against its record; --repair removes damaged ones", _verify),
    "view": ("open a run's page in the browser", _view),
    "tensorboard": ("show a run in TensorBoard", _tensorboard),
    "examples": ("find the images of a folder that excite each tile of a run most", _examples),
    "circuits": ("find the earlier features that excite and inhibit each tile of a run", _circuits),
    "alike": ("map and cluster similar tiles of a layer: a picture, and a view of the page", _alike),
    "export": ("export a run: a poster, a website as zip, WebP tiles, a dataset card", _export),
}
