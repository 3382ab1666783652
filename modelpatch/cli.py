"""Owns the command line of modelpatch: diff, apply, inspect, on files or folders.

Refuses to show a traceback for anything a user can cause. Exit codes: 0 done, 1 failed with one line on stderr,
2 wrong usage.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import modelpatch
from modelpatch.errors import FolderError, PatchError
from modelpatch.header import PatchKind, read_header
from modelpatch.inspection import FrameReport, PatchReport

_MIB = 1 << 20


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except PatchError as e:
        return _fail(str(e))
    except OSError as e:
        return _fail(f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror or e}")
    except ImportError as e:
        return _fail(f"making a patch needs numpy ({e})")
    except MemoryError:
        return _fail("not enough memory")
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _fail(message: str) -> int:
    print("modelpatch: " + " ".join(message.splitlines()), file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelpatch", description="Byte-exact patches of model files and folders.")
    commands = parser.add_subparsers(required=True, metavar="diff|apply|inspect")
    diff = commands.add_parser("diff", help="write the patch that turns OLD into NEW")
    for name in ("OLD", "NEW", "PATCH"):
        diff.add_argument(name.lower(), metavar=name, type=Path)
    diff.add_argument("--effort", choices=("fast", "best"), default="best")
    diff.set_defaults(run=_diff)
    apply = commands.add_parser("apply", help="write NEW, which PATCH makes of OLD")
    for name in ("OLD", "PATCH", "NEW"):
        apply.add_argument(name.lower(), metavar=name, type=Path)
    apply.add_argument("--max-target-mib", type=int, help="refuse a larger target", metavar="N")
    apply.add_argument("--max-memory-mib", type=int, help="refuse a hungrier patch", metavar="N", default=64)
    apply.set_defaults(run=_apply)
    inspect = commands.add_parser("inspect", help="show what PATCH does")
    inspect.add_argument("patch", metavar="PATCH", type=Path)
    inspect.add_argument("--base", metavar="OLD", type=Path, help="name operations after the tensors of this file")
    inspect.add_argument("--json", action="store_true")
    inspect.set_defaults(run=_inspect)
    return parser


def _diff(arguments: argparse.Namespace) -> None:
    old, new = arguments.old, arguments.new
    if old.is_dir() != new.is_dir():
        raise FolderError(f"{new}: one of OLD and NEW is a folder, the other is not")
    run = modelpatch.diff_folder if old.is_dir() else modelpatch.diff_file
    header = run(old, new, arguments.patch, effort=arguments.effort)
    size = arguments.patch.stat().st_size
    share = f", {100 * size / header.target_length:.2f} % of the target" if header.target_length else ""
    print(f"{arguments.patch}: {header.kind.name.lower()} patch, {size} bytes{share}")


def _apply(arguments: argparse.Namespace) -> None:
    with arguments.patch.open("rb") as stream:
        try:
            folder = read_header(stream).kind is PatchKind.FOLDER
        except PatchError as e:
            raise type(e)(f"{arguments.patch}: {e}") from e
    run = modelpatch.apply_folder if folder else modelpatch.apply_file
    limit = arguments.max_target_mib
    applied = run(
        arguments.old,
        arguments.patch,
        arguments.new,
        max_target_bytes=None if limit is None else limit * _MIB,
        max_memory_bytes=arguments.max_memory_mib * _MIB,
    )
    print(f"{arguments.new}: {applied.target_length} bytes, sha256 {applied.target_sha256}")


def _inspect(arguments: argparse.Namespace) -> None:
    report = modelpatch.inspect_patch(arguments.patch, base=arguments.base)
    if arguments.json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        print("\n".join(_lines(report)))


def _lines(report: PatchReport) -> list[str]:
    header = report.header
    out = [
        f"{header.kind.name.lower()} patch, format {header.version}, {report.patch_bytes} bytes",
        f"base    {header.base_length:>12} bytes  {header.base_sha256}",
        f"target  {header.target_length:>12} bytes  {header.target_sha256}",
        f"decoder {header.memory_bytes:>12} bytes of memory, features {header.features.name or 'none'}",
    ]
    for number, frame in enumerate(report.frames):
        out += _frame_lines(number, frame)
    for file in report.files:
        source = "" if file.base_index is None else f" base file {file.base_index}"
        out.append(f"{file.action}{source} {file.name or ''}".rstrip())
        if file.report is not None:
            out += ["  " + line for line in _lines(file.report)]
    return out


def _frame_lines(number: int, frame: FrameReport) -> list[str]:
    out = [f"frame {number}: {frame.type}, {frame.coded_bytes} bytes, coders {' '.join(frame.coders)}"]
    for op in frame.ops:
        how = f"{op.transform}/{op.width}" if op.transform else ""
        share = f"{100 * op.changed_share:.1f} % changed" if op.changed_share is not None else ""
        tensor = f"{op.tensor} {op.dtype} {list(op.shape or ())}" if op.tensor else ""
        base = "" if op.base_offset is None else str(op.base_offset)
        line = f"  {op.op:8}{op.target_offset:>10}{op.length:>10}{base:>10}  {how:16}{share:16}{tensor}"
        out.append(line.rstrip())
    return out
