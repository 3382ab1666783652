"""Owns the fuzzing of apply: many damaged patches, each of which must be refused cleanly or give its target.

`python -m tests.fuzz_patches --cases 1000000 --seed 1` prints what came out and ends with 1 at the first fault.
Faults: an exception that is not a PatchError, more than 2 s of CPU for one case, a success whose bytes are not what
the header declares, more memory than declared, a file under the final name or a temporary after a refusal. The
memory of the whole process is limited (RLIMIT_AS), and that of every 32nd case is measured (tracemalloc).
"""

import argparse
import hashlib
import io
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.progress import track

import modelpatch
from modelpatch import PatchError
from modelpatch.apply.stream import COPY_BYTES
from modelpatch.format import big_integers
from modelpatch.installed import engine, zstd
from tests.patch_damage import PAIRS, damaged, damaged_body, edited_header, refitted, related_pair
from tests.reference_decoder import Header, Invalid, Reader
from tests.reference_folders import tree_digest
from tests.vectors.make_patches import HERE, read_hand_made
from tests.vectors.patch_builder import (
    GRID,
    GRID_NEW,
    RESCALE,
    Lane,
    deflate,
    delta,
    fill,
    header,
    literal,
    lzma1,
    nibble,
    ops,
    patch,
    rescale,
    stored,
    varint,
)

MAX_TARGET = 1 << 16
MAX_MEMORY = 40 << 20
CASE_SECONDS = 2.0
# Above what the process has when it begins: two of the largest memories that a patch may declare, and change.
ADDRESS_SPACE = 2 * MAX_MEMORY + (64 << 20)
MEASURED, NAMED, FOLDERS = 32, 64, 128
# Python's own objects around the buffers: readers, decoders, an exception with its traceback.
OVERHEAD = 128 << 10
LARGEST = 3000
BOMB = 1 << 18


class Fault(Exception):
    """A promise of apply is broken."""


class Hang(BaseException):
    """A case takes too long. Not an Exception, so that nothing on the way can take it for one."""


@dataclass(frozen=True)
class Sample:
    """A patch to damage, and its base: bytes, or files by name."""

    patch: bytes
    base: bytes


@dataclass(frozen=True)
class FolderSample:
    """A folder patch to damage, and its base on disk."""

    patch: bytes
    base: Path


def samples() -> list[Sample]:
    """Return the valid vectors and small diffs of all kinds; the same in every run."""
    found = [Sample(v.patch, v.base) for n, v in read_hand_made()["valid"].items() if usable(n, v.patch)]
    for path in sorted((HERE / "valid").glob("*.patch")):
        found.append(Sample(path.read_bytes(), path.with_suffix(".base").read_bytes()))
    for kind in PAIRS:
        for seed in range(4):
            old, new = related_pair(kind, seed)
            found.append(Sample(modelpatch.diff_bytes(old, new, effort="fast"), old))
    return [sample for sample in found if len(sample.patch) <= LARGEST]


def bombs() -> list[Sample]:
    """Return small patches whose only frame decodes to `BOMB` bytes, far above the target that they declare."""
    zeros = bytes(BOMB)
    coded = [fill(0), lzma1(zeros), deflate(zeros), nibble(fill(0), stored(b"")), nibble(fill(255), deflate(zeros))]
    found = []
    for stream in coded:
        frame = ops(literal(BOMB), stream)
        made = patch(None, zeros, frame, memory_kib=memory_kib(BOMB))
        read = Header(Reader(made))
        target = (MAX_TARGET, read.target_digest)
        front = header(read.kind, read.features, memory_kib(BOMB), None, target, len(frame.data))
        found.append(Sample(front + frame.data, b""))
    return found


def full_frames() -> list[Sample]:
    """Return a patch for each transform and width whose one DELTA is as long as the target may be."""
    base = random.Random(1).randbytes(MAX_TARGET)
    found = []
    for transform in range(RESCALE + 1):
        for log2_width in range(4):
            lane = Lane(transform, log2_width, varint(0) if transform in (GRID, GRID_NEW) else b"")
            if transform == RESCALE:
                lane = rescale(log2_width, 0, 5, 8, [256, 300, 9])
            planes = (fill(3), *(fill(0),) * ((1 << log2_width) - 1))
            frame = ops(delta(MAX_TARGET), None, (lane,), planes)
            whole = refitted(patch(base, base, frame, memory_kib=memory_kib(MAX_TARGET)), base)
            found += [] if whole is None else [Sample(whole, base)]
    return found


def memory_kib(raw: int) -> int:
    """Return the least that a frame of `raw` bytes, a short table and the least dictionary needs."""
    return -(-(16 * (raw + 16) + (1 << 12) + (1 << 20)) // 1024)


def usable(name: str, patch: bytes) -> bool:
    return zstd.module() is not None or not name.startswith("zstd")


def folder_samples(scratch: Path) -> list[FolderSample]:
    """Return the valid vectors of folders, their bases written below `scratch`."""
    found = []
    for name, vector in read_hand_made()["valid_folders"].items():
        (scratch / "bases" / name).mkdir(parents=True)
        for file, data in vector.base.items():
            (scratch / "bases" / name / file).parent.mkdir(parents=True, exist_ok=True)
            (scratch / "bases" / name / file).write_bytes(data)
        found.append(FolderSample(vector.patch, scratch / "bases" / name))
    return found


class Fuzzer:
    """Runs cases; each follows from the seed and its number alone."""

    def __init__(self, seed: int, scratch: Path) -> None:
        self._seed, self.scratch = seed, scratch
        self._out, self._patch = scratch / "made" / "out", scratch / "patch"
        self._out.parent.mkdir()
        self._samples, self._large, self._folders = samples(), bombs() + full_frames(), folder_samples(scratch)
        self._find_arithmetic = engine.find_arithmetic
        self.counts: Counter[str] = Counter()
        self.largest = 0

    def case(self, number: int) -> None:
        """Run one case and count what came out. Raises Fault, Hang, or what apply should not have raised."""
        rng = random.Random(self._seed << 40 | number)
        # Half of the cases go through the code for devices without numpy.
        engine.find_arithmetic = self._find_arithmetic if number & 1 else lambda: big_integers
        signal.setitimer(signal.ITIMER_VIRTUAL, CASE_SECONDS)
        try:
            outcome = self._folder(rng) if number % FOLDERS == 0 else self._file(rng, number)
        except PatchError as e:
            outcome = type(e).__name__
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            engine.find_arithmetic = self._find_arithmetic
        self.counts[outcome] += 1

    def _file(self, rng: random.Random, number: int) -> str:
        # Large frames are slow, and only the limits see a difference.
        sample = rng.choice(self._large if rng.random() < 0.03 else self._samples)
        donor = rng.choice(self._samples)
        base = sample.base if rng.random() < 0.98 else donor.base
        patch, must_work = self._damage(sample, donor, rng)
        if number % NAMED == 1:
            return self._named(base, patch)
        out = io.BytesIO()
        try:
            self._measured(base, patch, out) if number % MEASURED == 2 else self._apply(base, patch, out)
        except PatchError as e:
            if must_work and base == sample.base:
                raise Fault(f"refused a patch that fits: {e}") from e
            raise
        check_success(patch, out.getvalue())
        return "success"

    def _damage(self, sample: Sample, donor: Sample, rng: random.Random) -> tuple[bytes, bool]:
        """Return a damaged patch, and whether the reference decoder can apply it."""
        way = rng.random()
        if way < 0.35:
            return damaged(sample.patch, rng, donor.patch), False
        if way < 0.45:
            return edited_header(sample.patch, rng), False
        patch = damaged_body(sample.patch, rng, donor.patch)
        small = len(sample.base) < MAX_TARGET
        fitting = refitted(patch, sample.base) if way < 0.55 and small else None
        return fitting or patch, fitting is not None

    def _apply(self, base: bytes, patch: bytes, out: io.BytesIO) -> None:
        limits = {"max_target_bytes": MAX_TARGET, "max_memory_bytes": MAX_MEMORY}
        modelpatch.apply_stream(io.BytesIO(base), io.BytesIO(patch), out, **limits)

    def _measured(self, base: bytes, patch: bytes, out: io.BytesIO) -> None:
        tracemalloc.start()
        try:
            self._apply(base, patch, out)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self.counts["measured"] += 1
            self.largest = max(self.largest, peak)
            # The target is kept in memory here, and grows by copies.
            allowed = declared_memory(patch) + 2 * COPY_BYTES + 2 * MAX_TARGET + len(patch) + OVERHEAD
            if peak > allowed:
                raise Fault(f"{peak} bytes of memory, {allowed} allowed")

    def _named(self, base: bytes, patch: bytes) -> str:
        """Apply from file to file: after a refusal there is no target, after a success nothing but it."""
        old = self._patch.with_name("base")
        old.write_bytes(base)
        self._patch.write_bytes(patch)
        outcome = "success"
        try:
            modelpatch.apply_file(
                old, self._patch, self._out, max_target_bytes=MAX_TARGET, max_memory_bytes=MAX_MEMORY
            )
            check_success(patch, self._out.read_bytes())
        except PatchError as e:
            outcome = type(e).__name__
        self._check_names(outcome)
        self._out.unlink(missing_ok=True)
        return outcome

    def _folder(self, rng: random.Random) -> str:
        sample, donor = rng.choice(self._folders), rng.choice(self._folders)
        damage = damaged if rng.random() < 0.3 else damaged_body
        patch = damage(sample.patch, rng, donor.patch)
        self._patch.write_bytes(patch)
        outcome = "success"
        try:
            modelpatch.apply_folder(
                sample.base, self._patch, self._out, max_target_bytes=MAX_TARGET, max_memory_bytes=MAX_MEMORY
            )
            files = {p.relative_to(self._out).as_posix().encode(): p.read_bytes() for p in files_below(self._out)}
            read = Header(Reader(patch))
            if (read.target_length, read.target_digest) != (sum(map(len, files.values())), tree_digest(files)):
                raise Fault("a folder that is not the declared one")
        except PatchError as e:
            outcome = type(e).__name__
        self._check_names(outcome)
        shutil.rmtree(self._out, ignore_errors=True)
        return f"folder {outcome}"

    def _check_names(self, outcome: str) -> None:
        names = [path.name for path in self._out.parent.iterdir()]
        if names != (["out"] if outcome == "success" else []):
            raise Fault(f"{outcome} leaves {names}")


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def check_success(patch: bytes, made: bytes) -> None:
    """Compare what was made with what the header declares, read by the other decoder."""
    read = Header(Reader(patch))
    if (read.target_length, read.target_digest) != (len(made), hashlib.sha256(made).digest()):
        raise Fault("a success with a wrong target")


def declared_memory(patch: bytes) -> int:
    try:
        return min(MAX_MEMORY, Header(Reader(patch)).memory)
    except Invalid:  # of a patch that is cut off the header may still say something
        return MAX_MEMORY


def limit_memory() -> None:
    """Let the process have `ADDRESS_SPACE` more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {CASE_SECONDS} s of CPU")


def main() -> int:
    parser = argparse.ArgumentParser(description="Apply damaged patches and check what comes out.")
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="run this case alone, as a fault names it", metavar="NUMBER")
    arguments = parser.parse_args()
    signal.signal(signal.SIGVTALRM, _hang)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as scratch:
        fuzzer = Fuzzer(arguments.seed, Path(scratch))
        limit_memory()
        numbers = range(arguments.cases) if arguments.only is None else [arguments.only]
        began = time.process_time()
        for number in track(numbers, "damaged patches", disable=not sys.stdout.isatty()):
            try:
                fuzzer.case(number)
            except BaseException as e:
                print(f"case {number} of seed {arguments.seed}: {e!r}", file=sys.stderr)
                raise
        seconds = time.process_time() - began
    measured = fuzzer.counts.pop("measured", 0)
    print(f"{fuzzer.counts.total()} cases, seed {arguments.seed}, {seconds:.1f} s of CPU")
    print(f"memory: {measured} measured, largest {fuzzer.largest} bytes")
    for outcome, count in fuzzer.counts.most_common():
        print(f"{count:>9}  {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
