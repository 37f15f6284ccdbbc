"""Percent-encoding as Signature Version 4 wants it, and the text of bytes on the wire.

Text that came from the wire is UTF-8 with ``surrogateescape``: what was not UTF-8 survives,
so that the bytes a client signed can be had back.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

# Text that is in AWS's spelling already: bare characters, and upper-case %XX of the others.
_BARE = r"[A-Za-z0-9\-._~]"
_ESCAPE = r"%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[BCDF]|[89A-F][0-9A-F])"
_TEXT = rf"(?:{_BARE}++|{_ESCAPE})"
_ENCODED_PATH = re.compile(rf"(?:{_TEXT}|/)*+")
_ENCODED_PIECE = rf"{_TEXT}++(?:={_TEXT}*+)?"
_ENCODED_QUERY = re.compile(rf"(?:{_ENCODED_PIECE}(?:&{_ENCODED_PIECE})*+)?")
_ENCODED_SLASH = re.compile(rb"%2[Ff]")


def wire_bytes(text: str | bytes) -> bytes:
    """The bytes that ``text`` stands for on the wire."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def wire_text(data: bytes) -> str:
    """The text for bytes from the wire; :func:`wire_bytes` gives them back."""
    return data.decode("utf-8", "surrogateescape")


def uri_encode(text: str | bytes, *, slash: bool) -> str:
    """AWS's ``UriEncode``: all but ``A-Z a-z 0-9 - . _ ~`` becomes ``%XX`` of its UTF-8.

    ``slash`` is AWS's ``encodeSlash``: true encodes ``/`` too (query names and values),
    false leaves it (an object key in a path).
    """
    return quote(wire_bytes(text), safe="" if slash else "/")


def recode_path(raw_path: str | bytes) -> str:
    """A path as sent, in AWS's own spelling: decoded once, encoded once, not normalised.

    Clients differ in which characters they leave bare on the wire (``$``, ``:``, ``(``) but
    sign this spelling. ``%2F`` is not a separator and stays ``%2F``.
    """
    text = raw_path if isinstance(raw_path, str) else wire_text(raw_path)
    if _ENCODED_PATH.fullmatch(text):
        return text
    pieces = _ENCODED_SLASH.split(wire_bytes(raw_path))
    return "%2F".join(quote(unquote_to_bytes(piece), safe="/") for piece in pieces)


def recode_query(raw_query: str) -> list[tuple[str, str]]:
    """The names and values of a query, each in AWS's spelling; order and repetitions are kept."""
    if _ENCODED_QUERY.fullmatch(raw_query):
        pairs = []
        for piece in raw_query.split("&") if raw_query else ():
            name, _, value = piece.partition("=")
            pairs.append((name, value))
        return pairs
    return [
        (uri_encode(name, slash=True), uri_encode(value, slash=True))
        for name, value in decode_query(raw_query)
    ]


def decode_query(raw_query: str | bytes) -> list[tuple[str, str]]:
    """The names and values of a query as S3 reads them: ``+`` is a space, ``acl`` is ``acl=``.

    Empty pieces (``&&``) count for nothing. Order and repetitions are kept.
    """
    pairs = []
    for piece in wire_bytes(raw_query).split(b"&"):
        if piece:
            name, _, value = piece.replace(b"+", b" ").partition(b"=")
            pairs.append((wire_text(unquote_to_bytes(name)), wire_text(unquote_to_bytes(value))))
    return pairs
