"""Runs the command line: `python -m modelpatch`; from its first import on, Ctrl-C is one line and exit code 130."""

import sys

EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command line; return its exit code."""
    try:
        from modelpatch.cli import main as run

        return run()
    except KeyboardInterrupt:
        print("modelpatch: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
