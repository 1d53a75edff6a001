"""``python -m vortex``."""

import sys

from vortex.cli.main import main

sys.exit(main())
