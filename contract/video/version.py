"""Owns which ffmpeg is new enough. Refuses to find a way around an older one.

ffmpeg 4.4 knows neither ``-fps_mode`` (5.1) nor options in lists of addresses (5.0), by which a password stays out of
the command line. Ubuntu 22.04, and with it JetPack 6, has 4.4.
"""

import re
import subprocess

from contract.errors import InputError
from contract.video.child import environment, program

LEAST = (5, 1)
LIMIT_S = 10.0


def check_ffmpeg() -> str:
    """Return the version of the ffmpeg that is installed.

    Raises:
        InputError: there is none, it does not run, or it is too old.
    """
    command = [program("ffmpeg"), "-hide_banner", "-version"]
    try:
        said = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"{command[0]} does not run: {type(error).__name__}") from error
    found = re.match(r"ffmpeg version (\S+)", said.stdout)
    version = found[1] if found else "?"
    numbers = re.match(r"n?(\d+)\.(\d+)", version)  # of a build from a commit nobody knows how old it is
    if numbers and (int(numbers[1]), int(numbers[2])) < LEAST:
        raise InputError(f"ffmpeg {version} is installed, and {LEAST[0]}.{LEAST[1]} or newer is needed")
    return version
