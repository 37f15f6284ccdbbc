"""Signing requests with one pair of credentials."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.canonical import canonical_query, canonical_request, normalised_path, trim
from s3posixfs.sigv4.constants import (
    ALGORITHM,
    EMPTY_SHA256,
    MAX_EXPIRES_SECONDS,
    TERMINATOR,
    UNSIGNED_HEADERS,
    UNSIGNED_PAYLOAD,
)
from s3posixfs.sigv4.encoding import recode_path, uri_encode, wire_bytes


@dataclass(frozen=True, slots=True)
class SigningContext:
    """What the signatures of a request's chunks go on from. The key never shows in ``repr``."""

    key: bytes = field(repr=False)
    scope: str
    timestamp: str
    seed_signature: str = field(repr=False)


def signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """The key that signs for one day (``YYYYMMDD``), region and service."""
    key = hmac.digest(wire_bytes("AWS4" + secret_key), day.encode(), "sha256")
    key = hmac.digest(key, wire_bytes(region), "sha256")
    key = hmac.digest(key, wire_bytes(service), "sha256")
    return hmac.digest(key, TERMINATOR.encode(), "sha256")


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """The text that is signed: what, when and within which scope."""
    digest = hashlib.sha256(wire_bytes(canonical)).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"


@dataclass(frozen=True, slots=True)
class _Moment:
    """All that depends on the second of signing; kept, as many requests share a second."""

    second: int
    timestamp: str
    scope: str
    key: bytes = field(repr=False)


class Signer:
    """Signs as one pair of credentials in one region; may be shared between threads.

    A temporary pair's token goes along and is signed. For services other than ``s3`` the
    path is normalised and there is no ``x-amz-content-sha256`` header, as they expect.
    """

    __slots__ = ("_credentials", "_moment", "_region", "_s3", "_service")

    def __init__(self, credentials: Credentials, region: str, service: str = "s3") -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._s3 = service == "s3"
        self._moment: _Moment | None = None

    def __repr__(self) -> str:
        return f"Signer({self._credentials.access_key!r}, {self._region!r}, {self._service!r})"

    def sign(
        self,
        method: str,
        raw_path: str,
        raw_query: str,
        headers: list[tuple[str, str]],
        payload_hash: str,
        now: float,
    ) -> list[tuple[str, str]]:
        """The headers to add: date, payload hash, token where there is one, Authorization.

        ``raw_path`` and ``raw_query`` are encoded as they will be sent. ``headers`` are all
        the others, ``host`` among them. ``now`` is seconds since the epoch.
        """
        return self.sign_with_context(method, raw_path, raw_query, headers, payload_hash, now)[0]

    def sign_with_context(
        self,
        method: str,
        raw_path: str,
        raw_query: str,
        headers: list[tuple[str, str]],
        payload_hash: str,
        now: float,
    ) -> tuple[list[tuple[str, str]], SigningContext]:
        """Like :meth:`sign`, and what the signatures of an aws-chunked body go on from."""
        moment = self._at(now)
        added = [("x-amz-date", moment.timestamp)]
        if self._s3:
            added.append(("x-amz-content-sha256", payload_hash))
        if self._credentials.session_token is not None:
            added.append(("x-amz-security-token", self._credentials.session_token))
        values: dict[str, str] = {}
        for name, value in (*headers, *added):
            name = name.lower()
            if name not in UNSIGNED_HEADERS:
                value = trim(value)
                values[name] = f"{values[name]},{value}" if name in values else value
        ordered = sorted(values.items())
        names = ";".join([name for name, _ in ordered])
        lines = "".join([f"{name}:{value}\n" for name, value in ordered])
        path = (recode_path(raw_path) or "/") if self._s3 else normalised_path(raw_path)
        canonical = (
            f"{method}\n{path}\n{canonical_query(raw_query)}\n{lines}\n{names}\n{payload_hash}"
        )
        signature = _signature(moment, canonical)
        added.append(
            (
                "Authorization",
                f"{ALGORITHM} Credential={self._credentials.access_key}/{moment.scope}, "
                f"SignedHeaders={names}, Signature={signature}",
            )
        )
        return added, SigningContext(moment.key, moment.scope, moment.timestamp, signature)

    def presign(
        self, method: str, raw_path: str, raw_query: str, host: str, now: float, expires: int
    ) -> str:
        """The whole query string of a request that others may make for ``expires`` seconds.

        Raises ValueError unless ``expires`` is within 0 to 604,800 (a week).
        """
        if not 0 <= expires <= MAX_EXPIRES_SECONDS:
            raise ValueError(f"expires is {expires}; it must be 0 to {MAX_EXPIRES_SECONDS} seconds")
        moment = self._at(now)
        parameters = {
            "X-Amz-Algorithm": ALGORITHM,
            "X-Amz-Credential": f"{self._credentials.access_key}/{moment.scope}",
            "X-Amz-Date": moment.timestamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": "host",
        }
        if self._credentials.session_token is not None:
            parameters["X-Amz-Security-Token"] = self._credentials.session_token
        own = "&".join([f"{n}={uri_encode(v, slash=True)}" for n, v in parameters.items()])
        query = canonical_query(f"{raw_query}&{own}")
        canonical = canonical_request(
            method,
            raw_path,
            query,
            [("host", host)],
            ["host"],
            UNSIGNED_PAYLOAD if self._s3 else EMPTY_SHA256,
            s3=self._s3,
        )
        return f"{query}&X-Amz-Signature={_signature(moment, canonical)}"

    def _at(self, now: float) -> _Moment:
        second = int(now)
        moment = self._moment
        if moment is not None and moment.second == second:
            return moment
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day = timestamp[:8]
        if moment is not None and moment.timestamp[:8] == day:
            fresh = _Moment(second, timestamp, moment.scope, moment.key)
        else:
            key = signing_key(self._credentials.secret_key, day, self._region, self._service)
            scope = f"{day}/{self._region}/{self._service}/{TERMINATOR}"
            fresh = _Moment(second, timestamp, scope, key)
        self._moment = fresh
        return fresh


def _signature(moment: _Moment, canonical: str) -> str:
    text = string_to_sign(moment.timestamp, moment.scope, canonical)
    return hmac.digest(moment.key, wire_bytes(text), "sha256").hex()
