"""The entry point of `featlight`, `python -m featlight` and `python train_viz.py`."""

import sys

from featlight.ending import end_on_signals, ignore_signals


def main() -> int:
    """Run the command line; from the start, a signal ends the process with a one-line message."""
    end_on_signals()
    import atexit

    atexit.register(ignore_signals)  # registered first, so called last
    from featlight.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
