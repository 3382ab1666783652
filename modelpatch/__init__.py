"""Owns the public face of modelpatch: byte-exact patches of model files and of folders of them.

Refuses to import anything before it is used. The rooms, each standing on those below it:

    cli          the command line
    peers        other tools, and measuring ours against them
    inspect      what a patch does, told           diff     what makes patches (numpy)
    tensors      where the tensors of a model file are
    installed    what an apply uses where it is installed: numpy for speed, zstandard        } what a
    apply        patch and base to target: streams, files, folders; standard library alone   } device
    format       the bytes of a patch: header, frames, lanes, coders; standard library alone } runs
"""

TYPE_CHECKING = False  # typing's own takes longer to load than all of this
__version__ = "0.1.0"  # of the library; the format has a version of its own

__all__ = [
    "DEFAULT_FEATURES",
    "DEFAULT_MEMORY_BYTES",
    "Applied",
    "BaseMismatchError",
    "DecoderFeatures",
    "FolderError",
    "PatchError",
    "PatchFormatError",
    "PatchHeader",
    "PatchKind",
    "PatchLimitError",
    "SamePathError",
    "TargetMismatchError",
    "UnsupportedPatchError",
    "apply_file",
    "apply_folder",
    "apply_stream",
    "compare",
    "diff_bytes",
    "diff_file",
    "diff_folder",
    "inspect_patch",
    "read_header",
]

if TYPE_CHECKING:
    from modelpatch.apply.stream import Applied
    from modelpatch.errors import (
        BaseMismatchError,
        FolderError,
        PatchError,
        PatchFormatError,
        PatchLimitError,
        SamePathError,
        TargetMismatchError,
        UnsupportedPatchError,
    )
    from modelpatch.format.header import (
        DEFAULT_FEATURES,
        DEFAULT_MEMORY_BYTES,
        DecoderFeatures,
        PatchHeader,
        PatchKind,
        read_header,
    )
    from modelpatch.functions import (
        apply_file,
        apply_folder,
        apply_stream,
        compare,
        diff_bytes,
        diff_file,
        diff_folder,
        inspect_patch,
    )
else:

    def __getattr__(name):
        """Return a public name; it is loaded when it is asked for, so that `python -m modelpatch` begins at once."""
        if name in __all__:
            from importlib import import_module

            for home in ("errors", "format.header", "functions"):
                module = import_module(f"modelpatch.{home}")
                if hasattr(module, name):
                    return getattr(module, name)
        raise AttributeError(f"module 'modelpatch' has no attribute {name!r}")
