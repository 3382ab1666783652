"""What the programs agree on: release manifest, MQTT topics, preprocessing, trust, errors, file helpers.

Refuses anything that only one program needs, and never imports a program.
"""

__version__ = "0.1.0"
__date__ = "2026-01-01"  # of this release, as CHANGELOG.md has it: a test compares; before the first: the beginning
