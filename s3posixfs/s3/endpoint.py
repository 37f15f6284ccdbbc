"""Where a store is, and how its buckets are addressed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from s3posixfs.core.errors import OperatorError
from s3posixfs.core.hosts import is_loopback
from s3posixfs.sigv4.encoding import uri_encode


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A store's address. ``path_style`` puts the bucket into the path, else into the host."""

    tls: bool
    host: str
    port: int
    path_style: bool

    @property
    def url(self) -> str:
        """The endpoint in its shortest spelling."""
        return f"{'https' if self.tls else 'http'}://{self._authority(self.host)}"

    @property
    def private(self) -> bool:
        """Whether nobody between here and there can change what is sent: TLS, or this host."""
        return self.tls or is_loopback(self.host)

    def _authority(self, host: str) -> str:
        name = f"[{host}]" if ":" in host else host
        return name if self.port == (443 if self.tls else 80) else f"{name}:{self.port}"

    def address(self, bucket: str, key: str) -> tuple[str, str, str]:
        """The host to connect to, the Host header, and the encoded path."""
        host = self.host
        if bucket and not self.path_style:
            host = f"{bucket}.{host}"
            path = "/"
        elif bucket:
            path = f"/{uri_encode(bucket, slash=True)}" + ("/" if key else "")
        else:
            path = "/"
        return host, self._authority(host), path + uri_encode(key, slash=False) if key else path


def parse_endpoint(url: str, *, path_style: bool = True) -> Endpoint:
    """The endpoint of an ``http://`` or ``https://`` URL. Raises OperatorError for others."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise OperatorError(f"endpoint_url {url!r} is no URL; give http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OperatorError(f"endpoint_url {url!r}: give http://HOST:PORT or https://HOST")
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise OperatorError(
            f"endpoint_url {url!r} must end after the host and port; remove the rest"
        )
    tls = parts.scheme == "https"
    return Endpoint(tls, parts.hostname, port or (443 if tls else 80), path_style)
