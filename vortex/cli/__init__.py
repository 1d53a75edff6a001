"""The command line. A file here holds the commands of one subject; ``main`` runs them."""

from vortex.cli.main import main

__all__ = ["main"]
