"""The command line. ``main`` is the installed command ``tanda``."""

from tanda.cli.app import main

__all__ = ["main"]
