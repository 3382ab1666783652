"""The main job, end to end, as real processes on loopback; not part of the installed packages."""
