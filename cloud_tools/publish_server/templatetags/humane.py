"""Owns how sizes are written for people. Refuses to round so that two patches look alike."""

from collections.abc import Iterable, Mapping

from django import template

register = template.Library()
STEPS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "KB"))


@register.filter(name="bytes")
def in_bytes(size: int) -> str:
    """Return 3821 as "3.82 KB"."""
    for step, unit in STEPS:
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} B"


@register.filter
def smallest(patches: Iterable[Mapping[str, int]]) -> int:
    """Return the size of the smallest patch."""
    return min((patch["size"] for patch in patches), default=0)
