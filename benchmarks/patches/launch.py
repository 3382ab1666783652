"""Owns the account of one program: its CPU and its peak memory, from start to end. Refuses to import anything large.

A program starts its life with the peak memory of the one that started it; so this small one stands between.

    python -I -S launch.py COMMAND ...     prints JSON: code, cpu_s, peak_bytes, out, error
"""

import json
import resource
import subprocess
import sys


def main(command: list[str]) -> None:
    """Run ``command`` and print the account of it and of what it started."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    account = {
        "code": done.returncode,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
        "out": done.stdout,
        "error": done.stderr[-2000:],
    }
    print(json.dumps(account))


if __name__ == "__main__":
    main(sys.argv[1:])
