"""The bytes of a patch: header, frames, coders, transforms. The standard library alone."""
