"""Owns the command line of modelpatch: diff, apply, inspect, compare, on files or folders.

Refuses to show a traceback for anything a user can cause. Exit codes: 0 done, 1 failed with one line on stderr,
2 wrong usage; Ctrl-C is for ``__main__``. What only one command needs is imported by that command: apply must start
fast.
"""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import modelpatch
from modelpatch.errors import FolderError, PatchError
from modelpatch.format.header import DEFAULT_FEATURES, DecoderFeatures, PatchHeader, PatchKind, read_header

_MIB = 1 << 20
_NO_BASE = Path("-")
_FEATURES = {str(f.name).lower(): f for f in DecoderFeatures if f}
_FEATURE_WORDS = {"default": DEFAULT_FEATURES, "none": DecoderFeatures.NONE, **_FEATURES}
_EFFORT = "how hard to look for a small patch; best takes several times as long as fast (default: best)"
_FEATURES_HELP = (
    f"decoder features that the device has, of {', '.join(_FEATURES)}, or none; "
    "default stands for all that need Python's standard library alone, which is all but zstd (default: default)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files and tensors are anything
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except PatchError as e:
        return _fail(str(e))
    except BrokenPipeError:
        # The reader of our output has seen enough; what Python still holds must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as e:
        return _fail(f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror or e}")
    except ImportError as e:
        return _fail(f"making a patch needs numpy ({e})")
    except MemoryError:
        return _fail("not enough memory")
    return 0


def _fail(message: str) -> int:
    print("modelpatch: " + " ".join(message.splitlines()), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="modelpatch",
        description="Byte-exact patches of model files (TFLite, SavedModel, safetensors, any other) and folders.",
        epilog="Exit codes: 0 done, 1 failed, with one line on stderr, 2 wrong usage, 130 interrupted.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {modelpatch.__version__}")
    commands = top.add_subparsers(required=True, metavar="diff|apply|inspect|compare")
    _add_diff(commands)
    _add_apply(commands)
    _add_inspect(commands)
    _add_compare(commands)
    return top


def _add_diff(commands: Any) -> None:
    diff = commands.add_parser(
        "diff",
        help="write the patch that turns OLD into NEW",
        description="Write to PATCH what turns OLD into NEW: two files, or two folders. Every patch is applied and "
        "compared before it is written. It is hardly ever larger than the compressed NEW and a header. Needs numpy.",
    )
    _add_paths(diff, old="the base: file or folder", new="the target, of the same kind", patch="the file to write")
    diff.add_argument("--effort", choices=("fast", "best"), default="best", help=_EFFORT)
    diff.add_argument("--features", type=_features, default=DEFAULT_FEATURES, metavar="LIST", help=_FEATURES_HELP)
    diff.add_argument("--json", action="store_true", help="tell what was made as JSON")
    diff.set_defaults(run=_diff)


def _add_apply(commands: Any) -> None:
    apply = commands.add_parser(
        "apply",
        help="write NEW, which PATCH makes of OLD",
        description="Write to NEW what PATCH makes of OLD. OLD must be exactly the base of the patch, and NEW gets "
        "its name only when it is complete and exactly the target. A file NEW is replaced, a folder NEW must not "
        "exist.",
    )
    _add_paths(
        apply, old="the base: file or folder, - for a whole-file patch", patch="the patch", new="what to write"
    )
    apply.add_argument("--max-target-mib", type=_mib, metavar="N", help="refuse a larger target (default: no limit)")
    apply.add_argument(
        "--max-memory-mib", type=_mib, metavar="N", default=64, help="refuse a hungrier patch (default: 64)"
    )
    apply.add_argument("--json", action="store_true", help="tell what was made as JSON")
    apply.set_defaults(run=_apply)


def _add_inspect(commands: Any) -> None:
    inspect = commands.add_parser(
        "inspect",
        help="show what PATCH does, with --base per tensor",
        description="Show what PATCH does and what a decoder of it needs. With --base, show for each tensor that "
        "changes: the share of its elements that change, its bytes in the patch, transforms, coders. Where tensors "
        "share a stream, its bytes are split in proportion to what changes in each.",
    )
    inspect.add_argument("patch", metavar="PATCH", type=Path, help="a patch of a file or of a folder")
    inspect.add_argument("--base", metavar="OLD", type=Path, help="the file or folder that the patch is for")
    inspect.add_argument("--all", action="store_true", help="show every operation and the unchanged tensors too")
    inspect.add_argument("--json", action="store_true", help="tell everything as JSON")
    inspect.set_defaults(run=_inspect)


def _add_compare(commands: Any) -> None:
    compare = commands.add_parser(
        "compare",
        help="measure our patch and those of other tools",
        description="Make, apply and check patches of OLD and NEW by modelpatch and by every other tool that is "
        "installed: hdiffpatch, bsdiff4, detools, zstandard (Python packages), xdelta3, zstd (programs). Each is "
        "tried with all its settings, the smallest patch is shown. This takes minutes for files of 10 MB and more.",
    )
    _add_paths(compare, old="the base: file or folder", new="the target, of the same kind")
    compare.add_argument(
        "--effort", choices=("fast", "best"), default="best", help="fast leaves out slow settings (default: best)"
    )
    compare.add_argument("--features", type=_features, default=DEFAULT_FEATURES, metavar="LIST", help=_FEATURES_HELP)
    compare.add_argument("--settings", action="store_true", help="show every setting of every tool")
    compare.add_argument("--json", action="store_true", help="tell everything as JSON")
    compare.add_argument("--chart", type=Path, metavar="FILE", help="draw bars to FILE.png or FILE.svg (matplotlib)")
    compare.set_defaults(run=_compare)


def _add_paths(parser: argparse.ArgumentParser, **paths: str) -> None:
    for name, text in paths.items():
        parser.add_argument(name, metavar=name.upper(), type=Path, help=text)


def _features(text: str) -> DecoderFeatures:
    out = DecoderFeatures.NONE
    if not text.strip(" ,"):
        raise argparse.ArgumentTypeError("name at least one feature, or none")
    for word in filter(None, (part.strip().lower() for part in text.split(","))):
        if word not in _FEATURE_WORDS:
            raise argparse.ArgumentTypeError(f"no feature {word!r}; there are {', '.join(_FEATURE_WORDS)}")
        out |= _FEATURE_WORDS[word]
    return out


def _mib(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of MiB")
    return int(text)


def _diff(arguments: argparse.Namespace) -> None:
    old, new, patch = arguments.old, arguments.new, arguments.patch
    folders = _are_folders(old, new)
    run = modelpatch.diff_folder if folders else modelpatch.diff_file
    start = time.process_time()
    header = run(old, new, patch, effort=arguments.effort, features=arguments.features)
    size, cpu_s = patch.stat().st_size, time.process_time() - start
    if arguments.json:
        _print_json({"patch": str(patch), "patch_bytes": size, "cpu_s": round(cpu_s, 3)} | _plain(header))
        return
    share = f", {100 * size / header.target_length:.2f} % of the target" if header.target_length else ""
    print(f"{patch}: {_kind(header.kind)} patch, {size} bytes{share}")


def _are_folders(old: Path, new: Path) -> bool:
    for path in (old, new):
        path.stat()  # what is missing is named as missing, not as the wrong kind
    if old.is_dir() != new.is_dir():
        raise FolderError(f"{new}: one of OLD and NEW is a folder, the other is not")
    return old.is_dir()


def _kind(kind: PatchKind) -> str:
    return "whole-file" if kind is PatchKind.WHOLE else kind.name.lower()


def _plain(header: PatchHeader) -> dict[str, Any]:
    names = [name for name, feature in _FEATURES.items() if feature in header.features]
    return {
        "kind": header.kind.name.lower(),
        "features": names,
        "memory_bytes": header.memory_bytes,
        "base_bytes": header.base_length,
        "base_sha256": header.base_sha256,
        "target_bytes": header.target_length,
        "target_sha256": header.target_sha256,
    }


def _print_json(data: dict[str, Any]) -> None:
    print(json.dumps(data, indent=2))


def _apply(arguments: argparse.Namespace) -> None:
    with arguments.patch.open("rb") as stream:
        try:
            folder = read_header(stream).kind is PatchKind.FOLDER
        except PatchError as e:
            raise type(e)(f"{arguments.patch}: {e}") from e
    limits = {
        "max_target_bytes": None if arguments.max_target_mib is None else arguments.max_target_mib * _MIB,
        "max_memory_bytes": arguments.max_memory_mib * _MIB,
    }
    if folder:
        if arguments.old == _NO_BASE:
            raise FolderError(f"{arguments.patch}: a folder patch needs its base")
        applied = modelpatch.apply_folder(arguments.old, arguments.patch, arguments.new, **limits)
    else:
        old = None if arguments.old == _NO_BASE else arguments.old
        applied = modelpatch.apply_file(old, arguments.patch, arguments.new, **limits)
    if arguments.json:
        made = {"target_bytes": applied.target_length, "target_sha256": applied.target_sha256}
        _print_json({"target": str(arguments.new), "kind": applied.kind.name.lower(), **made})
        return
    print(f"{arguments.new}: {applied.target_length} bytes, sha256 {applied.target_sha256}")


def _inspect(arguments: argparse.Namespace) -> None:
    from modelpatch.inspect.inspection import inspect_patch
    from modelpatch.inspect.text import lines

    report = inspect_patch(arguments.patch, base=arguments.base)
    if arguments.json:
        _print_json(report.to_json())
    else:
        print("\n".join(lines(report, every_op=arguments.all)))


def _compare(arguments: argparse.Namespace) -> None:
    from modelpatch.peers.comparison import compare
    from modelpatch.peers.comparison_chart import check_chart, draw_chart
    from modelpatch.peers.comparison_text import ProgressLine, lines

    _are_folders(arguments.old, arguments.new)
    if arguments.chart is not None:
        check_chart(arguments.chart)
    with ProgressLine() as progress:
        found = compare(
            arguments.old, arguments.new, effort=arguments.effort, features=arguments.features, progress=progress
        )
    if arguments.json:
        _print_json(found.to_json())
    else:
        print("\n".join(lines(found, every_setting=arguments.settings)))
    if arguments.chart is not None:
        draw_chart(found, arguments.chart)
