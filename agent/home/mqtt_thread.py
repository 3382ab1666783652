"""Owns the thread that talks to the broker: it notices its own death and begins again. Refuses to say anything.

paho ends its thread, silently, when a callback raises. Here such a fault closes the connection, so that the broker
tells of it by the last will, costs one event, and the thread connects anew after a pause. Too many faults in a short
time are no accident: then it ends, with an event, and the device goes on without a broker until its next start.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

from contract.events import log_event

logger = logging.getLogger("agent.mqtt_thread")
MOST_RESTARTS = 5
WITHIN_S = 3600.0
FIRST_PAUSE_S = 1.0  # doubles with each restart


class OwnedClient(mqtt.Client):
    """A client whose thread restarts after a fault; ``on_fault`` is told that the connection is gone."""

    def __init__(self, on_fault: Callable[[], None], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._on_fault = on_fault
        self._faults_s: deque[float] = deque(maxlen=MOST_RESTARTS)
        self._ending = threading.Event()

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """Run until ``disconnect``, or until the restarts are spent: what ``loop_start`` runs in its thread."""
        while True:
            try:
                return super().loop_forever(timeout, retry_first_connection)
            except Exception:  # whatever it is: a thread that dies unheard leaves a device that nobody hears
                logger.exception("broker.fault")
            # This closes the connection, and not with the word that would take the last will back.
            self.connect_async(self.host, self.port, self.keepalive)
            self._on_fault()
            if not self._may_restart():
                return MQTTErrorCode.MQTT_ERR_UNKNOWN

    def loop_stop(self) -> MQTTErrorCode:
        """End the thread, also in the pause before a restart."""
        self._ending.set()
        return super().loop_stop()

    def _may_restart(self) -> bool:
        """Wait before a restart; return whether there is to be one."""
        now_s = time.monotonic()
        recent = sum(now_s - fault_s < WITHIN_S for fault_s in self._faults_s)
        if recent == MOST_RESTARTS:
            log_event(logger, "broker.given_up", logging.ERROR, faults=recent + 1, within_s=WITHIN_S)
            return False
        self._faults_s.append(now_s)
        return not self._ending.wait(FIRST_PAUSE_S * 2**recent)
