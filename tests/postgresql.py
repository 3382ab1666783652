"""Owns a real PostgreSQL server for tests: a new cluster on a free port of loopback, gone afterwards."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.brokers import free_port

USER = "postgres"  # of Debian's package; the program refuses to run as root


def installed() -> bool:
    """Return whether there is a PostgreSQL server to start."""
    return _program("initdb") is not None


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a server within the block; return the URL of an empty database."""
    # Not in pytest's folder, which only its owner may enter.
    folder, port = Path(tempfile.mkdtemp(prefix="kinwatch-pg-")), free_port()
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam(USER).pw_uid, -1)
    data = str(folder / "data")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        _run("initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8")
        _run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
        yield f"postgresql://{USER}@127.0.0.1:{port}/{USER}"
        _run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(name: str, *words: str) -> None:
    program = _program(name)
    assert program
    prefix: Sequence[str] = ()
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        prefix = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    done = subprocess.run(
        [*prefix, program, *words], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _program(name: str) -> str | None:
    """Return where a program is; Debian keeps them out of PATH, a folder for each version."""
    debian = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    return debian[-1] if debian else shutil.which(name)
