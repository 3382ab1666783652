"""Owns the error tree of the programs and what a command line makes of it; refuses any other policy.

    KinwatchError            one clear line for a person; exit code 1
    ├── InputError           what a person gave is wrong (file, video, picture, bundle)
    │   └── ConfigError      a configuration file is wrong; exit code 78 (sysexits EX_CONFIG)
    ├── PeerError            the other side failed: no broker, no relay, HTTP error, timeout
    │   └── TrustError       the other side answered, and what it said did not verify
    ├── StorageError         the disk: full, read-only, vanished
    └── ReleaseError         a release does not run on this device (contract, self-test, trial)

Foreign exceptions are translated where they enter, with ``from``; ``modelpatch.PatchError`` keeps its own tree. It is
imported where it is needed: until a program's ``__main__`` has this module, it cannot tell of Ctrl-C in one line.
"""

import errno
import sys
from collections.abc import Callable

EXTRAS = {"agent": "agent", "edge_relay": "relay", "cloud_tools": "cloud"}  # of setup.cfg, by program
OF_SERVER = ("argon2", "axes", "csp", "django", "gunicorn", "iotcore", "ninja", "whitenoise")  # of [server] alone
MOST_FOREIGN = 200  # characters of a library's own words
EXIT_DONE, EXIT_FAILED, EXIT_CONFIG = 0, 1, 78
EXIT_INTERRUPTED = 130  # as a shell says it: 128 and the number of SIGINT


class KinwatchError(Exception):
    """A failure that a person can act on; its text is one line and names the thing that failed."""


class InputError(KinwatchError):
    """What a person gave is wrong."""


class ConfigError(InputError):
    """A configuration file cannot be used."""


class PeerError(KinwatchError):
    """A broker, relay or site did not answer, or answered with an error."""


class TrustError(PeerError):
    """Bytes from a peer did not verify against signed metadata."""


class StorageError(KinwatchError):
    """The disk refused: full, read-only, or a file vanished."""


class ReleaseError(KinwatchError):
    """A release does not run on this device."""


def describe_os_error(error: OSError) -> str:
    """Say in one line what the operating system refused, naming the file where it is known."""
    reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error))
    return f"{error.filename}: {reason}" if error.filename else reason


def one_line(error: BaseException) -> str:
    """Say in one line what went wrong: our own text whole, a refused file's as above, a library's shortened."""
    from modelpatch.errors import PatchError

    if isinstance(error, KinwatchError | PatchError):
        return " ".join(str(error).splitlines())
    if isinstance(error, OSError) and error.errno is not None:
        return describe_os_error(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= MOST_FOREIGN else text[: MOST_FOREIGN - 3] + "..."


def missing_package(program: str, error: ModuleNotFoundError) -> str:
    """Say in one line which package is missing and how it comes: a program installs only with its own extra.

    Raises:
        ModuleNotFoundError: what is missing is ours; that is a fault, not a missing package.
    """
    package = (error.name or "").split(".")[0]
    if package in ("", "agent", "cloud_tools", "contract", "edge_relay", "modelpatch"):
        raise error
    extra = "server" if package in OF_SERVER else EXTRAS[program]
    return f"{program}: the Python package {package} is missing: pip install 'kinwatch[{extra}]'"


def run_command(name: str, command: Callable[[], int | None]) -> int:
    """Run ``command`` and turn our errors into one line on stderr and an exit code.

    What ``command`` imports is imported within: that takes most of a short command's time, so that is when a person
    who changed their mind presses Ctrl-C.

    Returns:
        What ``command`` returned (``None`` counts as 0), 78 for ConfigError, 1 for any other error of ours and
        for errors of the operating system, 130 when a person pressed Ctrl-C.
    """
    try:
        return _translated(name, command)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _translated(name: str, command: Callable[[], int | None]) -> int:
    from modelpatch.errors import PatchError

    try:
        return command() or EXIT_DONE
    except ConfigError as error:
        line, code = one_line(error), EXIT_CONFIG
    except (KinwatchError, PatchError, OSError) as error:
        line, code = one_line(error), EXIT_FAILED
    except ModuleNotFoundError as error:
        print(missing_package(name, error), file=sys.stderr)
        return EXIT_FAILED
    print(f"{name}: {line}", file=sys.stderr)
    return code
