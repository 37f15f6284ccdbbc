"""XML out, escaped, and XML in, hardened: no entities, no DTD, no network, bounded.

Answers follow the S3 API reference (https://docs.aws.amazon.com/AmazonS3/latest/API/).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from urllib.parse import quote
from xml.etree import ElementTree

from defusedxml.ElementTree import DefusedXMLParser

from s3posixfs.core.errors import S3Error

Element = ElementTree.Element

S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile('[&<>"\x00-\x08\x0b-\x1f\ufffe\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
_MOST_DEPTH = 32
XML_HEADERS = ("Content-Type", "application/xml")


def escape(text: str) -> str:
    """``text`` as element content.

    Characters that XML 1.0 can't hold become numeric references, as in AWS's answers: a
    client that may meet such keys asks for ``encoding-type=url``.
    """
    if text.isalnum():
        return text
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#x{ord(match[0]):x};", text)


def leaf(name: str, value: object) -> str:
    """``<name>value</name>``; booleans as XML has them."""
    if isinstance(value, bool):
        value = "true" if value else "false"
    return f"<{name}>{escape(str(value))}</{name}>"


def document(name: str, parts: Iterable[str], *, namespace: str = S3_NAMESPACE) -> bytes:
    """A whole document with root ``name`` around ready-made ``parts``."""
    start = (
        f'{_DECLARATION}<{name} xmlns="{namespace}">' if namespace else f"{_DECLARATION}<{name}>"
    )
    return f"{start}{''.join(parts)}</{name}>".encode()


def error_document(
    code: str, message: str, *, resource: str, request_id: str, details: Mapping[str, str]
) -> bytes:
    """S3's ``<Error>``. Source: the API reference, "REST error responses"."""
    parts = [leaf("Code", code), leaf("Message", message)]
    parts += [leaf(name, value) for name, value in details.items()]
    parts += [leaf("Resource", resource), leaf("RequestId", request_id), leaf("HostId", request_id)]
    return document("Error", parts, namespace="")


def iso_time(seconds: float) -> str:
    """``2009-10-12T17:50:30.000Z`` from seconds since the epoch."""
    whole = int(seconds)
    moment = time.gmtime(whole)
    return (
        f"{moment.tm_year:04d}-{moment.tm_mon:02d}-{moment.tm_mday:02d}T{moment.tm_hour:02d}:"
        f"{moment.tm_min:02d}:{moment.tm_sec:02d}.{int((seconds - whole) * 1000):03d}Z"
    )


def url_encoded(text: str) -> str:
    """A key under ``encoding-type=url``: percent-encoded UTF-8, slashes kept."""
    return quote(text, safe="/-_.~*")


def malformed(message: str = "") -> S3Error:
    """The answer to XML that is not what the operation takes."""
    return S3Error(
        "MalformedXML",
        message
        or "The XML you provided was not well-formed or did not validate against our published "
        "schema.",
        status=400,
    )


def parse(data: bytes, root: str) -> Element:
    """The root element of ``data``, which must be called ``root``; else S3Error MalformedXML.

    The caller bounds ``data``, which is UTF-8. A document type declaration of any kind is refused.
    """
    # Not lxml: it keeps every name that it ever met, so that whoever makes up names fills the
    # memory. Expat forgets them with the parser.
    parser = DefusedXMLParser(target=_Builder(), encoding="utf-8", forbid_dtd=True)
    try:
        if "\0" in data.decode():
            raise malformed()
        parser.feed(data)
        element: Element = parser.close()
    except (ElementTree.ParseError, ValueError):
        raise malformed() from None
    if local_name(element) != root:
        raise malformed()
    return element


class _Builder(ElementTree.TreeBuilder):
    """Builds elements that are not nested deeper than anything S3 takes."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise ValueError("nested too deeply")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def local_name(element: Element) -> str:
    """The element's name without its namespace; clients differ in whether they send one."""
    return element.tag.rpartition("}")[2]


def children(element: Element) -> dict[str, str]:
    """Text of the child elements by name; a name given twice is malformed."""
    found: dict[str, str] = {}
    for child in element:
        name = local_name(child)
        if name in found:
            raise malformed()
        found[name] = child.text or ""
    return found
