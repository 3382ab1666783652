"""Owns setting Django up in a process of ours. Refuses to do it twice."""

import os

import django

from cloud_tools.publish_server.config import ServerConfig, read_config


def set_up() -> ServerConfig:
    """Load settings and models; return the configuration.

    Raises:
        ConfigError: the environment says what cannot be.
    """
    os.environ["DJANGO_SETTINGS_MODULE"] = "cloud_tools.publish_server.settings"
    config = read_config(os.environ)
    django.setup()
    return config
