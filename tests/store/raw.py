"""HTTP by hand, for requests that no client library would send."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer
from tests.store_process import REGION, User


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """The S3 error code, "" where there is none."""
        match = re.search(rb"<Code>(.*?)</Code>", self.body)
        return match[1].decode() if match else ""


class RawClient:
    """One connection to 127.0.0.1; signs as ``user`` where it is asked to."""

    def __init__(self, port: int, user: User) -> None:
        self.host = f"127.0.0.1:{port}"
        self.signer = Signer(Credentials(user.access_key, user.secret_key), REGION)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def head(
        self,
        method: str,
        path: str,
        *headers: tuple[str, str],
        query: str = "",
        payload: str = "UNSIGNED-PAYLOAD",
        unsigned: tuple[tuple[str, str], ...] = (),
    ) -> bytes:
        """A signed head; ``unsigned`` headers are added after signing."""
        given = [("host", self.host), *headers]
        given += self.signer.sign(method, path, query, given, payload, time.time())
        target = f"{path}?{query}" if query else path
        lines = [f"{method} {target} HTTP/1.1"]
        lines += (f"{name}: {value}" for name, value in (*given, *unsigned))
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    def put(self, path: str, body: bytes, *headers: tuple[str, str]) -> Answer:
        """PUT with a signed hash of the body."""
        digest = hashlib.sha256(body).hexdigest()
        length = (("content-length", str(len(body))),)
        self.send(self.head("PUT", path, *headers, payload=digest, unsigned=length) + body)
        return self.answer()

    def get(self, path: str, *headers: tuple[str, str], query: str = "") -> Answer:
        self.send(self.head("GET", path, *headers, query=query))
        return self.answer()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        """The next line without its CR LF; what there is of it when the connection ends."""
        while b"\r\n" not in self._received:
            if not self._more():
                break
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    def answer(self, *, head_only: bool = False) -> Answer:
        """The next answer."""
        status = self.line()
        assert status.startswith(b"HTTP/1.1 "), status
        headers: dict[str, str] = {}
        while line := self.line():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        length = 0 if head_only else int(headers.get("content-length", "0"))
        while len(self._received) < length and self._more():
            pass
        body, self._received = self._received[:length], self._received[length:]
        return Answer(int(status.split()[1]), headers, body)

    def closed(self) -> bool:
        """Whether the server has closed the connection and sent nothing more."""
        return self._received == b"" and not self._more()

    def _more(self) -> bool:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self._received += data
        return bool(data)
