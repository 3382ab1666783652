"""Owns the key folder of a publish site: private keys as files, apart from everything that is served.

Refuses to put a key below a served folder and to overwrite one. Layout (docs/adr/0003-trust-and-keys.md):

    KEYS/offline/root.pem, targets.pem                      move these to a medium that lies in a drawer
    KEYS/online/snapshot.pem, timestamp.pem, model-NAME.pem   what publishing needs
    KEYS/root.json                                          public: what relays and devices are installed with
"""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from contract.errors import InputError, describe_os_error
from contract.files import atomic_folder, atomic_write, read_capped
from contract.release import check_model_name

OFFLINE = ("root", "targets")
ONLINE = ("snapshot", "timestamp")
PRIVATE = 0o600
KEY_MOST_BYTES = 10_000


class KeyFolder:
    """The keys of one site; a role's key is read when it signs, so that absent keys matter only then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def root_metadata(self) -> Path:
        """The trusted root metadata of the site: public, installed on devices and relays."""
        return self.path / "root.json"

    def signer(self, role: str) -> CryptoSigner:
        """Return the signer of ``role``: root, targets, snapshot, timestamp or a model's name.

        Raises:
            InputError: the key is not there, or is no Ed25519 key in PEM.
        """
        path = self._file(role)
        try:
            return CryptoSigner(load_pem_private_key(read_capped(path, KEY_MOST_BYTES), None))
        except OSError as error:
            raise InputError(f"no key to sign {role} with: {describe_os_error(error)}") from error
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: not a private key in PEM without a password") from error

    def create(self, models: Sequence[str]) -> None:
        """Make new keys for the four top-level roles and for every model.

        The folder appears whole or not at all; it and its folders have mode 0700, the keys 0600.

        Raises:
            InputError: the folder is there already, or a name cannot be a model's.
            OSError: the disk refused.
        """
        names = [check_model_name(model) for model in models]
        if self.path.exists():
            raise InputError(
                f"{self.path} is there already, and keys are never overwritten (of an interrupted run? remove it)"
            )
        with atomic_folder(self.path, 0o700) as building:
            self._fill(KeyFolder(building), names)

    @staticmethod
    def _fill(folder: "KeyFolder", models: Sequence[str]) -> None:
        for name in ("offline", "online"):
            (folder.path / name).mkdir(mode=0o700)
        for role in (*OFFLINE, *ONLINE, *models):
            atomic_write(folder._file(role), CryptoSigner.generate_ed25519().private_bytes, PRIVATE)

    def _file(self, role: str) -> Path:
        if role in OFFLINE:
            return self.path / "offline" / f"{role}.pem"
        return self.path / "online" / (f"{role}.pem" if role in ONLINE else f"model-{role}.pem")


def default_folder(site: Path) -> Path:
    """Return the key folder of ``site`` where none is named: its sibling ``<site>-keys``."""
    place = site.resolve()
    return place.with_name(f"{place.name}-keys")


def check_apart(keys: Path, site: Path) -> None:
    """Refuse a key folder that is served, or that holds the served folder; InputError names both."""
    inner, outer = keys.resolve(), site.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise InputError(f"the keys ({keys}) must not be in the served folder ({site}), nor the site among the keys")
