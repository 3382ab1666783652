"""The relay program: mirrors a publish site's verified metadata and contents for the devices near it.

Refuses to decide anything about a release: it passes on what is signed, and a device verifies everything again.
"""
