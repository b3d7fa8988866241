"""Make the atlas of a layer: `python train_viz.py --help`."""

import sys

from featlight.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
