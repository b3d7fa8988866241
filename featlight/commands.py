"""Commands besides the run itself: `featlight verify`. What is heavy is imported when one is sure."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from featlight.errors import UsageError, nearest
from featlight.speech import say

LINES_SHOWN = 50  # of problems, and of notes
VERIFY = """
Exit codes: 0 all is well; 1 something was wrong, repaired or not; 2 usage, or no run; 74 no right to remove.
Tiles that are not made yet are no damage. Best while no run is at work in the directory.
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


def _verify(arguments: Sequence[str]) -> int:
    result = Parser(
        "featlight verify",
        description=COMMANDS["verify"][0] + ".",
        epilog=VERIFY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.add_argument("--out", metavar="DIR", type=Path, help="run directory")
    result.add_argument(
        "--repair", action="store_true", help="remove what is bad, so that the run's own command makes it again"
    )
    words = result.parse_args([hyphens(word) for word in arguments])
    if words.out is None:
        raise UsageError("--out: none given; the run's directory is needed")
    from featlight.verify import repair, verify

    report = verify(words.out)
    _some(f"{problem.path}: {problem.what}" for problem in report.problems)
    _some(f"note: {note}" for note in report.notes)
    say(
        f"{report.tiles} tile{'' if report.tiles == 1 else 's'}: {len(report.whole)} whole, {report.harmed} harmed, "
        f"{report.failed} failed, {report.unmade} not made yet; {_count(len(report.problems), 'problem')}"
    )
    if words.repair and report.problems:
        files, lines = repair(words.out, report)
        say(f"removed {_count(files, 'file')}, blanked {_count(lines, 'line')}; the run's own command makes it whole")
    return 1 if report.problems else 0


def _some(lines: Iterable[str]) -> None:
    """The first lines, and how many more there are."""
    every = list(lines)
    for line in every[:LINES_SHOWN]:
        say(line)
    if len(every) > LINES_SHOWN:
        say(f"... and {len(every) - LINES_SHOWN} more like these")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


# By name, what each command does, and what takes its words.
COMMANDS: dict[str, tuple[str, Callable[[Sequence[str]], int]]] = {
    "verify": ("check every tile of a run against its record, and with --repair remove what is bad", _verify),
}
