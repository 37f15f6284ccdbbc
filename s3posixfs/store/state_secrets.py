"""Keeping secrets: the master key's file, encryption, and random texts."""

from __future__ import annotations

import os
import string
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from s3posixfs.core.errors import OperatorError

RandomBytes = Callable[[int], bytes]

MASTER_KEY_BYTES = 32
_NONCE_BYTES = 12
_LETTERS_AND_DIGITS = string.ascii_letters + string.digits
_BASE32 = string.ascii_uppercase + "234567"


class Sealer:
    """AES-256-GCM under the master key, bound to the name of what is sealed.

    A sealed secret that is moved to another access key's row does not open.
    """

    __slots__ = ("_cipher", "_random")

    def __init__(self, master_key: bytes, random: RandomBytes) -> None:
        self._cipher = AESGCM(master_key)
        self._random = random

    def seal(self, secret: str, name: str) -> bytes:
        nonce = self._random(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), name.encode())

    def open(self, sealed: bytes, name: str) -> str:
        """Raises OperatorError where the master key is another one, or the row was changed."""
        try:
            opened = self._cipher.decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode()
            )
        except (InvalidTag, ValueError):
            raise OperatorError(
                "the master key does not fit the state: restore master.key and state.db"
                " from one backup"
            ) from None
        return opened.decode()


def random_text(length: int, random: RandomBytes, alphabet: str = _LETTERS_AND_DIGITS) -> str:
    """``length`` characters, each of ``alphabet`` with the same probability."""
    bound = 256 - 256 % len(alphabet)
    text: list[str] = []
    while len(text) < length:
        text += [alphabet[byte % len(alphabet)] for byte in random(length) if byte < bound]
    return "".join(text[:length])


def new_secret_key(random: RandomBytes) -> str:
    """40 letters and digits, as long as AWS's; none that a shell or a URL would change."""
    return random_text(40, random)


def new_access_key(prefix: str, random: RandomBytes) -> str:
    """``prefix`` (AKIA, ASIA) and 16 characters, as AWS's look."""
    return prefix + random_text(16, random, _BASE32)


def new_session_token(random: RandomBytes) -> str:
    """An opaque token of 256 bits and more."""
    return random_text(64, random)


def write_private_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` in one step, durably, readable by its owner alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable (fsync(2): a file's own fsync does not)."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_master_key(path: Path) -> bytes:
    """Raises OperatorError where the file is missing or is no key."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        raise OperatorError(
            f"{path} is missing, and without it no secret can be read: restore it from a backup"
        ) from None
    if len(key) != MASTER_KEY_BYTES:
        raise OperatorError(f"{path} is no master key: restore it from a backup")
    return key
