"""Owns telling a broker that a channel has a release: one retained MQTT message. Refuses to wait for ever.

The message is a hint that is trusted for nothing; it is sent again whenever the same release is published again.
"""

from contract.broker import BrokerAddress, connected
from contract.messages import ReleaseNotice
from contract.topics import release_topic

LIMIT_S = 10.0


def send_notice(
    broker: BrokerAddress, model: str, channel: str, notice: ReleaseNotice, limit_s: float = LIMIT_S
) -> None:
    """Leave ``notice`` at the broker (QoS 1, retained) and wait until it has acknowledged.

    Raises:
        PeerError: no connection, a refusal, or no answer within ``limit_s`` seconds.
    """
    with connected(broker, limit_s) as errand:
        errand.publish(release_topic(model, channel), notice.encode())
