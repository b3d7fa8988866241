"""Where every command begins: `featlight`, `python -m featlight` and `python train_viz.py`."""

import sys

from featlight.ending import end_on_signals, ignore_signals


def main() -> int:
    """Run the command line of this process, which a signal ends in a line from here on."""
    end_on_signals()
    import atexit

    atexit.register(ignore_signals)  # the first to be registered is the last to be called
    from featlight.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
