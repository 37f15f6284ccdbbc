"""The parts by which a daemon is watched: counters, the journal's protocol, the loop's watch."""

from __future__ import annotations

import json
import logging
import mmap
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from s3posixfs.cli.journald import JournalHandler, encode, is_journal
from s3posixfs.cli.logs import JsonFormatter
from s3posixfs.core.measuring import BOUNDS, Meter
from s3posixfs.metrics.address import parse_address
from s3posixfs.metrics.loop_watch import LoopWatch, stacks
from s3posixfs.s3.api_names import API_NAMES, api_name


def test_counts_and_times_by_name() -> None:
    meter = Meter(["open", "read"], ["ok", "EIO"])
    meter.note("read", "ok", 0.0002)
    meter.note("read", "EIO", 0.02)
    meter.note("read", "EDEADLK", 1000.0)
    meter.note("teleport", "ok", 0.002)
    assert set(meter.counts()) == {
        ("read", "ok", 1),
        ("read", "EIO", 1),
        ("read", "other", 1),
        ("other", "ok", 1),
    }
    times = dict(meter.latencies())
    assert times["read"].count == 3
    assert times["read"].counts[0] == 1
    assert times["read"].counts[-2] == 2
    assert times["read"].seconds == pytest.approx(1000.0202)
    assert times["read"].quantile(0.5) == 0.025
    assert times["read"].quantile(1.0) is None
    assert list(BOUNDS) == sorted(BOUNDS)


def test_processes_that_share_memory_are_added_up() -> None:
    names, results = ["Get"], ["200"]
    size = Meter.cells(names, results)
    memory = memoryview(mmap.mmap(-1, size * 8 * 3)).cast("d")
    for number in range(3):
        child = os.fork()
        if not child:
            Meter(names, results, memory, number).note("Get", "200", 0.5)
            os._exit(0)
        os.waitpid(child, 0)
    again = Meter(names, results, memory, 1)
    again.note("Get", "200", 0.5)
    assert list(again.counts()) == [("Get", "200", 4)]
    assert dict(again.latencies())["Get"].seconds == 2.0


@pytest.mark.parametrize(
    ("request_of", "name"),
    [
        (("GET", "", "", "", ()), "ListBuckets"),
        (("GET", "b", "", "delimiter=%2F&list-type=2", ()), "ListObjectsV2"),
        (("GET", "b", "k", "", ()), "GetObject"),
        (("PUT", "b", "k", "", (("x-amz-copy-source", "b/k"),)), "CopyObject"),
        (("PUT", "b", "k", "partNumber=1&uploadId=u", ()), "UploadPart"),
        (
            ("PUT", "b", "k", "partNumber=1&uploadId=u", (("x-amz-copy-source", "b"),)),
            "UploadPartCopy",
        ),
        (("POST", "b", "k", "uploads=", ()), "CreateMultipartUpload"),
        (("PATCH", "b", "k", "", ()), "other"),
    ],
)
def test_requests_are_counted_by_s3s_names(
    request_of: tuple[str, str, str, str, tuple[tuple[str, str], ...]], name: str
) -> None:
    assert api_name(*request_of) == name
    assert name == "other" or name in API_NAMES


@pytest.mark.parametrize("text", ["127.0.0.1:9464", "[::1]:9464", "localhost:1", "/run/a.sock"])
def test_metrics_are_for_this_host(text: str) -> None:
    assert parse_address(text)


@pytest.mark.parametrize("text", ["0.0.0.0:9464", "[::]:1", "10.0.0.1:80", "9464", ":9464", "a:b"])
def test_metrics_are_for_no_other_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        parse_address(text)


def journal(tmp_path: Path) -> tuple[socket.socket, logging.Logger, JournalHandler]:
    path = tmp_path / "journal"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(str(path))
    listener.settimeout(10)
    handler = JournalHandler({"S3POSIXFS_MOUNTPOINT": "/srv/shared"}, path)
    logger = logging.Logger("s3posixfs.fs.files")
    logger.addHandler(handler)
    return listener, logger, handler


def fields_of(data: bytes) -> dict[str, str]:
    """The fields of an entry, read as the protocol is written."""
    found: dict[str, str] = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            length = struct.unpack("<Q", rest[:8])[0]
            name, value = line, rest[8 : 8 + length]
            rest = rest[8 + length + 1 :]
        found[name.decode()] = value.decode()
        data = rest
    return found


def test_the_journal_gets_fields(tmp_path: Path) -> None:
    listener, logger, handler = journal(tmp_path)
    with listener:
        logger.warning("read: %s", "two\nlines")
        fields = fields_of(listener.recv(65536))
        handler.close()
    assert fields["MESSAGE"] == "read: two\nlines"
    assert fields["PRIORITY"] == "4"
    assert fields["LOGGER"] == "s3posixfs.fs.files"
    assert fields["S3POSIXFS_MOUNTPOINT"] == "/srv/shared"
    assert fields["CODE_FUNC"] == "test_the_journal_gets_fields"


def test_what_is_too_long_for_a_datagram_goes_as_a_sealed_file(tmp_path: Path) -> None:
    listener, logger, handler = journal(tmp_path)
    long = "x" * 3_000_000
    with listener:
        logger.error(long)
        data, descriptors, _, _ = socket.recv_fds(listener, 100, 1)
        handler.close()
    assert data == b""
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)
        assert fields_of(file.read())["MESSAGE"] == long


def test_a_value_that_looks_like_a_field_is_none() -> None:
    assert fields_of(encode({"MESSAGE": "a\nPRIORITY=0", "B": "c"})) == {
        "MESSAGE": "a\nPRIORITY=0",
        "B": "c",
    }


def test_only_what_systemd_has_connected_is_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "log").open("w") as file:
        assert not is_journal(file)
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(file)
    with (tmp_path / "other").open("w") as other:
        assert not is_journal(other)


def test_a_line_of_json_is_one_line() -> None:
    record = logging.LogRecord("a", logging.ERROR, "f.py", 1, "two\n%s", ("lines",), None)
    text = JsonFormatter().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "two\nlines"


async def eventually(what: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not what():  # noqa: ASYNC110 - a thread does it, which knows no trio event
            await trio.sleep(0.01)


async def test_what_keeps_the_loop_is_named() -> None:
    noted: list[float] = []
    with LoopWatch(noted.append) as watch:
        while not any("test_what_keeps_the_loop" in one.what for one in watch.recent):
            time.sleep(0.2)  # noqa: ASYNC251 - to keep the loop is what is tested
            await trio.lowlevel.checkpoint()
    await eventually(lambda: len(noted) == watch.count)
    assert watch.longest >= 0.005
    assert watch.status()["count"] == watch.count


async def test_every_task_is_in_the_stacks_and_no_value_is() -> None:
    async def waits(secret: str) -> None:
        assert secret
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits, "hunter22")
        await trio.testing.wait_all_tasks_blocked()
        text = "\n".join(stacks(trio.lowlevel.current_root_task()))
        nursery.cancel_scope.cancel()
    assert "waits" in text
    assert "hunter22" not in text
