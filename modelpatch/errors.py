"""Owns the error tree of modelpatch; says who is at fault. Refuses to hide OS errors: they stay `OSError`.

PatchError                  anything that stops a diff or an apply and is not the operating system's doing
├── PatchFormatError        the patch's bytes are wrong: truncated, altered, not a patch, trailing bytes
├── UnsupportedPatchError   the patch is well formed, but newer than this decoder or needs a feature it lacks
├── PatchLimitError         the patch declares more bytes or memory than the caller allows
├── BaseMismatchError       the patch is for another base
├── TargetMismatchError     the bytes made are not the declared target
├── SamePathError           two of base, patch and target are the same file
└── FolderError             a folder holds what a folder patch cannot carry (links, devices, unsafe names)
"""


class PatchError(Exception):
    """Root of all errors of this package."""


class PatchFormatError(PatchError):
    """The patch's bytes are wrong."""


class UnsupportedPatchError(PatchError):
    """The patch needs a newer decoder, or a decoder feature that is not declared or not built in."""


class PatchLimitError(PatchError):
    """The patch declares a target or a working memory above what the caller allows."""


class BaseMismatchError(PatchError):
    """The base is not the one that the patch was made for."""


class TargetMismatchError(PatchError):
    """The bytes that came out are not the declared target."""


class SamePathError(PatchError):
    """Two of base, patch and target are one file."""


class FolderError(PatchError):
    """A folder cannot be carried by a folder patch, or the target folder is already there."""
