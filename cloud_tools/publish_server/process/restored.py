"""Owns noticing that a server's folder is a copy: restored from a backup, or moved. Refuses to guess how old it is.

A file's number and the time of its last change of any kind are given by the disk and cannot be copied with it. The
trusted root beside the keys is never written again, so that both stay as they are while the folder is the same one.
A change of mode or owner looks like a copy too; signing once more than needed does no harm.
"""

from pathlib import Path

from cloud_tools.publish_server.config import ServerConfig
from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.repository import Repository
from cloud_tools.publishing.site_folder import SiteFolder, storage_errors
from contract.files import atomic_write

NAME = "identity"
MOST_CHARACTERS = 100


def sign_if_restored(config: ServerConfig) -> bool:
    """Sign all that is online again if this folder is not the one that it was; return whether it was another.

    Raises:
        InputError, TrustError: as ``Repository``.
        StorageError: the disk refused.
    """
    keys, noted = KeyFolder(config.keys), config.data / NAME
    with storage_errors("signing again"):
        identity = _identity(keys.root_metadata)
        before = noted.read_text()[:MOST_CHARACTERS] if noted.exists() else ""
        if before == identity:
            return False
        if before:
            site = SiteFolder(config.site)
            with site.locked():
                site.remove_leftovers()
                Repository(site, keys).refresh(everything=True)
        atomic_write(noted, identity.encode())
        return bool(before)


def _identity(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_ctime_ns}"
