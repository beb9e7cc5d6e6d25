"""The command line: thin commands over the library."""

from locus.cli.app import main

__all__ = ["main"]
