"""`python -m benchmarks.pictures`."""

import sys

from benchmarks.pictures.main import main

if __name__ == "__main__":
    sys.exit(main())
