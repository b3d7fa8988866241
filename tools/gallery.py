"""Make the pictures and tables of the documentation from the configs of the source tree.

python -m tools.gallery
"""

import argparse
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from PIL import Image

from featlight.cli.main import main as featlight
from featlight.console import say
from featlight.drawing.animation import encode_animation
from featlight.errors import UsageError

TREE = Path(__file__).parents[1]
WIDTH = 1200  # px, maximum width of a still picture
FRAMES, FRAME_WIDTH = 50, 288  # maximum number of frames of an animation, and their width in px
SECONDS = 10  # duration of an animation


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the configs, and write their figures, scaled down, and tables into the documentation.

    Returns:
        The exit code of the first run that fails, or 0.
    """
    parser = argparse.ArgumentParser("python -m tools.gallery", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="names of configs (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--docs", type=Path, default=TREE / "docs", help="folder of the documentation")
    options = parser.parse_args(arguments)
    try:
        chosen = configs(options.names)
    except UsageError as error:
        print(f"featlight: {error}", file=sys.stderr)
        return error.exit_code
    for config in chosen:
        out = options.runs / config.stem
        say(f"{config.stem}: --config {config}")
        code = featlight(["--config", str(config), "--out", str(out)])
        if code:
            return code
        figures = sorted(out.glob("figures/*")) or sorted(out.glob("atlas/*.png"))
        kept: set[Path] = set()
        for figure in figures:
            if figure.suffix != ".gif":
                kept.add(target := document(figure, config.stem, options.docs, kept))
                say(f"  {target}")
    return 0


def configs(names: Sequence[str] = ()) -> list[Path]:
    """Return the configs with the given names or, without names, all that need no download, in order.

    Raises:
        UsageError: there is no config with a name.
    """
    folder = TREE / "configs"
    first = (folder / "quickstart.yaml", folder / "depth.yaml")
    others = [*sorted(folder.glob("offline/*.yaml")), *sorted(folder.glob("looks/*.yaml"))]
    known = {path.stem: path for path in (*first, *others)}
    for name in names:
        if name not in known:
            raise UsageError(f"gallery: {name!r} given; allowed: {', '.join(known)}")
    return [known[name] for name in names or known]


def document(figure: Path, name: str, docs: Path, others: Collection[Path] = ()) -> Path:
    """Write a run's figure into the documentation.

    Args:
        figure: picture (PNG), animation (WebP) or table (CSV) of the run.
        name: name of the config, the first part of the file name.
        docs: folder of the documentation.
        others: files that the same run has written; a name that is taken gets the variant's name appended.

    Returns:
        Path of the file.
    """
    kind = figure.stem.split("-")[0]  # `growth` and `added` come from one run
    stem = f"{name}-added" if kind == "added" else name
    if any(other.stem == stem and other.suffix == figure.suffix for other in others):
        stem += f"-{figure.stem.split('-')[1]}"
    match figure.suffix:
        case ".csv":
            target = docs / "tables" / f"{stem}.csv"
            _folder(target)
            shutil.copyfile(figure, target)
        case ".webp":
            target = docs / "images" / f"{stem}.webp"
            _folder(target).write_bytes(_shorter(figure))
        case _:
            target = docs / "images" / f"{stem}.jpg"
            with Image.open(figure) as picture:
                small = picture.convert("RGB")
            if small.width > WIDTH:
                small = small.resize((WIDTH, round(small.height * WIDTH / small.width)), Image.Resampling.LANCZOS)
            small.save(_folder(target), "JPEG", quality=85, optimize=True)
    return target


def _folder(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _shorter(path: Path) -> bytes:
    """Encode an animation again, smaller and with fewer frames; the last frame is kept."""
    with Image.open(path) as animation:
        count: int = animation.n_frames  # type: ignore[attr-defined]
        step = -(-count // FRAMES)
        size = (FRAME_WIDTH, round(animation.height * FRAME_WIDTH / animation.width))
        frames = []
        for number in range((count - 1) % step, count, step):
            animation.seek(number)
            frames.append(animation.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    milliseconds = min(900, 1000 * SECONDS // len(frames))
    return encode_animation(frames, milliseconds=milliseconds, format="WEBP", hold_last_ms=1500, quality=70)


if __name__ == "__main__":
    sys.exit(main())
