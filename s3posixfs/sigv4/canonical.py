"""The canonical request: the one text of a request that client and store both hash.

Source: *Create a canonical request* in the Amazon S3 API Reference and the AWS General
Reference (services other than S3 normalise the path and encode it twice).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from s3posixfs.sigv4.encoding import recode_path, recode_query, uri_encode, wire_bytes, wire_text

SIGNATURE_PARAMETER = "X-Amz-Signature"
_BLANKS = re.compile(r"[ \t\r\n\v\f]+")


def canonical_request(
    method: str,
    raw_path: bytes | str,
    raw_query: str,
    headers: Sequence[tuple[str, str]],
    signed_headers: Sequence[str],
    payload_hash: str,
    *,
    s3: bool = True,
    verbatim: bool = False,
) -> str:
    """The canonical request of a request as it is on the wire.

    ``raw_path`` and ``raw_query`` are the two sides of the ``?`` in the request target,
    still encoded. ``headers`` come in order, repeated ones are joined by a comma; those not
    in ``signed_headers`` do not count. A presigned request's ``X-Amz-Signature`` is left out.
    ``verbatim`` takes path and query in the client's own spelling instead of AWS's, as
    botocore signs them; both spellings decode to the same request.
    """
    if not s3:
        path = normalised_path(raw_path)
    elif verbatim:
        path = wire_text(wire_bytes(raw_path)) or "/"
    else:
        path = recode_path(raw_path) or "/"
    query = verbatim_query(raw_query) if verbatim else canonical_query(raw_query)
    names = sorted(name.lower() for name in signed_headers)
    values = fold_headers(headers, names)
    lines = "".join([f"{name}:{values.get(name, '')}\n" for name in names])
    return f"{method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{payload_hash}"


def fold_headers(headers: Iterable[tuple[str, str]], names: Iterable[str]) -> dict[str, str]:
    """The values of the named headers (lower case), each trimmed, repetitions joined by ``,``."""
    wanted = set(names)
    found: dict[str, list[str]] = {}
    for name, value in headers:
        name = name.lower()
        if name in wanted:
            found.setdefault(name, []).append(trim(value))
    return {name: ",".join(values) for name, values in found.items()}


def trim(value: str) -> str:
    """A header value without blanks at its ends, and with one space for each run of them."""
    if "  " in value or not value.isprintable():
        return _BLANKS.sub(" ", value).strip(" ")
    return value.strip(" ")


def canonical_query(raw_query: str) -> str:
    """Every name and value decoded, encoded AWS's way, sorted by name and then by value."""
    pairs = [pair for pair in recode_query(raw_query) if pair[0] != SIGNATURE_PARAMETER]
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def verbatim_query(raw_query: str) -> str:
    """The query's pieces as they were sent, sorted by name and then by value."""
    pairs = []
    for piece in raw_query.split("&") if raw_query else ():
        name, _, value = piece.partition("=")
        if name != SIGNATURE_PARAMETER:
            pairs.append((name, value))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def normalised_path(raw_path: bytes | str) -> str:
    """The path for services other than S3: dot segments and double slashes gone, encoded again.

    Source: RFC 3986 section 5.2.4; AWS General Reference, *canonical URI*.
    """
    kept: list[str] = []
    text = wire_text(wire_bytes(raw_path))
    for segment in text.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment and segment != ".":
            kept.append(segment)
    folder = text.endswith("/") and kept
    return uri_encode("/" + "/".join(kept) + ("/" if folder else ""), slash=False)
