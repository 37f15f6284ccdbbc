"""What the conformance tests share: a store at http and at https, and requests made by hand."""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lxml import etree

from tests.store.raw import Answer, RawClient
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Header = tuple[str, str]
XMLNS = "http://s3.amazonaws.com/doc/2006-03-01/"


class Wire(RawClient):
    """A connection of bytes, through TLS where the store asks for it."""

    def __init__(self, port: int, user: User, trust: ssl.SSLContext | None) -> None:
        super().__init__(port, user)
        if trust is not None:
            self.socket = trust.wrap_socket(self.socket, server_hostname="127.0.0.1")

    def request(
        self,
        method: str,
        path: str,
        *headers: Header,
        query: str = "",
        body: bytes = b"",
        md5: bool = False,
        payload: str | None = None,
        signed: bool = True,
        unsigned: Sequence[Header] = (),
    ) -> Answer:
        """Send one request whole and take its answer.

        ``md5`` adds the Content-MD5 of the body; ``unsigned`` headers are not signed.
        """
        given = list(headers)
        if md5:
            given.append(("content-md5", md5_of(body)))
        after = list(unsigned)
        if body or method in ("PUT", "POST"):
            after.append(("content-length", str(len(body))))
        if signed:
            digest = payload or hashlib.sha256(body).hexdigest()
            head = self.head(
                method, path, *given, query=query, payload=digest, unsigned=tuple(after)
            )
        else:
            target = f"{path}?{query}" if query else path
            lines = [f"{method} {target} HTTP/1.1", f"host: {self.host}"]
            lines += (f"{name}: {value}" for name, value in (*given, *after))
            head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        self.send(head + body)
        return self.answer(head_only=method == "HEAD")


@dataclass(frozen=True, slots=True)
class Site:
    """A running store, its users alice (readwrite) and bob (nothing), and how to trust it."""

    store: StoreProcess
    alice: User
    bob: User
    options: dict[str, Any]
    trust: ssl.SSLContext | None

    def s3(self, user: User | None = None, **options: Any) -> S3Client:
        return self.store.s3(user or self.alice, **self.options, **options)

    def wire(self, user: User | None = None) -> Wire:
        return Wire(self.store.port, user or self.alice, self.trust)


def md5_of(body: bytes) -> str:
    """The Content-MD5 of ``body``."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def fields_of(answer: Answer) -> dict[str, str]:
    """The elements right below the root of an XML answer, by name."""
    root = etree.fromstring(answer.body)
    return {str(child.tag).rpartition("}")[2]: child.text or "" for child in root}


def texts(answer: Answer, path: str) -> list[str]:
    """The texts at ``path`` (``Contents/Key``) below the root, which has S3's namespace."""
    steps = "/".join(f"{{{XMLNS}}}{step}" for step in path.split("/"))
    return [element.text or "" for element in etree.fromstring(answer.body).findall(steps)]


def named(answer: Answer, name: str) -> str:
    """The text of the first ``<name>`` anywhere in the answer; "" where there is none."""
    match = re.search(rf"<{name}>(.*?)</{name}>", answer.body.decode(), re.DOTALL)
    return match[1] if match else ""


def amz_time(offset: float = 0.0) -> str:
    """Now, ``offset`` seconds later, as ``x-amz-date`` has it."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + offset))
