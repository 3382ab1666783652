"""Owns data/slots/a, data/slots/b and data/state.json; the only module that renames into a slot or activates one.

Refuses a second agent on the same data folder, and to touch a slot that is in use. The order is always: state first
says that the idle slot counts for nothing, then its files are written, then they are read back and checked, then
state says that it is complete; a power cut between any two leaves a record that is true.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from agent.updates.disk import disk_errors, forget_cached
from agent.updates.lifecycle import Allowed, Cleared, Damaged, Event, Materialised, Outcome, Transition
from agent.updates.record import Held, Record, Slot, parse_record
from agent.updates.state_machine import advance, rebuild
from contract.errors import ConfigError, InputError, ReleaseError, StorageError
from contract.events import log_event
from contract.files import atomic_file, atomic_write, fsync_folder, read_capped, sha256_file
from contract.manifest import NAME, FileEntry, check_file, load_bundle
from contract.trust import VerifiedRelease

logger = logging.getLogger("agent.slots")
STATE_MOST_BYTES = 1 << 20
LOOK_S = 0.1
_QUIET = (Outcome.NOTHING, Outcome.CLEARED)
_BLAMING = (Outcome.REJECTED, Outcome.ROLLED_BACK, Outcome.FELL_BACK)


class Slots:
    """The two slots and their record. ``apply`` may be called from any thread; writing a slot is for one thread."""

    def __init__(self, data: Path, model: str, attempts: int = 3) -> None:
        """Read the record in ``data``, or rebuild it from the slots; the caller holds the lock (``open_slots``).

        Raises:
            ConfigError: the folder belongs to another model.
            StorageError: the disk refused.
        """
        self.data = data
        self._guard = threading.Lock()
        self._unsaved = False
        with disk_errors():
            for slot in Slot:
                self.folder(slot).mkdir(parents=True, exist_ok=True)
            fsync_folder(data / "slots")
            self._record = self._load(model, attempts)
        if self._record.model != model:
            raise ConfigError(
                f"{data} holds the model {self._record.model!r}, not {model!r}: use another data folder"
            )

    @property
    def record(self) -> Record:
        """The record as it stands now."""
        return self._record

    def folder(self, slot: Slot) -> Path:
        """Return the folder of ``slot``."""
        return self.data / "slots" / slot

    def apply(self, event: Event) -> Transition:
        """Write what ``event`` leads to; only then does it count.

        Raises:
            StorageError: the disk refused; the record is as it was.
            TransitionError: the event is not allowed now.
        """
        with self._guard:
            transition = advance(self._record, event)
            if transition.record != self._record or self._unsaved:
                self._save(transition.record)
            self._record = transition.record
        self._log(transition, event)
        return transition

    def settle(self, event: Event) -> Transition:
        """As ``apply``, but a disk that refuses does not stop the event: it counts now and is written later.

        For what must happen whatever the disk says, such as leaving a model that does not run.
        """
        with self._guard:
            transition = advance(self._record, event)
            self._record, changed = transition.record, transition.record != self._record
        self._log(transition, event)
        if changed:
            self._unsaved = True
            self.flush()
        return transition

    def flush(self) -> None:
        """Write a record that the disk refused before; quiet when it still refuses, or when there is none."""
        with self._guard:
            if self._unsaved:
                try:
                    self._save(self._record)
                except StorageError as error:
                    log_event(logger, "state.unsaved", logging.ERROR, error=error)

    def inventory(self) -> dict[str, Path]:
        """Return every file in the two slots by its digest, read now; the running slot's where both have it.

        Raises:
            StorageError: a file cannot be read.
        """
        found: dict[str, Path] = {}
        first = self._record.running or Slot.A
        with disk_errors():
            for slot in (first.other, first):
                files = [path for path in self.folder(slot).iterdir() if path.is_file() and path.name[0] != "."]
                found |= {sha256_file(path): path for path in files}
        return found

    def materialise(self, release: VerifiedRelease, sources: Mapping[str, Path]) -> Slot:
        """Write the bundle of ``release`` into the idle slot, each file from its source; ``seal`` makes it count.

        A source in the data folder's downloads is moved, any other is copied: slots share no blocks, so that one
        bad block cannot break both. A file that is in place already stays.

        Raises:
            ReleaseError: a trial is under way, both slots are in use.
            StorageError: the disk refused; nothing is lost, and the same call completes it later.
            InputError: a source is not the file that was signed.
        """
        slot = self._record.idle
        if slot is None:
            raise ReleaseError("a trial is under way: both slots are in use")
        self.apply(Cleared(slot))
        folder, files = self.folder(slot), release.target.files
        with disk_errors():
            (folder / NAME).unlink(missing_ok=True)
            fsync_folder(folder)
            for name, entry in files.items():
                self._place(folder / name, sources[name], entry)
            for path in folder.iterdir():
                if path.name not in files:
                    path.unlink()
            fsync_folder(folder)
            atomic_write(folder / NAME, release.manifest)
        log_event(logger, "slot.materialised", slot=slot, version=release.target.version, digest=release.digest)
        return slot

    def seal(self, slot: Slot, release: VerifiedRelease) -> Held:
        """Read the idle ``slot`` back from the disk, check every digest, and record that it is complete.

        Raises:
            StorageError: a file is not what was written.
        """
        try:
            held = verify_folder(self.folder(slot))
        except InputError as error:
            raise StorageError(f"the disk did not keep what was written: {error}") from error
        if held.digest != release.digest:
            raise StorageError(f"the disk did not keep what was written: {self.folder(slot) / NAME}")
        self.apply(Materialised(slot, held.version, held.digest))
        return held

    def check(self) -> list[str]:
        """Check both slots against the record and stop believing in a damaged one; return what was found."""
        problems = []
        for slot in Slot:
            problem = self.problem(slot)
            if problem:
                problems.append(problem)
                self.settle(Damaged(slot))
        return problems

    def problem(self, slot: Slot) -> str | None:
        """Say what is wrong with a slot that the record calls complete; None when nothing is."""
        held = self._record.held(slot)
        return slot_problem(self.data, slot, held) if held else None

    def _place(self, target: Path, source: Path, entry: FileEntry) -> None:
        if target.is_file() and target.stat().st_size == entry.size and sha256_file(target) == entry.sha256:
            return
        check_file(source, entry)
        if source.parent == self.data / "downloads":
            source.replace(target)
        else:
            with source.open("rb") as original, atomic_file(target) as copy:
                shutil.copyfileobj(original, copy, 1 << 20)

    def _load(self, model: str, attempts: int) -> Record:
        path = self.data / "state.json"
        try:
            return parse_record(read_capped(path, STATE_MOST_BYTES), str(path))
        except FileNotFoundError:
            reason = "missing"
        except InputError as error:
            reason = str(error)
        record = rebuild(model, self._found(Slot.A, model), self._found(Slot.B, model), attempts)
        if record.running or reason != "missing":
            log_event(
                logger, "state.rebuilt", logging.WARNING, reason=reason, active=record.active, a=record.a, b=record.b
            )
        self._save(record)
        return record

    def _found(self, slot: Slot, model: str) -> Held | None:
        try:
            folder = self.folder(slot)
            return verify_folder(folder) if load_bundle(folder, verify=False).model == model else None
        except InputError:
            return None  # nothing there, or not complete: the slot counts for nothing

    def _save(self, record: Record) -> None:
        with disk_errors():
            atomic_write(self.data / "state.json", record.to_bytes())
        self._unsaved = False

    def _log(self, transition: Transition, event: Event) -> None:
        if transition.outcome in _QUIET:
            return
        record = transition.record
        slot = event.slot if isinstance(event, Damaged | Materialised) else record.running
        held = record.held(slot) if slot else None
        level = logging.WARNING if transition.reason else logging.INFO
        if isinstance(event, Allowed):
            log_event(logger, transition.outcome, version=event.version)
            return
        fields: dict[str, object] = {"slot": slot, "version": held.version if held else None}
        if record.trial:
            fields["attempts_left"] = record.trial.attempts_left
        if transition.outcome in _BLAMING:
            fields["bad"] = record.bad[-1].version
        if transition.reason:
            fields["reason"] = transition.reason
        log_event(logger, transition.outcome, level, **fields)


def verify_folder(folder: Path) -> Held:
    """Read the bundle in ``folder`` from the medium and check every digest; return which release it is.

    Raises:
        InputError: it is no complete bundle; the text says what is wrong.
        StorageError: it cannot be read.
    """
    with disk_errors():
        for path in folder.iterdir():
            forget_cached(path)
        manifest = load_bundle(folder)
        return Held(manifest.version, hashlib.sha256((folder / NAME).read_bytes()).hexdigest())


def slot_problem(data: Path, slot: Slot, held: Held) -> str | None:
    """Say what is wrong with the slot that should hold ``held``; None when nothing is."""
    try:
        found = verify_folder(data / "slots" / slot)
    except (InputError, StorageError) as error:
        return f"slot {slot}: {error}"
    same = (found.version, found.digest) == (held.version, held.digest)
    return None if same else f"slot {slot}: holds release {found.version}, not {held.version} as recorded"


@contextlib.contextmanager
def open_slots(data: Path, model: str, attempts: int = 3) -> Iterator[Slots]:
    """Return the slots in ``data``, locked for this process as long as the block runs.

    Raises:
        InputError: another agent uses the folder.
        ConfigError, StorageError: as ``Slots``.
    """
    with disk_errors():
        data.mkdir(parents=True, exist_ok=True)
        lock = _open_lock(data / "lock")
    with lock:
        _lock(lock, data)
        yield Slots(data, model, attempts)


def _open_lock(path: Path) -> BinaryIO:
    """Open the lock file, for reading on a card that turned read-only: the committed release still runs from it."""
    try:
        return path.open("ab")
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        return path.open("rb")


def _lock(file: BinaryIO, data: Path) -> None:
    """Take the lock, which the kernel gives back however this process ends."""
    for pause_s in (LOOK_S, LOOK_S, None):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if pause_s is None:
                raise InputError(f"an agent already runs on {data}") from error
            time.sleep(pause_s)  # it may be `is_locked`, which lets go at once


def is_locked(data: Path) -> bool:
    """Return whether another process holds the slots in ``data``; False also where that cannot be seen."""
    try:
        with (data / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def read_record(data: Path) -> Record | None:
    """Read the record without the lock, for a look from outside; None when there is none yet.

    Raises:
        InputError: it is damaged.
        StorageError: it cannot be read.
    """
    path = data / "state.json"
    if not path.exists():
        return None
    with disk_errors():
        return parse_record(read_capped(path, STATE_MOST_BYTES), str(path))
