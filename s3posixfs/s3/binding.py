"""One identity bound to one endpoint: requests, and the conditions a store may not honour."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from s3posixfs.core.checksums import HEADER_NAMES
from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import Body
from s3posixfs.core.types import Capabilities, ObjectStat
from s3posixfs.s3 import settle
from s3posixfs.s3.answers import META, stat_of
from s3posixfs.s3.body import INLINE_HASH_BYTES, crc64nvme_base64, length_of
from s3posixfs.s3.http import Response
from s3posixfs.s3.retry import RetryPolicy
from s3posixfs.s3.traits import Traits
from s3posixfs.s3.transport import Acting, Answer, S3Request, Transport
from s3posixfs.sigv4.encoding import uri_encode

# Complete and Copy answer only when the store has moved all bytes.
LONG_TIMEOUT = 300.0

# A header's name (RFC 9110 §5.6.2).
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Headers = list[tuple[str, str]]


# How many connections a number of HEADs is spread over.
PIPELINES = 8
_TRIES = 2
_BROKEN_SECONDS = 600.0


class Pipelines:
    """Whether the endpoint answers requests that are sent one behind the other: not every proxy
    does. One that failed twice on end is not asked so for ten minutes."""

    def __init__(self) -> None:
        self._failures = 0
        self._failed_at = 0.0

    @property
    def broken(self) -> bool:
        recent = trio.current_time() - self._failed_at < _BROKEN_SECONDS
        return self._failures >= _TRIES and recent

    def note(self, whole: bool) -> None:
        """All answers came, or not."""
        self._failures = 0 if whole else self._failures + 1
        self._failed_at = trio.current_time()


class Endpointed(Protocol):
    """What a store needs of its client: the way to send, and what the endpoint can do."""

    @property
    def transport(self) -> Transport: ...

    @property
    def traits(self) -> Traits: ...

    @property
    def sums_bodies(self) -> bool: ...

    @property
    def pipelines(self) -> Pipelines: ...

    @property
    def summed_uploads(self) -> set[str]:
        """IDs of multipart uploads under way whose parts come with their CRC-64/NVME."""
        ...


def query_of(parameters: Mapping[str, str]) -> str:
    """A query string in canonical order."""
    return "&".join(
        [
            f"{uri_encode(name, slash=True)}={uri_encode(parameters[name], slash=True)}"
            for name in sorted(parameters)
        ]
    )


def object_headers(
    metadata: Mapping[str, str] | None,
    content_type: str | None,
    others: Mapping[str, str] | None = None,
) -> list[tuple[str, str]]:
    """The headers that carry user metadata, the content type and ``others`` of the object.

    Raises S3Error (InvalidArgument) for a name that no header can have.
    """
    for name in metadata or ():
        if _TOKEN.fullmatch(name) is None:
            raise S3Error("InvalidArgument", f"metadata name {name!r}", status=400)
    headers = [(META + name.lower(), value) for name, value in (metadata or {}).items()]
    if content_type is not None:
        headers.append(("content-type", content_type))
    headers.extend((others or {}).items())
    return headers


def require_key(bucket: str, key: str) -> None:
    """Raise S3Error (InvalidArgument) for an empty name: its path would be the bucket's own."""
    if not bucket or not key:
        raise S3Error("InvalidArgument", "an object needs a bucket and a key", status=400)


class Binding:
    """Sends as one identity; what the operations of a store are written with."""

    def __init__(self, client: Endpointed, acting: Acting) -> None:
        self.client = client
        self.acting = acting

    @property
    def name(self) -> str:
        """The identity that signs, for people."""
        return self.acting.name

    @property
    def endpoint_url(self) -> str:
        return self.client.transport.endpoint.url

    @property
    def capabilities(self) -> Capabilities:
        return self.client.traits.capabilities

    async def request(
        self,
        method: str,
        bucket: str = "",
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        headers: Sequence[tuple[str, str]] = (),
        body: Body = b"",
        accepts: tuple[int, ...] = (),
        unsigned: bool = False,
        policy: RetryPolicy | None = None,
    ) -> Response:
        """A signed request of any kind; the answer (at most 16 MiB). Raises S3Error."""
        request = S3Request(
            method,
            bucket,
            key,
            query_of(query or {}),
            tuple(headers),
            body,
            accepts=accepts,
            unsigned=unsigned,
        )
        return (await self.client.transport.send(request, self.acting, policy)).response

    async def send(
        self,
        method: str,
        bucket: str,
        key: str | None = None,
        query: str = "",
        headers: Sequence[tuple[str, str]] = (),
        body: Body = b"",
        timeout: float = 30.0,
    ) -> Answer:
        """A request about an object, or with ``key`` None about a bucket or the buckets."""
        if key is not None:
            require_key(bucket, key)
        request = S3Request(method, bucket, key or "", query, tuple(headers), body, timeout=timeout)
        return await self.client.transport.send(request, self.acting)

    @property
    def sums_bodies(self) -> bool:
        """Whether bodies are proven by their checksum, and only that is signed: it takes a tenth of
        the time of SHA-256, and nobody on the way can change both."""
        return self.client.sums_bodies

    async def send_object(
        self, bucket: str, key: str, headers: Sequence[tuple[str, str]], body: Body
    ) -> Answer:
        """PUT of an object."""
        if self.sums_bodies and length_of(body) > INLINE_HASH_BYTES:
            return await self.send_summed(bucket, key, "", headers, body)
        return await self.send("PUT", bucket, key, headers=headers, body=body)

    async def send_summed(
        self, bucket: str, key: str, query: str, headers: Sequence[tuple[str, str]], body: Body
    ) -> Answer:
        """PUT with a checksum, the body itself not signed unless a policy insists on it."""
        require_key(bucket, key)
        transport = self.client.transport
        checksum = await crc64nvme_base64(body, transport.threads)
        sent = (*headers, (HEADER_NAMES["crc64nvme"], checksum))
        try:
            request = S3Request("PUT", bucket, key, query, sent, body, unsigned=True)
            return await transport.send(request, self.acting)
        except S3Error as error:
            # It may be what s3:x-amz-content-sha256 says in a policy.
            if error.code != "AccessDenied" or settle.repeated(error):
                raise
            return await self.send("PUT", bucket, key, query, sent, body)

    async def head(self, bucket: str, key: str) -> ObjectStat:
        headers = (await self.send("HEAD", bucket, key)).response.headers
        return stat_of(key, headers, _length(headers))

    async def heads(self, bucket: str, keys: Sequence[str]) -> Mapping[str, ObjectStat]:
        """As :class:`core.objectstore.ObjectStore` has it: on a few connections, on each one
        request behind the other, which costs half of the processor time of single ones."""
        client = self.client
        found: dict[str, ObjectStat] = {}
        if client.pipelines.broken or not keys:
            return found
        size = -(-len(keys) // PIPELINES)
        came = 0

        async def ask(some: Sequence[str]) -> None:
            nonlocal came
            answers: list[Response] = []
            with contextlib.suppress(S3Error):
                answers = await client.transport.heads(bucket, some, self.acting)
            came += len(answers)
            for key, answer in zip(some, answers, strict=False):
                if answer.status == 200:
                    with contextlib.suppress(S3Error):
                        found[key] = stat_of(key, answer.headers, _length(answer.headers))

        try:
            async with trio.open_nursery() as nursery:
                for start in range(0, len(keys), size):
                    nursery.start_soon(ask, keys[start : start + size])
        finally:  # also where whoever waits loses patience
            client.pipelines.note(came == len(keys))
        return found

    # conditions

    async def conditions(
        self,
        bucket: str,
        key: str,
        *,
        if_match: str | None,
        if_none_match: bool,
        honours_if_match: bool,
        honours_if_none_match: bool,
    ) -> Headers:
        """The headers of a conditional write; without the store's help, what a HEAD says."""
        traits = self.client.traits
        headers: Headers = []
        if if_none_match:
            if not honours_if_none_match and await self.found_at(bucket, key) is not None:
                raise S3Error("PreconditionFailed", f"{key!r} exists", status=412)
            if honours_if_none_match or traits.unprobed:
                headers.append(("if-none-match", "*"))
        if if_match is not None:
            if honours_if_match:
                headers.append(("if-match", traits.if_match(if_match)))
            else:
                found = await self.found_at(bucket, key)
                if found is None or found.etag != if_match:
                    raise S3Error("PreconditionFailed", f"{key!r} has changed", status=412)
        return headers

    async def source_condition(
        self, bucket: str, key: str, etag: str, *, checked: bool = False
    ) -> Headers:
        if not (self.client.traits.conditional_copy or checked):
            require(await self.head(bucket, key), etag, bucket)
        return [("x-amz-copy-source-if-match", self.client.traits.if_match(etag))]

    async def found_at(self, bucket: str, key: str) -> ObjectStat | None:
        try:
            return await self.head(bucket, key)
        except S3Error as error:
            if error.code == "NoSuchKey":
                return None
            raise


def require(stat: ObjectStat, etag: str | None, bucket: str) -> None:
    if etag is not None and stat.etag != etag:
        raise S3Error("PreconditionFailed", f"{bucket}/{stat.key} has changed", status=412)


def _length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length", "")
    if not (text.isascii() and text.isdigit()):
        raise S3Error("InvalidResponse", "an object without Content-Length")
    return int(text)
