"""Where every command begins: `featlight`, `python -m featlight` and `python train_viz.py`."""

import sys

from featlight.ending import be_deaf, end_at_once_when_told


def main() -> int:
    """Run the command line of this process, which a signal ends in a line from here on."""
    end_at_once_when_told()
    import atexit

    atexit.register(be_deaf)  # the first to be registered is the last to be called
    from featlight.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
