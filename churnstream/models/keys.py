"""Who may sign models: Ed25519 keys, where they lie, and which of them are trusted.

On a laptop there is nothing to do: the first training writes a pair of keys into ``<home>/keys``, ``model-signing.key``
readable by its owner only, and ``model-signing.pub``. What this home signed, this home trusts. To trust what somebody else
signed, put their ``.pub`` file into ``<home>/keys/trusted``. On a cluster there is no such folder: a secret
``CHURNSTREAM_SIGNING_KEY`` holds the private key for training, and ``CHURNSTREAM_TRUSTED_KEYS`` the public ones for serving,
separated by commas. A key is written as 64 hexadecimal digits everywhere. The models that come with the project are signed by
``PROJECT_KEY``.
"""

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from churnstream.errors import InvalidSetting, MissingSetting

# The public half of the key that signed assets/model. Its private half was thrown away: a new model comes with a new key.
PROJECT_KEY = "80403fea88d56c165ae58286c810b7ef8dfd9823dc9c464f9c21fed13c588cf5"

FOLDER, PRIVATE, PUBLIC, TRUSTED = "keys", "model-signing.key", "model-signing.pub", "trusted"
KEY_DIGITS, ID_DIGITS = 64, 16


@dataclass(frozen=True, slots=True)
class Keys:
    """``signing`` is a private key, None where nothing is signed; ``trusted`` are public ones. All in hexadecimal."""

    trusted: tuple[str, ...]
    signing: str | None = None

    def __repr__(self) -> str:
        return f"Keys(trusted={self.trusted})"  # a secret stays out of logs

    @property
    def private(self) -> str:
        """The private key; raises MissingSetting where there is none."""
        if self.signing is None:
            raise MissingSetting("CHURNSTREAM_SIGNING_KEY", needed_by="the signature of a model")
        return self.signing


def read_keys(home: Path | None, signing: str = "", trusted: str = "") -> Keys:
    """The keys of a home (None on a cluster), and those that the settings name; nothing is written.

    Raises InvalidSetting for a key that is none, and for a private key that others than its owner can read.
    """
    public = [PROJECT_KEY]
    private = _checked(signing, "CHURNSTREAM_SIGNING_KEY") if signing else None
    folder = home / FOLDER if home is not None else None
    if folder is not None:
        if private is None and (folder / PRIVATE).exists():
            private = _read_private(folder / PRIVATE)
        public += [_checked(path.read_text(), str(path)) for path in sorted((folder / TRUSTED).glob("*.pub"))]
    if private is not None:
        public.append(public_key(private))
    public += [_checked(each, "CHURNSTREAM_TRUSTED_KEYS") for each in trusted.split(",") if each.strip()]
    return Keys(tuple(dict.fromkeys(public)), private)


def signing_keys(home: Path | None, signing: str = "", trusted: str = "") -> Keys:
    """As ``read_keys``, with a private key: the home's pair is made when neither it nor the settings have one.

    Raises InvalidSetting on a cluster that has no CHURNSTREAM_SIGNING_KEY.
    """
    keys = read_keys(home, signing, trusted)
    if keys.signing is not None:
        return keys
    if home is None:
        raise InvalidSetting(
            "a model is signed when it is trained, and no key is set: put 64 hexadecimal digits into the secret"
            " CHURNSTREAM_SIGNING_KEY, and its public key into CHURNSTREAM_TRUSTED_KEYS of serving"
        )
    _make_pair(home / FOLDER)
    return read_keys(home, signing, trusted)


def public_key(private: str) -> str:
    """The public key of a private one."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw().hex()


def new_private_key() -> str:
    """A private key from the machine's randomness."""
    return Ed25519PrivateKey.generate().private_bytes_raw().hex()


def key_id(public: str) -> str:
    """The first digits of a public key, by which people and signatures name it."""
    return public[:ID_DIGITS]


def sign(message: bytes, private: str) -> str:
    """The signature of ``message``: 128 hexadecimal digits (Ed25519, RFC 8032)."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)).sign(message).hex()


def signer(message: bytes, signature: str, trusted: Iterable[str]) -> str | None:
    """Which of the ``trusted`` public keys signed ``message``; None when none of them did."""
    try:
        raw = bytes.fromhex(signature)
    except ValueError:
        return None
    if raw.hex() != signature:  # blanks and capitals would give the same bytes; one signature has one spelling
        return None
    for public in trusted:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(raw, message)
        except (InvalidSignature, ValueError):
            continue
        return public
    return None


def _checked(text: str, where: str) -> str:
    key = text.strip().lower()
    if len(key) != KEY_DIGITS or set(key) - set("0123456789abcdef"):
        raise InvalidSetting(f"{where} holds no key: a key is {KEY_DIGITS} hexadecimal digits")
    return key


def _read_private(path: Path) -> str:
    if path.stat().st_mode & 0o077:
        raise InvalidSetting(f"others than its owner may read {path}, so what it signs proves nothing: chmod 600 {path}")
    return _checked(path.read_text(), str(path))


def _make_pair(folder: Path) -> None:
    """Write a pair; whoever was first with the private key wins, and the public one follows from it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = folder / f".{PRIVATE}.{secrets.token_hex(4)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(new_private_key() + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):  # another training made one meanwhile, and that one counts
            os.link(draft, folder / PRIVATE)
    finally:
        draft.unlink()
    (folder / PUBLIC).write_text(public_key(_read_private(folder / PRIVATE)) + "\n")
