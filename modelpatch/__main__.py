"""Runs the command line: `python -m modelpatch`."""

import sys

from modelpatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
