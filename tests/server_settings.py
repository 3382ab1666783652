"""The publish server's settings for tests and for mypy: they need no environment, and loading them writes nothing.

A test has a folder and a database of its own (``tests.publish_servers``).
"""

import os

os.environ.setdefault("KINWATCH_SERVER_DATA", "/nonexistent/kinwatch-server")
os.environ.setdefault("KINWATCH_SERVER_SECRET_KEY", "only-for-tests-" + "0123456789" * 5)

from cloud_tools.publish_server.settings import *  # noqa: F403
