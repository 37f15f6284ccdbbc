"""Where metrics may be scraped: on this host alone."""

from __future__ import annotations

from pathlib import Path

from s3posixfs.core.hosts import is_loopback

Address = tuple[str, int] | Path


def parse_address(text: str) -> Address:
    """``HOST:PORT`` of this host, or the absolute path of a Unix socket.

    Raises ValueError whose text says what is taken.
    """
    if text.startswith("/"):
        return Path(text)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"needs 127.0.0.1:PORT or the path of a socket, not {text!r}")
    if host == "localhost":
        host = "127.0.0.1"
    if not is_loopback(host):
        raise ValueError(
            f"is for this host only: use 127.0.0.1:{port} or the path of a socket, not {text!r}"
        )
    return host, int(port)
