"""The journal's promise: the longest valid prefix of what was written, and never a wrong record."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from s3posixfs.core.errors import OperatorError
from s3posixfs.data.direct_writer import DirectWriter
from s3posixfs.data.journal import RESERVE_BYTES, Journal
from s3posixfs.data.journal_records import (
    RECORD_HEADER,
    SEGMENT_HEADER,
    Blob,
    PendingState,
    decode_record,
    encode_header,
    encode_record,
)

ORIGIN = "http://store"


def state(entry: int, key: str = "key", size: int = 3) -> PendingState:
    return PendingState(
        entry=entry,
        operation="put",
        bucket="bucket",
        key=key,
        identity="alice",
        posix=(0o100644, 1, 2, size, 4, 5, 6),
        metadata={"uid": "1", "ctime": "1.5"},
        content_type=None,
        headers={"cache-control": "none"},
        base="etag",
        lineage=(("1", 2),),
        data=None,
        since=1.5,
    )


def image(count: int = 4) -> tuple[bytes, list[tuple[int, PendingState, bytes]]]:
    """A segment of some records; where each ends, its state and its content."""
    data = bytearray(encode_header(1))
    written: list[tuple[int, PendingState, bytes]] = []
    for number in range(1, count + 1):
        content = bytes([number]) * (number * 7)
        owed = state(number, size=len(content))
        pieces, states = encode_record(1, len(data), number, (owed,), (), content)
        for piece in pieces:
            data += piece
        written.append((len(data), states[0], content))
    return bytes(data), written


def opened(folder: Path, segment: bytes) -> Journal:
    (folder / "staged").mkdir(parents=True)
    (folder / "journal").mkdir()
    (folder / "journal/0000000000000001.log").write_bytes(segment)
    return Journal(folder / "journal", origin=ORIGIN, segment_bytes=64 * 1024 + RESERVE_BYTES)


def read(segment: bytes) -> list[PendingState]:
    """The states that a segment's records give, without the disk."""
    found: list[PendingState] = []
    offset, expected = SEGMENT_HEADER.size, None
    while (taken := decode_record(memoryview(segment), 1, offset, expected)) is not None:
        record, offset = taken
        expected = record.sequence + 1
        found.extend(record.states)
    return found


def test_records_come_back_as_they_were() -> None:
    data, written = image()
    assert read(data) == [owed for _, owed, _ in written]
    for _, owed, content in written:
        assert isinstance(owed.data, Blob)
        assert data[owed.data.offset : owed.data.offset + owed.data.length] == content


def test_every_truncation_gives_the_longest_prefix() -> None:
    data, written = image()
    for length in range(SEGMENT_HEADER.size, len(data) + 1):
        whole = [owed for end, owed, _ in written if end <= length]
        assert read(data[:length]) == whole
        assert read(data[:length] + bytes(100)) == whole


def test_every_flipped_bit_ends_what_is_read() -> None:
    data, written = image(3)
    for position in range(SEGMENT_HEADER.size, len(data)):
        before = [owed for end, owed, _ in written if end <= position]
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            assert read(bytes(damaged)) == before


def test_a_record_elsewhere_is_no_record() -> None:
    data, written = image(2)
    second = data[written[0][0] :]
    moved = data[: written[0][0]] + second + second  # a repeated one
    assert len(read(moved)) == 2
    assert decode_record(memoryview(data), 2, SEGMENT_HEADER.size, None) is None  # of a segment 2


@pytest.mark.parametrize("cut", [1, 20, 40, 90, 200])
def test_a_cut_tail_is_said_and_the_journal_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: int
) -> None:
    data, written = image()
    kept = [owed for end, owed, _ in written if end <= len(data) - cut]
    journal = opened(tmp_path, data[:-cut])
    assert list(journal.entries.values()) == kept
    ends = [SEGMENT_HEADER.size, *(end for end, _, _ in written)]
    assert ("was cut at byte" in caplog.text) == (len(data) - cut not in ends)
    journal.close()
    again = Journal(tmp_path / "journal", origin=ORIGIN)
    assert list(again.entries.values()) == kept
    again.close()


def test_damage_before_other_segments_sets_those_aside(tmp_path: Path) -> None:
    data, _ = image()
    (tmp_path / "journal").mkdir()
    later = encode_header(2)
    pieces, _ = encode_record(2, len(later), 5, (state(9),), (), b"abc")
    (tmp_path / "journal/0000000000000002.log").write_bytes(later + b"".join(pieces))
    (tmp_path / "staged").mkdir()
    (tmp_path / "journal/0000000000000001.log").write_bytes(data[:-1] + b"\xff")
    journal = Journal(tmp_path / "journal", origin=ORIGIN)
    assert [owed.entry for owed in journal.entries.values()] == [1, 2, 3]
    assert (tmp_path / "journal/0000000000000002.damaged").exists()
    journal.close()


def test_what_is_owed_elsewhere_is_refused(tmp_path: Path) -> None:
    data, _ = image()
    journal = opened(tmp_path, data)
    journal.close()
    with pytest.raises(OperatorError, match="http://store"):
        Journal(tmp_path / "journal", origin="http://other")


@asynccontextmanager
async def running(
    folder: Path, segment_bytes: int = 512 * 1024, *, direct: bool = True
) -> AsyncIterator[Journal]:
    (folder / "staged").mkdir(parents=True, exist_ok=True)
    journal = Journal(folder / "journal", origin=ORIGIN, segment_bytes=segment_bytes, direct=direct)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        yield journal
        nursery.cancel_scope.cancel()
    journal.close()


async def test_ways_of_writing_go_on_where_the_other_ended(tmp_path: Path) -> None:
    """What the kernel writes in whole blocks and what a thread writes, in turns and over ends."""
    chance = random.Random(11)
    expected: dict[str, bytes] = {}
    for life in range(6):
        segment = RESERVE_BYTES + 700_000
        async with running(tmp_path, segment, direct=life % 3 != 2) as journal:
            for _ in range(25):
                content = chance.randbytes(chance.choice([1, 50, 3000, 4096, 9000, 200_000]))
                owed = state(journal.next_entry(), key=str(len(expected)), size=len(content))
                await journal.append([owed], content=content)
                expected[owed.key] = content
            found: dict[str, bytes] = {}
            for kept in journal.entries.values():
                assert isinstance(kept.data, Blob)
                extent = journal.extent(kept.data)
                found[kept.key] = os.pread(extent.file.fd, extent.length, extent.offset)
                await extent.file.release()
            assert found == expected


async def test_a_filesystem_that_wants_no_direct_writes_gets_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some say so only when the write has begun: then nothing of it may be there twice."""
    refusals = 0
    end = DirectWriter.end

    async def refuses(writer: DirectWriter) -> None:
        nonlocal refusals
        await end(writer)
        refusals += 1
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(DirectWriter, "end", refuses)
    async with running(tmp_path) as journal:
        for key in "abc":
            await journal.append([state(journal.next_entry(), key=key)], content=b"one")
    assert refusals <= 1
    async with running(tmp_path) as journal:
        assert [owed.key for owed in journal.entries.values()] == ["a", "b", "c"]


async def test_many_at_once_share_their_writes(tmp_path: Path) -> None:
    async with running(tmp_path) as journal, trio.open_nursery() as nursery:
        for number in range(500):
            owed = state(journal.next_entry(), key=str(number))

            async def one(owed: PendingState = owed) -> None:
                states = await journal.append([owed], content=owed.key.encode() * 50)
                assert isinstance(states[0].data, Blob)

            nursery.start_soon(one)
    async with running(tmp_path) as journal:
        assert sorted(int(owed.key) for owed in journal.entries.values()) == list(range(500))
        for owed in journal.entries.values():
            assert isinstance(owed.data, Blob)
            extent = journal.extent(owed.data)
            content = os.pread(extent.file.fd, extent.length, extent.offset)
            assert content == owed.key.encode() * 50
            await extent.file.release()


async def test_space_comes_back(tmp_path: Path) -> None:
    """Segments go when what is in them is done, also where one entry stays for ever."""
    async with running(tmp_path) as journal:
        stays = state(journal.next_entry(), key="stays")
        await journal.append([stays], content=b"stays")
        for _ in range(200):
            owed = state(journal.next_entry())
            await journal.append([owed], content=bytes(20_000))
            journal.note_gone(owed.entry)
            for kept in journal.oldest():
                assert isinstance(kept.data, Blob)
                await journal.append([kept], content=b"stays")
        await journal.settle()
        assert journal.bytes_on_disk <= 6 * 512 * 1024
        assert [owed.key for owed in journal.entries.values()] == ["stays"]
    async with running(tmp_path) as journal:
        assert [owed.key for owed in journal.entries.values()] == ["stays"]


async def test_what_ended_stays_ended(tmp_path: Path) -> None:
    """Random lives of entries over small segments, read back after each."""
    chance = random.Random(7)
    expected: dict[int, str] = {}
    for _ in range(6):
        async with running(tmp_path, RESERVE_BYTES + 40_000) as journal:
            assert {e: owed.key for e, owed in journal.entries.items()} == expected
            for _ in range(60):
                action = chance.random()
                if action < 0.5 or not expected:
                    owed = state(journal.next_entry(), key=str(chance.random()))
                    await journal.append([owed], content=bytes(chance.randrange(1, 3000)))
                    expected[owed.entry] = owed.key
                elif action < 0.7:
                    entry = chance.choice(list(expected))
                    moved = replace(journal.entries[entry], key=str(chance.random()))
                    await journal.append([moved])
                    expected[entry] = moved.key
                else:
                    entry = chance.choice(list(expected))
                    if action < 0.85:
                        await journal.append(gone=[entry])
                    else:
                        journal.note_gone(entry)
                    del expected[entry]
            await journal.settle()
    assert RECORD_HEADER.size == 20


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("operation", ["pwrite", "fdatasync", "direct"])
async def test_what_the_disk_refused_is_never_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    """Who asked is told the disk's errno; the journal goes on as soon as the disk does."""
    failing = False

    def fails(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            result = real(*arguments)  # what it did is on the disk all the same
            if failing:
                raise OSError(code, os.strerror(code))
            return result

        return call

    async def told(writer: DirectWriter) -> None:
        await end(writer)  # it is on the disk all the same
        if failing:
            raise OSError(code, os.strerror(code))

    direct, end = operation == "direct", DirectWriter.end
    monkeypatch.setattr(DirectWriter, "end", told)
    if hasattr(os, operation):
        monkeypatch.setattr(os, operation, fails(getattr(os, operation)))
    async with running(tmp_path / "x", direct=direct) as journal:
        await journal.append([state(journal.next_entry(), key="before")], content=b"one")
        failing = True

        async def refused(key: str) -> None:
            with pytest.raises(OSError, match=os.strerror(code)) as raised:
                await journal.append([state(journal.next_entry(), key=key)], content=b"two")
            assert raised.value.errno == code

        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(refused, f"no {number:02}")
        journal.note_gone(17)
        with pytest.raises(OSError, match=os.strerror(code)):
            await journal.settle()
        failing = False
        # As long as the first of those refused: the second one is whole behind it.
        await journal.append([state(journal.next_entry(), key="after")], content=b"two")
        await journal.settle()
        shutil.copytree(tmp_path / "x", tmp_path / "crash")
    for folder in ("x", "crash"):
        async with running(tmp_path / folder) as journal:
            assert [owed.key for owed in journal.entries.values()] == ["before", "after"]
