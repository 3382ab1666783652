"""What the programs agree on: release manifest, MQTT topics, preprocessing, trust, errors, file helpers.

Refuses anything that only one program needs, and never imports a program.
"""

__version__ = "0.1.0"
