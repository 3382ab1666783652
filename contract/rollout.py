"""Owns which devices take a release when: the share of a rollout and its seed. Pure; refuses clocks and sockets."""

import hashlib

LONGEST_JITTER_S = 86_400  # the widest window, in seconds, over which the devices of a channel may be spread
SEED_DIGITS = 16


def in_rollout(seed: str, device: str, percent: float) -> bool:
    """Return whether a device is among the first ``percent`` of all; a higher percentage only adds devices."""
    digest = hashlib.sha256(f"{seed}:{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 * 100 < percent


def rollout_seed(manifest: bytes) -> str:
    """Return the seed of a release: another for every manifest, so that not always the same devices go first."""
    return hashlib.sha256(manifest).hexdigest()[:SEED_DIGITS]
