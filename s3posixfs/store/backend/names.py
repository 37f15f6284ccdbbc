"""Keys as paths, and back: pure.

A segment of a key (what stands between slashes) is a file name as it is wherever a file name
can be that. Otherwise the name is ``.~s3~``, a letter and the segment with ``%`` and NUL
percent-encoded:

    d   a directory whose segment is no file name: empty, ``.``, ``..``, too long, holding NUL
        or beginning with the mark itself
    o   an object of such a segment; or of any segment, where a directory has its plain name
        (``a`` beside ``a/b``)
    l   a directory that holds the rest of a segment too long for one name

The names alone say what the keys are: nothing else has to be kept, and a bucket's folder can be
copied to another store as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import MAX_KEY_BYTES

MARK = b".~s3~"
MAX_NAME_BYTES = 255
_PIECE_BYTES = MAX_NAME_BYTES - len(MARK) - 1

_DIRECTORY = b"d"
_OBJECT = b"o"
_LONG = b"l"

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Step:
    """One directory on the way to an object.

    ``prefix`` is the key prefix the directory stands for (``b"a/b/"``), ``None`` for one that
    holds only part of a long segment.
    """

    name: bytes
    prefix: bytes | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object's file may be: directories below the bucket, then a file name."""

    steps: tuple[Step, ...]
    name: bytes


@dataclass(frozen=True, slots=True)
class KeyPath:
    """Everything the file tree needs to know of a key.

    ``plain`` is the object's own place, ``beside`` the one it has while a directory is in its
    way (the same where the name is escaped anyhow). ``folder`` holds the steps to the directory
    that is the object itself when ``key`` ends in a slash and the object is empty, else None.
    """

    key: str
    raw: bytes
    plain: Place
    beside: Place
    folder: tuple[Step, ...] | None


def is_plain(segment: bytes) -> bool:
    """Whether a segment of a key is a file name as it is."""
    return (
        0 < len(segment) <= MAX_NAME_BYTES
        and segment not in (b".", b"..")
        and not segment.startswith(MARK)
        and b"\0" not in segment
    )


def _pieces(segment: bytes, kind: bytes) -> tuple[bytes, ...]:
    """The escaped names of a segment: one, or several, each inside the one before."""
    text = segment.replace(b"%", b"%25").replace(b"\0", b"%00")
    names = []
    while len(text) > _PIECE_BYTES:
        cut = _PIECE_BYTES
        while text[cut] & 0xC0 == 0x80:  # not inside a character: names stay UTF-8
            cut -= 1
        names.append(MARK + _LONG + text[:cut])
        text = text[cut:]
    names.append(MARK + kind + text)
    return tuple(names)


def _unescape(text: bytes) -> bytes:
    return text.replace(b"%00", b"\0").replace(b"%25", b"%")


def directory_names(segment: bytes) -> tuple[bytes, ...]:
    """The file names, outermost first, of the directory for a segment."""
    return (segment,) if is_plain(segment) else _pieces(segment, _DIRECTORY)


def beside_names(segment: bytes) -> tuple[bytes, ...]:
    """The file names, outermost first, of an object where its plain name can't be used."""
    return _pieces(segment, _OBJECT)


def directory_steps(segments: list[bytes]) -> tuple[Step, ...]:
    """The directories, outermost first, that stand for a chain of segments."""
    steps: list[Step] = []
    prefix = b""
    for segment in segments:
        prefix += segment + b"/"
        *rest, last = directory_names(segment)
        steps.extend(Step(name, None) for name in rest)
        steps.append(Step(last, prefix))
    return tuple(steps)


def utf8(text: str) -> bytes:
    """Text of a request as UTF-8; S3Error InvalidURI (400) for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise S3Error("InvalidURI", "the key is not valid UTF-8", status=400) from None


def encode_key(key: str) -> bytes:
    """A key as UTF-8; S3Error where S3 has no such key."""
    if not key:
        raise S3Error("InvalidArgument", "a key has at least one byte", status=400)
    raw = utf8(key)
    if len(raw) > MAX_KEY_BYTES:
        raise S3Error("KeyTooLongError", "Your key is too long", status=400, resource=key)
    return raw


def key_path(key: str) -> KeyPath:
    """Where a key lives; S3Error KeyTooLongError (400) or InvalidURI for what is no key."""
    raw = encode_key(key)
    *parents, last = raw.split(b"/")
    steps = directory_steps(parents)
    *outer, name = beside_names(last)
    beside = Place(steps + tuple(Step(piece, None) for piece in outer), name)
    plain = Place(steps, last) if is_plain(last) else beside
    return KeyPath(key, raw, plain, beside, None if last else steps)


@dataclass(frozen=True, slots=True)
class EscapedName:
    """A file name that begins with the mark: a letter and a part of a segment, still escaped."""

    kind: bytes
    text: bytes

    @property
    def is_long(self) -> bool:
        return self.kind == _LONG

    @property
    def is_object(self) -> bool:
        return self.kind == _OBJECT


def parse_escaped(name: bytes) -> EscapedName:
    """Take apart a name that begins with :data:`MARK`."""
    return EscapedName(name[len(MARK) : len(MARK) + 1], name[len(MARK) + 1 :])


def segment_of(
    chain: tuple[bytes, ...], text: bytes, kind: bytes, *, directory: bool
) -> bytes | None:
    """The segment that a chain of escaped names means, or None where no key is written so.

    ``chain`` are the file names from the directory that holds the segment, ``text`` the joined
    escaped text of them all, ``kind`` the letter of the last.
    """
    segment = _unescape(text)
    try:
        segment.decode()
    except UnicodeDecodeError:
        return None
    if b"/" in segment:
        return None
    wanted = _DIRECTORY if directory else _OBJECT
    if kind != wanted:
        return None
    names = directory_names(segment) if directory else beside_names(segment)
    return segment if names == chain else None


def is_bucket_name(name: str) -> bool:
    """Whether S3 allows this name: 3 to 63 of a-z, 0-9, dot and dash; no address.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    return (
        _BUCKET.fullmatch(name) is not None
        and ".." not in name
        and _ADDRESS.fullmatch(name) is None
        and not name.startswith("xn--")
        and not name.endswith("-s3alias")
    )
