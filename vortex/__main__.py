"""``python -m vortex``."""

import sys

from vortex.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
