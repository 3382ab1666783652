"""Owns the form of an event: a stable id and one line of key=value. Refuses secrets and pictures.

Tests and people look for ids (``slot.committed``, ``camera.stalled``); the wording of a line may change, ids may not.
"""

import json
import logging
import sys


def log_event(logger: logging.Logger, event: str, level: int = logging.INFO, /, **fields: object) -> None:
    """Log one event as ``event key=value ...``; values with spaces or quotes are written as JSON strings."""
    logger.log(level, "%s", " ".join([event, *(f"{key}={_text(value)}" for key, value in fields.items())]))


def start_logging(level: int = logging.INFO) -> None:
    """Log to stderr, one line an event; under systemd the journal adds the time, so none is written there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _text(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if text and not text.isprintable():  # of a peer: half a character, or what moves a terminal's cursor
        return json.dumps(text)
    plain = text and not any(character.isspace() or character in '"=' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
