"""The store itself, asked by a plain client: it puts what mounts read, and is their limit."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from benchmarks.load import Maker, Request, Script, drive
from benchmarks.mount.jobs import MB, SMALL, Sizes
from benchmarks.mount.sites import Site
from benchmarks.work import pages

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_AT_ONCE = 16


class Plain:
    """A client of one site. ``limits`` are its own speeds, by the names that jobs use."""

    def __init__(self, site: Site, sizes: Sizes) -> None:
        self._site = site
        self._sizes = sizes
        self._s3: S3Client = boto3.client(
            "s3",
            endpoint_url=site.url,
            region_name=site.region,
            aws_access_key_id=site.access_key,
            aws_secret_access_key=site.secret_key,
            verify=str(site.ca) if site.ca is not None else None,
            config=Config(
                max_pool_connections=_AT_ONCE,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        self._body = os.urandom(1024 * 1024) * (sizes.large // (1024 * 1024))

    def close(self) -> None:
        """Let go of connections."""
        self._s3.close()

    def give(self, folder: str) -> None:
        """Put the objects that a round reads below ``folder/``."""
        for name in ("large", "random-1", "random-8", "first"):
            self._put(f"{folder}/{name}", self._body)
        small = os.urandom(SMALL)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda n: self._put(f"{folder}/small/{n:05}", small), self._small()))
            list(pool.map(lambda n: self._put(f"{folder}/listed/{n:05}", b"x"), self._listed()))

    def _put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._site.bucket, Key=key, Body=body)

    def _small(self) -> range:
        return range(self._sizes.small)

    def _listed(self) -> range:
        return range(self._sizes.listed)

    def limits(self, given: str, own: str) -> dict[str, float]:
        """Units a second of the plain client, which speaks http only; ``given`` is to be there."""
        if self._site.ca is not None:
            return {}
        maker, bucket = Maker(self._site.target), self._site.bucket
        large = self._sizes.large / MB
        digest = hashlib.sha256(self._body).hexdigest()
        put = maker.request("PUT", f"/{bucket}/{own}/large", body=self._body, digest=digest)
        found = {
            "get_large": self._drive([_once([_get(maker, bucket, f"{given}/large")])]) * large,
            "put_large": self._drive([_once([put])]) * large,
            "list": self._drive([self._list(maker, given)]) * min(self._sizes.listed, 1000),
        }
        small = os.urandom(SMALL)

        def get(number: int) -> Request:
            return _get(maker, bucket, f"{given}/small/{number % self._sizes.small:05}")

        def put_small(number: int) -> Request:
            return maker.request("PUT", f"/{bucket}/{own}/small/{number:05}", body=small)

        def get_range(number: int) -> Request:
            start = random.Random(number).randrange(self._sizes.large // SMALL) * SMALL
            headers = [("range", f"bytes={start}-{start + SMALL - 1}")]
            return maker.request("GET", f"/{bucket}/{given}/random-1", headers=headers)

        def delete(number: int) -> Request:
            return maker.request("DELETE", f"/{bucket}/{own}/small/{number:05}")

        for connections in (1, 8):
            found[f"get_small_{connections}"] = self._many(connections, get)
            found[f"put_small_{connections}"] = self._many(connections, put_small)
            found[f"get_range_{connections}"] = self._many(connections, get_range)
        found["delete_8"] = self._many(8, delete)
        return found

    def _list(self, maker: Maker, given: str) -> Script:
        return pages(maker, f"{given}/listed/", "/", once=True, bucket=self._site.bucket)

    def _many(self, connections: int, make: Callable[[int], Request]) -> float:
        count = self._sizes.small
        requests = [make(number) for number in range(count)]
        return self._drive([_once(requests[n::connections]) for n in range(connections)])

    def _drive(self, scripts: Sequence[Script]) -> float:
        work = drive(self._site.target.port, scripts, self._sizes.seconds)
        return work.units / work.seconds


def _get(maker: Maker, bucket: str, key: str) -> Request:
    return maker.request("GET", f"/{bucket}/{key}")


def _once(requests: Sequence[Request]) -> Script:
    for request in requests:  # noqa: UP028  send() would reach the sequence's iterator
        yield request
