"""The brokers of the tests are those of the demo."""

from demo.brokers import KINDS, Broker, free_port, start_broker

__all__ = ["KINDS", "Broker", "free_port", "start_broker"]
