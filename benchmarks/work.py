"""What is measured of a store, each as a preparation that is not timed and a work that is.

:func:`serve` answers jobs over a pipe, so that the client is a process of its own.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import unescape
from multiprocessing.connection import Connection

from benchmarks.load import Maker, Request, Script, Target, Work, drive

MIB = 1024 * 1024
BUCKET = "store-benchmark"
PART = 8 * MIB
_FILLERS = 16  # connections that make the keys


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each measurement does. ``seconds`` bounds those of small requests and pages."""

    seconds: float
    large: int
    large_requests: int  # at least, over all connections
    parts: int
    keys: int
    folders: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work for the client's process."""

    kind: str
    target: Target
    connections: int
    sizes: Sizes
    prepare: bool = False


class _Bodies:
    """What is sent; a large body and its digest are made once."""

    def __init__(self) -> None:
        self.small = os.urandom(1024)
        self._large: dict[int, tuple[memoryview, str]] = {}

    def large(self, size: int) -> tuple[memoryview, str]:
        if size not in self._large:
            body = os.urandom(MIB) * (size // MIB)
            self._large[size] = (memoryview(body), hashlib.sha256(body).hexdigest())
        return self._large[size]


def _once(requests: Sequence[Request]) -> Script:
    for request in requests:  # noqa: UP028  send() would reach the sequence's iterator
        yield request


def _again(requests: Sequence[Request]) -> Script:
    while True:
        for request in requests:  # noqa: UP028
            yield request


def _each(connections: int, make: Callable[[int], Sequence[Request]]) -> list[Script]:
    return [_again(make(number)) for number in range(connections)]


def get_small(job: Job, bodies: _Bodies) -> Work:
    maker = Maker(job.target)
    if job.prepare:
        requests = [
            maker.request("PUT", f"/{BUCKET}/small/{number}", body=bodies.small)
            for number in range(job.connections)
        ]
        return drive(job.target.port, [_once(requests)])
    scripts = _each(
        job.connections, lambda number: [maker.request("GET", f"/{BUCKET}/small/{number}")]
    )
    return drive(job.target.port, scripts, job.sizes.seconds)


def put_small(job: Job, bodies: _Bodies) -> Work:
    maker = Maker(job.target)
    each = max(1000 // job.connections, 20)
    if job.prepare:
        return Work(0, 0.0, 0.0)
    scripts = _each(
        job.connections,
        lambda number: [
            maker.request("PUT", f"/{BUCKET}/put/{number}/{count}", body=bodies.small)
            for count in range(each)
        ],
    )
    return drive(job.target.port, scripts, job.sizes.seconds)


def _large(job: Job, bodies: _Bodies, method: str) -> Work:
    maker = Maker(job.target)
    body, digest = bodies.large(job.sizes.large) if method == "PUT" else (memoryview(b""), "")
    times = max(job.sizes.large_requests // job.connections, 1)
    scripts = [
        _once(
            [maker.request(method, f"/{BUCKET}/large/{number}", body=body, digest=digest)] * times
        )
        for number in range(job.connections)
    ]
    return drive(job.target.port, scripts)


def get_large(job: Job, bodies: _Bodies) -> Work:
    if job.prepare:
        return Work(0, 0.0, 0.0)  # put_large made them
    return _large(job, bodies, "GET")


def put_large(job: Job, bodies: _Bodies) -> Work:
    if job.prepare:
        return Work(0, 0.0, 0.0)
    return _large(job, bodies, "PUT")


def multipart(job: Job, bodies: _Bodies) -> Work:
    """Whole uploads one after the other, all parts of one at the same time."""
    if job.prepare:
        return Work(0, 0.0, 0.0)
    maker = Maker(job.target)
    path = f"/{BUCKET}/multipart"
    body, digest = bodies.large(PART)
    etags = [""] * job.sizes.parts
    upload = ""

    def create() -> Script:
        nonlocal upload
        answer = yield maker.request("POST", path, [("uploads", "")], counts=False)
        upload = _between(answer.body, "UploadId")

    def part(numbers: Sequence[int]) -> Script:
        for number in numbers:
            query = [("partNumber", str(number + 1)), ("uploadId", upload)]
            request = maker.request("PUT", path, query, body, digest=digest, counts=False)
            etags[number] = (yield request).header("etag")

    def complete() -> Script:
        rows = "".join(
            f"<Part><PartNumber>{number + 1}</PartNumber><ETag>{etag}</ETag></Part>"
            for number, etag in enumerate(etags)
        )
        xml = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
        answer = yield maker.request("POST", path, [("uploadId", upload)], xml)
        if b"<Error>" in answer.body:
            raise RuntimeError(f"the upload was not completed: {answer.body!r}")

    done: list[Work] = []
    for _ in range(job.sizes.large_requests):
        done.append(drive(job.target.port, [create()]))
        numbers = range(job.sizes.parts)
        at_once = [part(numbers[start :: job.connections]) for start in numbers[: job.connections]]
        done.append(drive(job.target.port, at_once))
        done.append(drive(job.target.port, [complete()]))
    return _sum(done)


def _listing(job: Job, delimiter: str) -> Work:
    if job.prepare:
        return Work(0, 0.0, 0.0)
    maker = Maker(job.target)
    scripts = [pages(maker, "keys/", delimiter) for _ in range(job.connections)]
    return drive(job.target.port, scripts, job.sizes.seconds)


def pages(
    maker: Maker, prefix: str, delimiter: str, *, once: bool = False, bucket: str = BUCKET
) -> Script:
    """The pages of ListObjectsV2, from the start again at the end unless ``once``."""
    token = ""
    while True:
        query = [("list-type", "2"), ("prefix", prefix)]
        if delimiter:
            query.append(("delimiter", delimiter))
        if token:
            query.append(("continuation-token", token))
        answer = yield maker.request("GET", f"/{bucket}", query)
        token = _between(answer.body, "NextContinuationToken", missing="")
        if not token and once:
            return


def list_flat(job: Job, bodies: _Bodies) -> Work:
    if job.prepare:
        return _fill(job)
    return _listing(job, "")


def list_folders(job: Job, bodies: _Bodies) -> Work:
    return _listing(job, "/")


def _fill(job: Job) -> Work:
    """The keys that are listed: empty objects, spread over folders."""
    maker = Maker(job.target)
    sizes = job.sizes

    def some(start: int) -> Script:
        for number in range(start, sizes.keys, _FILLERS):
            folder, name = divmod(number, max(sizes.keys // sizes.folders, 1))
            yield maker.request("PUT", f"/{BUCKET}/keys/{folder:06}/{name:06}")

    return drive(job.target.port, [some(start) for start in range(_FILLERS)])


def delete_many(job: Job, bodies: _Bodies) -> Work:
    """One DeleteObjects a connection, of keys that the preparation made."""
    maker = Maker(job.target)
    count = job.sizes.deleted

    def keys(number: int) -> Iterator[str]:
        return (f"deleted/{number}/{at:04}" for at in range(count))

    if job.prepare:
        scripts = [
            _once([maker.request("PUT", f"/{BUCKET}/{key}", body=b"x") for key in keys(number)])
            for number in range(job.connections)
        ]
        if job.connections == 1:
            requests = [maker.request("PUT", f"/{BUCKET}/{key}", body=b"x") for key in keys(0)]
            scripts = [_once(requests[start::_FILLERS]) for start in range(_FILLERS)]
        return drive(job.target.port, scripts)

    def delete(number: int) -> Script:
        rows = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys(number))
        xml = f"<Delete><Quiet>true</Quiet>{rows}</Delete>".encode()
        answer = yield maker.request(
            "POST",
            f"/{BUCKET}",
            [("delete", "")],
            xml,
            headers=[("content-md5", _md5(xml))],
        )
        if b"<Error>" in answer.body:
            raise RuntimeError(f"keys were not deleted: {answer.body[:300]!r}")

    return drive(job.target.port, [delete(number) for number in range(job.connections)])


KINDS: dict[str, Callable[[Job, _Bodies], Work]] = {
    function.__name__: function
    for function in (
        *(get_small, put_small, put_large, get_large),
        *(multipart, list_flat, list_folders, delete_many),
    )
}


def serve(pipe: Connection) -> None:
    """Do the jobs that come until there is None; an exception is sent back as its text."""
    bodies = _Bodies()
    while (job := pipe.recv()) is not None:
        try:
            pipe.send(KINDS[job.kind](job, bodies))
        except Exception as error:
            pipe.send(f"{job.kind}, {job.target.name}, {job.connections} connections: {error}")


def make_bucket(target: Target) -> None:
    """Make the bucket that everything is in; one that is there is no error."""

    def script() -> Script:
        yield Maker(target).request("PUT", f"/{BUCKET}")

    drive(target.port, [script()])


def _between(body: bytes, tag: str, missing: str | None = None) -> str:
    found = re.search(f"<{tag}>(.*?)</{tag}>".encode(), body)
    if found is not None:
        return unescape(found[1].decode())
    if missing is None:
        raise RuntimeError(f"no {tag} in {body[:300]!r}")
    return missing


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _sum(done: Sequence[Work]) -> Work:
    return Work(
        sum(work.units for work in done),
        sum(work.seconds for work in done),
        sum(work.client_cpu for work in done),
    )
