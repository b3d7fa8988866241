"""`python -m featlight`."""

import sys

from featlight.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
