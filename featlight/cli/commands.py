"""Commands besides the run itself, `featlight verify` say. What is heavy is imported when one is sure."""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, get_args

from featlight.config.schema import MOST_TOP, Accelerator
from featlight.config.user_paths import expanded
from featlight.console import link, say
from featlight.errors import UsageError, nearest
from featlight.plan.sources import TypedSources

LINES_SHOWN = 50  # of problems, and of notes
VERIFY = """
Exit codes: 0 all is well; 1 something was wrong, repaired or not; 2 usage, or no run; 74 no right to remove.
Tiles that are not made yet are no damage. Best while no run is at work in the directory.
"""
VIEW = """
Where no browser can be opened, on a cluster say, it tells how to look at the page all the same.
Exit codes: 0 done; 2 usage, no run, or a run without page.
"""
TENSORBOARD = """
Heading after a lone -- are TensorBoard's own: featlight tensorboard --out DIR -- --reload_interval 30
Exit codes: TensorBoard's own; 2 usage, no run, or a run without log.
"""

WRITTEN = ("poster", "zip", "webp", "card")
# By flag, which of these make use of it
USED_BY = {
    "layer": ("poster",),
    "paper": ("poster",),
    "dpi": ("poster",),
    "tiles": ("zip",),
    "quality": ("webp", "zip"),
    "examples": ("poster",),
}
EXPORT = """
Give one or more of --poster, --zip, --webp and --card. What is there is overwritten, but nothing inside the run
directory. A run half made can be exported. Where its page is not up to date, --zip has it made again first.
Exit codes: 0 done; 1 a tile is damaged; 2 usage, or no run; 74 no room or no right to write.
"""

ALIKE = """
Tiles are compared by their mean activations of all features of their layer. Nothing of the run is needed but what
lies in its directory: no network, no torch.
Exit codes: 0 done; 2 usage, no run, or no layer with four tiles that differ; 74 no room or no right to write.
"""


class Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        given = message.removeprefix("unrecognized arguments: ").split()
        if given and message.startswith("unrecognized") and given[0].startswith("-"):
            flag = given[0].partition("=")[0]
            near = nearest(flag, [option for action in self._actions for option in action.option_strings])
            message = f"no flag {flag!r}" + (f"; nearest: {near!r}" if near else "; --help lists them")
        elif given and message.startswith("unrecognized"):
            message = f"{given[0]!r} stands where only flags may; a command ({', '.join(COMMANDS)}) comes first"
        raise UsageError(message)


def hyphens(word: str) -> str:
    """`--batch_size` is `--batch-size`."""
    if not word.startswith("--"):
        return word
    flag, equals, value = word.partition("=")
    return flag.replace("_", "-") + equals + value


def _parser(name: str, epilog: str) -> Parser:
    """Of a command on a run."""
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
    words = parser.parse_args([hyphens(word) for word in arguments])
    if words.out is None:
        raise UsageError("--out: none given; the run's directory is needed")
    return words


def add_source_flags(parser: Parser) -> None:
    """The flags of every command that needs a run's network; `typed_sources` reads them."""
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="network of the run, where its plan names none of featlight's own, torchvision's or timm's by plain name: "
        "hf/..., or package.module:callable, which imports that module",
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of the run, where its plan names a file")
    parser.add_argument("--directions", metavar="FILE", help="directions of the run, where its plan names a file")
    parser.add_argument(
        "--accelerator",
        metavar="|".join(get_args(Accelerator)),
        choices=get_args(Accelerator),
        default="auto",
        help="device of the network: a GPU if there is one, the CPU, or a GPU (default: auto)",
    )


def typed_sources(words: argparse.Namespace) -> TypedSources:
    return TypedSources(words.model, words.weights, words.directions)


def _verify(arguments: Sequence[str]) -> int:
    parser = _parser("verify", VERIFY)
    parser.add_argument(
        "--repair", action="store_true", help="remove what is bad, so that the run's own command makes it again"
    )
    words = _parse(parser, arguments)
    from featlight.store.verify import repair, verify

    report = verify(words.out)
    problems = [f"{problem.path}: {problem.what}" for problem in report.problems]
    _some(problems, most=len(problems) if words.repair else LINES_SHOWN)  # nothing goes that was not named
    _some(f"note: {note}" for note in report.notes)
    say(
        f"{report.tiles} tile{'' if report.tiles == 1 else 's'}: {len(report.whole)} whole, {report.harmed} harmed, "
        f"{report.failed} failed, {report.unmade} not made yet; {_count(len(report.problems), 'problem')}"
    )
    if words.repair and report.problems:
        files, lines = repair(words.out, report)
        say(f"removed {_count(files, 'file')}, blanked {_count(lines, 'line')}; the run's own command makes it whole")
    return 1 if report.problems else 0


def _some(lines: Iterable[str], most: int = LINES_SHOWN) -> None:
    """The first lines, and how many more there are."""
    every = list(lines)
    for line in every[:most]:
        say(line)
    if len(every) > most:
        say(f"... and {len(every) - most} more like these")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _view(arguments: Sequence[str]) -> int:
    words = _parse(_parser("view", VIEW), arguments)
    from featlight.cli.show import open_page, page_of

    page = page_of(words.out)
    say("page         ", link(page))
    if not open_page(page):
        say(f"no browser can be opened here: copy all of {words.out} to where there is one, and open its {page.name}")
    return 0


def _tensorboard(arguments: Sequence[str]) -> int:
    parser = _parser("tensorboard", TENSORBOARD)
    parser.add_argument(
        "--port", metavar="N", help="port to serve at, 0 for any (default: the first free one from 6006)"
    )
    parser.add_argument("--host", metavar="NAME", help="address to serve at (default: for this machine alone)")
    ours = list(arguments)
    theirs: list[str] = []
    if "--" in ours:
        at = ours.index("--")
        ours, theirs = ours[:at], ours[at + 1 :]
    words = _parse(parser, ours)
    from featlight.cli.show import tensorboard_command

    command = tensorboard_command(words.out, _port(words.port), words.host, theirs)
    from featlight.report.tensorboard.writer import catch_up

    catch_up(words.out)
    os.execv(command[0], command)  # Ctrl-C, other signals and the exit code are TensorBoard's from here


def _port(word: str | None) -> int | None:
    if word is not None and not (word.isascii() and word.isdecimal() and int(word) <= 65535):
        raise UsageError(f"--port: {word!r} given; a number from 0 to 65535 is allowed")
    return None if word is None else int(word)


def _export(arguments: Sequence[str]) -> int:
    parser = _parser("export", EXPORT)
    parser.add_argument("--poster", metavar="FILE", type=expanded, help="one page of a whole layer: a .pdf or a .png")
    parser.add_argument("--layer", metavar="NAME", help="of the poster (default: the run's only one)")
    parser.add_argument(
        "--examples", action="store_const", const=True, help="on the poster, each picture with its three best examples"
    )
    parser.add_argument("--paper", metavar="A4|A3|A2|A1|A0", type=str.upper, help="of the poster (default: A2)")
    parser.add_argument("--dpi", metavar="N", type=int, help="of the poster, pixels per inch (default: 300)")
    parser.add_argument(
        "--zip", metavar="FILE", type=expanded, help="the page with all that it shows, for any static host"
    )
    parser.add_argument("--tiles", choices=("png", "webp"), help="format of the zip's tiles (default: png)")
    parser.add_argument("--webp", metavar="FOLDER", type=expanded, help="the tiles as WebP files")
    parser.add_argument(
        "--quality", metavar="1-100|lossless", type=_quality, help="of WebP tiles, also the zip's (default: 90)"
    )
    parser.add_argument(
        "--card", metavar="FILE", type=expanded, help="the data set's card, a .md in Hugging Face's form"
    )
    parser.add_argument(
        "--no-photos",
        action="store_const",
        const=True,
        help="leave out what is made from photographs: examples, and tiles that start at one or show one",
    )
    words = _parse(parser, arguments)
    given = {name: value for name, value in vars(words).items() if value is not None and name != "out"}
    if not given.keys() & WRITTEN:
        raise UsageError(f"nothing to export; name one or more of --{', --'.join(WRITTEN)}")
    for name, uses in USED_BY.items():
        if name in given and not given.keys() & uses:
            raise UsageError(f"--{name.replace('_', '-')}: of no use without --{' or --'.join(uses)}")
    if "quality" in given and "webp" not in given and words.tiles != "webp":
        raise UsageError("--quality: PNGs are lossless; --tiles webp makes the zip's tiles smaller")
    from featlight.export.export import ExportOptions, export

    for line in export(words.out, ExportOptions(**given)):
        say(line)
    return 0


def _quality(word: str) -> int | str:
    if word == "lossless":
        return word
    if not word.isdecimal() or not 1 <= int(word) <= 100:
        raise argparse.ArgumentTypeError(f"{word!r} given; 1 to 100, or lossless, are allowed")
    return int(word)


def _counted(flag: str, word: str | None, most: int) -> int | None:
    """A whole number from 1.

    Raises:
        UsageError: it is none.
    """
    if word is None:
        return None
    if not (word.isascii() and word.isdecimal() and 1 <= int(word) <= most):
        raise UsageError(f"{flag}: {word!r} given; a whole number from 1 to {most} is allowed")
    return int(word)


def _examples(arguments: Sequence[str]) -> int:
    from featlight.cli.examples_command import EPILOG, draw_atlases, find_examples, fit_of

    parser = _parser("examples", EPILOG)
    parser.add_argument("--images", metavar="FOLDER", type=expanded, help="PNG, JPEG and WebP files, at any depth")
    parser.add_argument("--top", metavar="N", default="9", help="examples of each tile (default: 9)")
    parser.add_argument(
        "--fit",
        metavar="auto|none|SIZE",
        default="auto",
        help="auto: resize and crop as the network was trained with, or where that is not known, at the pictures' "
        "size; none: each image as it is; or a size in pixels, 224 or 96x128 (default: auto)",
    )
    parser.add_argument("--batch-size", metavar="N", help="images that are looked at together (default: 32, GPU: 128)")
    parser.add_argument("--devices", metavar="N", help="workers on this machine (default: a GPU each, or a core each)")
    parser.add_argument(
        "--atlas", action="store_true", help="draw atlases, too, of each picture with its three best examples"
    )
    add_source_flags(parser)
    words = _parse(parser, arguments)
    top = _counted("--top", words.top, MOST_TOP) or 1
    batch_size, devices = _counted("--batch-size", words.batch_size, 4096), _counted("--devices", words.devices, 4096)
    fit, typed = fit_of(words.fit), typed_sources(words)
    code = find_examples(
        words.out,
        words.images,
        top,
        fit,
        batch_size,
        devices,
        typed,
        arguments,
        accelerator=words.accelerator,
    )
    if code == 0 and words.atlas:
        draw_atlases(words.out)
    return code


def _alike(arguments: Sequence[str]) -> int:
    parser = _parser("alike", ALIKE)
    parser.add_argument("--layer", metavar="NAME", action="append", help="again for several (default: all that can be)")
    parser.add_argument(
        "--method",
        metavar="auto|umap|pca",
        help="umap keeps near what is near (pip install 'featlight[umap]'); pca shows the two directions in which "
        "tiles differ most (default: umap where it is installed)",
    )
    parser.add_argument("--clusters", metavar="N", help="how many (default: the root of half the number of tiles)")
    words = _parse(parser, arguments)
    count = _counted("--clusters", words.clusters, 10_000)
    from featlight.report.similarity_map import find_alike

    for name, found in find_alike(
        words.out, layers=words.layer or (), method=words.method or "auto", clusters=count
    ).items():
        say(f"{name}: {_count(len(found.tiles), 'tile')} by {found.words}; {_count(max(found.clusters), 'cluster')}")
        say("alike        ", link(words.out / "alike" / f"{name}.png"))
    say("page         ", link(words.out / "index.html"), "#alike")
    return 0


# By name, what each command does, and what takes its words.
COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "verify": ("check every tile of a run against its record, and with --repair remove what is bad", _verify),
    "view": ("open a run's page in the browser", _view),
    "tensorboard": ("show a run in TensorBoard", _tensorboard),
    "examples": ("find the images of a folder that excite each tile of a run most", _examples),
    "alike": ("find out which tiles of a layer are alike: a picture, and a view of the page", _alike),
    "export": ("write what leaves a run: a poster, a site in a zip, WebP tiles, a data set's card", _export),
}
