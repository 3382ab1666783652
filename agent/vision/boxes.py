"""Owns the geometry of boxes: how much two of them share. Refuses to know what is in them."""

Region = tuple[float, float, float, float]  # x, y, width, height, in pixels of the frame


def centre(box: Region) -> tuple[float, float]:
    """Return the centre (x, y) of a box."""
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def shared(first: Region, second: Region) -> float:
    """Return the area that two boxes share."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    return width * height if width > 0 and height > 0 else 0.0


def overlap(first: Region, second: Region) -> float:
    """Return intersection over union."""
    both = shared(first, second)
    return both / (first[2] * first[3] + second[2] * second[3] - both) if both else 0.0


def inside(first: Region, second: Region) -> float:
    """Return the share of ``first`` that lies in ``second``."""
    both = shared(first, second)
    return both / (first[2] * first[3]) if both else 0.0
