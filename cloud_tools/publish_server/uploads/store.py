"""Owns the bytes of files that are received: where they lie, how they are resumed, when they count. Refuses archives.

How much is there is the length of the part on the disk, so that nothing else needs to be right after a cut or a kill.
A part that is whole and has its digest gets the digest as its name; nothing else has such a name.
"""

import contextlib
import datetime as dt
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from django.contrib.auth.models import User
from django.db.models import Sum
from django.utils import timezone

from cloud_tools.publish_server.config import ServerConfig
from cloud_tools.publish_server.models import Upload
from cloud_tools.publishing.site_folder import SiteFolder, storage_errors
from contract.errors import InputError, PeerError, StorageError
from contract.files import atomic_rename, fsync_folder, sha256_file
from contract.manifest import FileEntry

CHUNK_BYTES = 1 << 18
MOST_FILES = 64  # that a person may have under way
MOST_SHARE = 4  # of the largest file, that a person may have under way together
KEPT = dt.timedelta(days=1)
ROOM_BYTES = 64 << 20  # what stays free on the disk: databases and metadata are written there too


class OffsetError(InputError):
    """The bytes do not begin where those that are there end; ``offset`` says where that is."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the file goes on at byte {offset}")
        self.offset = offset


class BusyError(PeerError):
    """Somebody sends this file already."""


class Readable(Protocol):
    """The body of a request."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes; none at the end."""


class UploadStore:
    """The files of the folder ``uploads``, and of the site where it has them already."""

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self.folder = config.uploads
        self.site = SiteFolder(config.site)

    def begin(self, user: User, entry: FileEntry) -> Upload:
        """Return the upload of a file, begun now or before; it is complete where the site has the file.

        Raises:
            InputError: the file is too large, or too much is under way.
            StorageError: there is no room.
        """
        if not 0 < entry.size <= self._config.upload_bytes:
            raise InputError(f"a file of {entry.size} bytes: 1 to {self._config.upload_bytes} are taken")
        upload = Upload.objects.filter(user=user, sha256=entry.sha256).first()
        if upload is None:
            self._check_room(user, entry)
            upload, _ = Upload.objects.get_or_create(user=user, sha256=entry.sha256, defaults={"size": entry.size})
        if upload.size != entry.size and not upload.complete:
            upload.size = (
                entry.size
            )  # the digest is what counts: who named a wrong length before may say the right one
        upload.complete = self.find(entry) is not None
        upload.changed_at = timezone.now()
        upload.save()
        return upload

    def _check_room(self, user: User, entry: FileEntry) -> None:
        own = Upload.objects.filter(user=user)
        under_way = own.aggregate(total=Sum("size"))["total"] or 0
        if own.count() >= MOST_FILES or under_way + entry.size > MOST_SHARE * self._config.upload_bytes:
            raise InputError("too many files are under way: finish these first, or wait a day")
        with storage_errors("receiving a file"):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
        if free < 2 * entry.size + ROOM_BYTES:  # the site gets a copy
            raise StorageError(f"receiving a file: no room for {entry.size} bytes on the server's disk")

    def find(self, entry: FileEntry) -> Path | None:
        """Return where a file lies that is here whole, on the site or received; None when it does not."""
        if self.site.has_content(entry):
            return self.site.content(entry.sha256)
        received = self.folder / entry.sha256
        return received if received.is_file() and received.stat().st_size == entry.size else None

    def offset(self, upload: Upload) -> int:
        """Return how many bytes of a file are here."""
        if upload.complete:
            return upload.size
        part = self._part(upload)
        return part.stat().st_size if part.is_file() else 0

    def receive(self, upload: Upload, offset: int, length: int, body: Readable) -> int:
        """Add ``length`` bytes from ``offset`` on; return how many are there. A body that ends early is kept.

        Raises:
            OffsetError: these are not the next bytes.
            BusyError: another request adds to this file now.
            InputError: it would be longer than it was said to be, or what came is not the file.
            StorageError: the disk refused.
        """
        if upload.complete:
            raise OffsetError(upload.size)
        with storage_errors("receiving a file"):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            with self._opened(upload) as part:
                there = part.seek(0, 2)
                if offset != there:
                    raise OffsetError(there)
                if offset + length > upload.size:
                    raise InputError(f"more than the {upload.size} bytes that the file was said to have")
                there += _copy(body, part, length)
                if there == upload.size:
                    self._finish(upload)
        Upload.objects.filter(pk=upload.pk).update(changed_at=timezone.now(), complete=upload.complete)
        return there

    def _finish(self, upload: Upload) -> None:
        part = self._part(upload)
        if sha256_file(part) != upload.sha256:
            part.unlink()
            raise InputError("what was received is not the file: its SHA-256 is another one; it is sent anew")
        atomic_rename(part, self.folder / upload.sha256)
        upload.complete = True

    @contextlib.contextmanager
    def _opened(self, upload: Upload) -> Iterator[BinaryIO]:
        with self._part(upload).open("ab") as part:
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError("another request sends this file now") from error
            yield part

    def _part(self, upload: Upload) -> Path:
        return self.folder / f"{upload.pk.hex}.part"

    def forget(self, uploads: "list[Upload]") -> None:
        """Remove rows and their bytes."""
        for upload in uploads:
            self._part(upload).unlink(missing_ok=True)
            (self.folder / upload.sha256).unlink(missing_ok=True)
            upload.delete()

    def remove_old(self, now: dt.datetime) -> int:
        """Remove what was not touched for a day; return how many files that were."""
        old = list(Upload.objects.filter(changed_at__lt=now - KEPT))
        self.forget(old)
        return len(old)


def _copy(body: Readable, part: BinaryIO, length: int) -> int:
    """Copy up to ``length`` bytes, durably; a sender who vanishes ends it."""
    done = 0
    while done < length:
        try:
            chunk = body.read(min(CHUNK_BYTES, length - done))
        except OSError:
            break  # of the connection: what came before is good
        if not chunk:
            break
        part.write(chunk)
        done += len(chunk)
    part.flush()
    os.fsync(part.fileno())
    fsync_folder(Path(part.name).parent)
    return done
