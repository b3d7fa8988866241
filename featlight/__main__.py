"""The entry point of `featlight`, `python -m featlight` and `python train_viz.py`."""

import sys

from featlight.ending import be_deaf, end_at_once_when_told


def main() -> int:
    """Run the command line; from the start, a signal ends the process with a one-line message."""
    end_at_once_when_told()
    import atexit

    atexit.register(be_deaf)  # registered first, so called last
    from featlight.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
