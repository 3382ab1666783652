"""Videos, camera streams and devices, decoded by an ffmpeg child; see ``reader``."""
