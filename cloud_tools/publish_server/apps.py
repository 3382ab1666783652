"""Owns the one application of the project: its label and its models. Refuses to do anything when it is loaded."""

from django.apps import AppConfig


class PublishServer(AppConfig):
    """The application; its tables are called ``publish_server_...``."""

    name = "cloud_tools.publish_server"
    label = "publish_server"
    verbose_name = "Kinwatch"
