"""Owns withdrawing a release: it stays listed, and no device takes it any more. Refuses to bring any device back.

The channel goes on naming the release, for a channel never goes to a lower version; what comes next has a higher one.
"""

from pathlib import Path

from cloud_tools.publishing.keys import KeyFolder
from cloud_tools.publishing.repository import Clock, Repository, utc_now
from cloud_tools.publishing.site_folder import SiteFolder, storage_errors


def withdraw(site: Path, keys: Path, model: str, version: int, clock: Clock = utc_now) -> bool:
    """Sign ``version`` of ``model`` as withdrawn; say whether it was not yet. Running it again ends the work.

    Raises:
        InputError: the site lists no such model or release, or a key is missing.
        TrustError: the site's metadata is not what its keys signed.
        StorageError: the disk refused; the site is whole.
        PeerError: another publisher would not end.
    """
    folder = SiteFolder(site)
    with storage_errors(f"withdrawing from {site}"), folder.locked():
        folder.remove_leftovers()
        repository = Repository(folder, KeyFolder(keys), clock)
        role = repository.role(model)
        changed = role.withdraw(version)
        if changed:
            repository.commit(role)
        return changed
