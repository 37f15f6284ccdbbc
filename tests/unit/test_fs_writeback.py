"""Write-back: what is closed is in the journal, seen at once, and in S3 later.

A crash is a copy of the cache directory, made at some moment, under a new filesystem.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.data.journal import Journal
from s3posixfs.fs import saving
from s3posixfs.fs.attributes import AttributeChanges
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import Conflict, FsConfig
from s3posixfs.fs.uploading import (
    HASTY_SECONDS,
    PATIENCE_SECONDS,
    POLITE_SECONDS,
    URGENT,
    begins_beside_work,
)
from tests.faulty_store import FaultyStore, lost_answer
from tests.filesystem_bed import ALICE, BOB, BUCKET, CAROL, MIB, ROOT, Bed, filesystem_bed

ALWAYS = 10**9
DOWN = S3Error("ConnectionError", "connection refused")


class Stores:
    """Every store of a mount is wrapped; ``down`` makes all of them refuse to write."""

    def __init__(self) -> None:
        self.made: list[FaultyStore] = []

    def __call__(self, store: ObjectStore) -> FaultyStore:
        wrapped = FaultyStore(store)
        self.made.append(wrapped)
        return wrapped

    def fail(self, operation: str, error: Exception, times: int = ALWAYS) -> None:
        for store in self.made:
            store.fail(operation, error, times=times)

    def heal(self) -> None:
        for store in self.made:
            store.clear()

    def puts(self) -> int:
        return sum(store.calls["put"] for store in self.made)


async def stored(bed: Bed) -> tuple[str, ...]:
    return await bed.fs.drain()


def crash(tmp_path: Path, name: str = "after") -> Path:
    """What would be on disk if the machine stopped now, as a folder for another bed."""
    target = tmp_path / name
    shutil.copytree(tmp_path / "cache", target / "cache")
    (target / "cache").chmod(0o700)
    return target


async def test_close_returns_before_the_upload_and_the_file_is_seen(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        stores.fail("put", DOWN)
        await bed.write("a", b"content", ALICE, mode=0o640)
        assert bed.store.keys(BUCKET) == []
        assert await bed.read("a") == b"content"
        assert (await bed.list())["a"].attributes.size == 7
        assert await bed.owner("a") == (ALICE.uid, ALICE.gid)
        assert await bed.mode("a") == "-rw-r-----"
        stores.heal()
        assert await stored(bed) == ()
        assert bed.store.data(BUCKET, "a") == b"content"
        assert bed.s3_owner("a") == "alice"
        assert await bed.read("a") == b"content"


async def test_a_crash_loses_nothing_that_was_closed(tmp_path: Path) -> None:
    stores = Stores()
    big = os.urandom(3 * MIB)
    async with filesystem_bed(tmp_path / "x", writeback=True, wrap=stores) as bed:
        await bed.mkdir("d", mode=0o777)
        stores.fail("put", DOWN)
        stores.fail("create_multipart", DOWN)
        found = await bed.write("d/small", b"small", ALICE)
        await bed.write("d/big", big)
        await bed.write("empty", b"")
        after = crash(tmp_path / "x", "after")
        store = bed.store
    assert store.keys(BUCKET) == ["d/"]
    stores = Stores()
    async with filesystem_bed(after, writeback=True, wrap=stores, store=store) as bed:
        assert set(await bed.list("d")) == {"small", "big"}
        again = await bed.walk("d/small")
        assert again.attributes == found.attributes
        assert again.inode == found.inode
        assert await bed.read("d/big") == big
        assert await bed.read("empty") == b""
        assert await stored(bed) == ()
        assert store.data(BUCKET, "d/small") == b"small"
        assert store.data(BUCKET, "d/big") == big
        assert bed.s3_owner("d/small") == "alice"
        assert bed.fs.status()["queued_files"] == 0
        assert set(await bed.list()) == {"d", "empty"}


async def test_what_is_written_after_close_does_not_change_what_was_closed(tmp_path: Path) -> None:
    stores = Stores()
    for size in (10, 3 * MIB):
        folder = tmp_path / str(size)
        async with filesystem_bed(folder, writeback=True, wrap=stores) as bed:
            stores.fail("put", DOWN)
            await bed.write("a", b"1" * size)
            found = await bed.walk("a")
            opened = await bed.fs.open(found.inode, os.O_RDWR, ROOT)
            await bed.fs.write(opened.handle, 2, b"new")
            after = crash(folder)
            await bed.fs.flush(opened.handle)
            later = crash(folder, "later")
            await bed.fs.release(opened.handle)
            assert (await bed.read("a"))[:6] == b"11new1"
        async with filesystem_bed(after, writeback=True) as bed:
            assert await bed.read("a") == b"1" * size
        async with filesystem_bed(later, writeback=True) as bed:
            assert (await bed.read("a")) == b"11new" + b"1" * (size - 5)
            assert await stored(bed) == ()
            assert bed.store.data(BUCKET, "a")[:6] == b"11new1"


async def test_truncation_of_what_was_closed(tmp_path: Path) -> None:
    for size in (10, 3 * MIB):
        folder = tmp_path / str(size)
        stores = Stores()
        async with filesystem_bed(folder, writeback=True, wrap=stores) as bed:
            stores.fail("put", DOWN)
            await bed.write("a", b"1" * size)
            await bed.setattr("a", AttributeChanges(size=4))
            await bed.setattr("a", AttributeChanges(size=8))
            after = crash(folder)
            assert await bed.read("a") == b"1111\0\0\0\0"
        async with filesystem_bed(after, writeback=True) as bed:
            assert await bed.read("a") == b"1111\0\0\0\0"
            assert await stored(bed) == ()
            assert bed.store.data(BUCKET, "a") == b"1111\0\0\0\0"


async def test_removal_of_a_pending_file_is_durable_and_costs_nothing(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        stores.fail("put", DOWN)
        await bed.write("a", b"content")
        await bed.unlink("a")
        after = crash(tmp_path)
        assert await bed.list() == {}
        assert await stored(bed) == ()
        assert stores.made[0].calls["delete"] == 0
    async with filesystem_bed(after, writeback=True) as bed:
        assert await bed.list() == {}
        assert bed.fs.status()["queued_files"] == 0


async def test_save_as_editors_do_is_one_put(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        bed.put("text", b"old")
        await bed.write("other", b"")
        assert await stored(bed) == ()
        await bed.unlink("other")
        before = stores.puts()
        await bed.write("text.tmp", b"new text")
        await bed.rename("text.tmp", "text")
        after = crash(tmp_path)
        assert set(await bed.list()) == {"text"}
        assert await bed.read("text") == b"new text"
        assert bed.store.data(BUCKET, "text") == b"old"
        assert await stored(bed) == ()
        assert bed.store.data(BUCKET, "text") == b"new text"
        assert bed.store.keys(BUCKET) == ["text"]
        assert stores.puts() == before + 1
        store = bed.store
    async with filesystem_bed(after, writeback=True, store=store) as bed:
        # The crash was before the upload: S3 has this very version, which is no conflict.
        assert await bed.read("text") == b"new text"
        assert await stored(bed) == ()
        assert store.keys(BUCKET) == ["text"]


async def test_rename_over_another_pending_file(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        await bed.write("a", b"a")
        await bed.write("b", b"bbbb")
        await bed.rename("a", "b")
        after = crash(tmp_path)
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == ["b"]
        assert bed.store.data(BUCKET, "b") == b"a"
    async with filesystem_bed(after, writeback=True) as bed:
        assert await bed.read("b") == b"a"
        assert set(await bed.list()) == {"b"}
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == ["b"]


async def test_rename_of_what_s3_has_waits_for_what_it_is_owed(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        bed.put("a", b"old")
        await bed.write("a", b"new")
        await bed.rename("a", "b")
        assert bed.store.keys(BUCKET) == ["b"]
        assert bed.store.data(BUCKET, "b") == b"new"
        await bed.mkdir("d")
        await bed.write("d/x", b"x")
        await bed.rename("d", "e")
        assert bed.store.data(BUCKET, "e/x") == b"x"
        assert await bed.read("e/x") == b"x"


async def test_attributes_of_a_pending_file_are_durable(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        stores.fail("put", DOWN)
        await bed.write("a", b"content", ALICE)
        await bed.chmod("a", 0o600, ALICE)
        found = await bed.walk("a")
        await bed.fs.setxattr(found.inode, b"user.x", b"y", ALICE)
        after = crash(tmp_path)
        store = bed.store
    async with filesystem_bed(after, writeback=True, store=store) as bed:
        assert await bed.mode("a") == "-rw-------"
        again = await bed.walk("a")
        assert await bed.fs.getxattr(again.inode, b"user.x", ALICE) == b"y"
        assert await stored(bed) == ()
        bed.pass_time()
        assert await bed.mode("a") == "-rw-------"
        assert await bed.fs.getxattr(again.inode, b"user.x", ALICE) == b"y"


async def test_a_lost_answer_is_no_conflict(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        for store in stores.made:
            store.fail("put", lost_answer(), times=1, after_effect=True)
        await bed.write("a", b"one")
        with trio.fail_after(20):
            while bed.fs.status()["queued_files"]:  # noqa: ASYNC110
                await trio.sleep(0.05)
        assert bed.store.keys(BUCKET) == ["a"]
        assert bed.store.data(BUCKET, "a") == b"one"


async def test_a_later_version_over_one_whose_answer_was_lost(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        for store in stores.made:
            store.fail("put", lost_answer(), times=1, after_effect=True)
        await bed.write("a", b"one")
        with trio.fail_after(20):
            while not bed.store.keys(BUCKET):  # noqa: ASYNC110
                await trio.sleep(0.01)
        await bed.write("a", b"two!")
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == ["a"]
        assert bed.store.data(BUCKET, "a") == b"two!"


async def test_removal_of_what_may_have_reached_s3(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        for store in stores.made:
            store.fail("put", lost_answer(), times=1, after_effect=True)
        await bed.write("a", b"one")
        with trio.fail_after(20):
            while not bed.store.keys(BUCKET):  # noqa: ASYNC110
                await trio.sleep(0.01)
        await bed.unlink("a")
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == []


async def conflict_bed(tmp_path: Path, conflict: Conflict) -> dict[str, bytes]:
    """Two versions of one file, ours not stored yet: what S3 has in the end."""
    stores = Stores()
    config = FsConfig(bucket=BUCKET, conflict=conflict)
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores, config=config) as bed:
        bed.put("a", b"base")
        stores.fail("put", DOWN)
        await bed.write("a", b"ours")
        await bed.write("new", b"ours")
        bed.put("a", b"theirs", owner="bob")
        bed.put("new", b"theirs", owner="bob")
        stores.heal()
        left = await stored(bed)
        assert bool(left) == (conflict == "fail")
        assert await bed.read("a") == b"ours"
        for key in bed.store.keys(BUCKET):
            if ".conflict-" in key:
                assert bed.s3_owner(key) == "bob"
        return {key: bed.store.data(BUCKET, key) for key in bed.store.keys(BUCKET)}


async def test_conflicts_keep_both(tmp_path: Path) -> None:
    found = await conflict_bed(tmp_path, "keep-both")
    assert found.pop("a") == found.pop("new") == b"ours"
    assert sorted(key.partition(".conflict-")[0] for key in found) == ["a", "new"]
    assert set(found.values()) == {b"theirs"}


async def test_conflicts_last_writer(tmp_path: Path) -> None:
    assert await conflict_bed(tmp_path, "last-writer") == {"a": b"ours", "new": b"ours"}


async def test_conflicts_fail(tmp_path: Path) -> None:
    assert await conflict_bed(tmp_path, "fail") == {"a": b"theirs", "new": b"theirs"}


async def test_a_refused_identity_holds_nobody_up(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return identity != "alice" or not refused or action != "s3:PutObject"

    refused = False
    async with filesystem_bed(tmp_path, writeback=True, authorize=authorize) as bed:
        await bed.write("first", b"1", ALICE)
        assert await stored(bed) == ()
        refused = True
        await bed.write("hers", b"2", ALICE)
        await bed.write("ours", b"3")
        assert await stored(bed) == (f"{BUCKET}/hers",)
        assert bed.store.keys(BUCKET) == ["first", "ours"]
        status = bed.fs.status()
        assert status["refused_by_identity"] == {"alice": 1}
        assert "hers as alice" in str(status["last_error"])
        assert await bed.read("hers") == b"2"
        after = crash(tmp_path)
        store = bed.store
    async with filesystem_bed(after, writeback=True, store=store) as bed:
        bed.signers.without_credentials.add("alice")
        assert await stored(bed) == (f"{BUCKET}/hers",)
        bed.signers.without_credentials.clear()
        refused = False
        assert await stored(bed) == ()
        assert bed.s3_owner("hers") == "alice"


async def test_what_is_removed_after_its_upload_stays_removed(tmp_path: Path) -> None:
    """Also where the machine stopped at once: the journal knew before S3 was asked to delete."""
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        await bed.write("a", b"content")
        assert await stored(bed) == ()
        await bed.unlink("a")
        after = crash(tmp_path)
        store = bed.store
    async with filesystem_bed(after, writeback=True, store=store) as bed:
        assert await bed.list() == {}
        assert await stored(bed) == ()
        assert store.keys(BUCKET) == []


async def test_edits_of_large_objects_are_stored_at_close(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        bed.put("big", bytes(40 * MIB))
        bed.put("small", bytes(1000))
        for name in ("big", "small"):
            found = await bed.walk(name)
            opened = await bed.fs.open(found.inode, os.O_RDWR, ROOT)
            await bed.fs.write(opened.handle, 5, b"x")
            await bed.fs.flush(opened.handle)
            await bed.fs.release(opened.handle)
        assert bed.store.data(BUCKET, "big")[:7] == b"\0\0\0\0\0x\0"
        assert bed.store.data(BUCKET, "small") == bytes(1000)
        assert await stored(bed) == ()
        assert bed.store.data(BUCKET, "small") == b"\0\0\0\0\0x" + bytes(994)


async def test_close_waits_where_too_much_waits(tmp_path: Path) -> None:
    stores = Stores()
    config = FsConfig(bucket=BUCKET, writeback_limit=20_000)
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores, config=config) as bed:
        stores.fail("put", DOWN)
        await bed.write("a", bytes(10_000))
        done = trio.Event()

        async def second() -> None:
            await bed.write("b", bytes(10_000))
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked(0.3)
            assert not done.is_set()
            stores.heal()
            await bed.fs.drain()
            with trio.fail_after(20):
                await done.wait()
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == ["a", "b"]


async def test_open_files_follow_their_uploads(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        parent, name = await bed.split("log", ROOT)
        _, opened = await bed.fs.create(parent, name, 0o644, os.O_CREAT | os.O_RDWR, ROOT)
        content = b""
        for number in range(5):
            line = f"line {number}\n".encode()
            await bed.fs.write(opened.handle, len(content), line)
            content += line
            await bed.fs.fsync(opened.handle, False)
            if number % 2:
                assert await stored(bed) == ()
                assert bed.store.data(BUCKET, "log") == content
            assert bytes(await bed.fs.read(opened.handle, 0, 1000)) == content
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == ["log"]
        assert bed.store.data(BUCKET, "log") == content


async def test_unlinked_while_open_and_pending(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        parent, name = await bed.split("a", ROOT)
        _, opened = await bed.fs.create(parent, name, 0o644, os.O_CREAT | os.O_RDWR, ROOT)
        await bed.fs.write(opened.handle, 0, b"content")
        await bed.fs.fsync(opened.handle, False)
        await bed.unlink("a")
        assert bytes(await bed.fs.read(opened.handle, 0, 100)) == b"content"
        await bed.fs.write(opened.handle, 7, b" and more")
        assert bytes(await bed.fs.read(opened.handle, 0, 100)) == b"content and more"
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert await stored(bed) == ()
        assert bed.store.keys(BUCKET) == []


async def test_without_the_option_what_is_kept_is_not_forgotten(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        stores.fail("put", DOWN)
        await bed.write("a", b"content")
        store = bed.store
    refused = pytest.RaisesExc(OperatorError, match="writeback=on")
    with pytest.RaisesGroup(refused, flatten_subgroups=True):
        async with filesystem_bed(tmp_path, store=store):
            pass
    async with filesystem_bed(tmp_path, writeback=True, store=store) as bed:
        assert await stored(bed) == ()
    async with filesystem_bed(tmp_path, store=store) as bed:
        assert await bed.read("a") == b"content"
        assert stat.S_ISREG((await bed.walk("a")).attributes.mode)
    assert not list((tmp_path / "cache/journal").glob("*.log"))
    assert not list((tmp_path / "cache/staged").iterdir())


async def test_a_lost_note_of_an_upload_takes_no_other_file_for_its_content(tmp_path: Path) -> None:
    """A crash right after an upload: the entry comes back, with its own content or none."""
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        await bed.write("big", b"1" * (3 * MIB))
        before = crash(tmp_path, "before")
        assert await stored(bed) == ()
        store = bed.store
    for path in (before / "cache/staged").iterdir():
        path.unlink()  # as if it had been removed before the journal knew of the upload
    async with filesystem_bed(before, writeback=True, store=store) as bed:
        await bed.write("other", b"2" * (3 * MIB))
        assert await stored(bed) == ()
        again = crash(before, "again")
    async with filesystem_bed(again, writeback=True, store=store) as bed:
        assert await bed.read("big") == b"1" * (3 * MIB)
        assert await bed.read("other") == b"2" * (3 * MIB)
        assert await stored(bed) == ()
        assert sorted(await bed.list()) == ["big", "other"]


async def test_content_is_kept_until_the_journal_knows_of_the_upload(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        await bed.write("big", b"1" * (3 * MIB))
        for number in range(200):
            after = crash(tmp_path, f"after-{number}")
            owed = Journal(after / "cache/journal", origin="memory")
            names = {state.data for state in owed.entries.values()}
            owed.close()
            assert names <= {path.name for path in (after / "cache/staged").iterdir()}
            shutil.rmtree(after)
            if not names:
                break
            await trio.sleep(0.005)
        assert not names


async def shared_file(bed: Bed) -> None:
    """alice's, which bob may write into."""
    await bed.write("a", b"alice's", ALICE, mode=0o666)
    parent, name = await bed.split("a", ALICE)
    found = await bed.fs.lookup(parent, name, ALICE)
    await bed.fs.setattr(found.inode, AttributeChanges(mode=0o666), None, ALICE)


async def append(bed: Bed, data: bytes, caller: Caller) -> None:
    found = await bed.walk("a", caller)
    opened = await bed.fs.open(found.inode, os.O_WRONLY | os.O_APPEND, caller)
    await bed.fs.write(opened.handle, 0, data)
    await bed.fs.flush(opened.handle)
    await bed.fs.release(opened.handle)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_file_stays_whose_it_is(tmp_path: Path, waits: bool) -> None:
    """Whether S3 has it or not when another writes into it, before and after a crash."""
    stores = Stores()
    async with filesystem_bed(tmp_path / "x", writeback=True, wrap=stores) as bed:
        if waits:
            stores.fail("put", DOWN)
        await shared_file(bed)
        assert await stored(bed) == (("shared/a",) if waits else ())
        stores.fail("put", DOWN)
        await append(bed, b", and bob's", BOB)
        assert await bed.owner("a") == (ALICE.uid, ALICE.gid)
        after = crash(tmp_path / "x", "after")
        stores.heal()
        assert await stored(bed) == ()
        assert bed.s3_owner("a") == "alice"
        assert await bed.owner("a") == (ALICE.uid, ALICE.gid)
        assert any(one.calls["copy"] for one in stores.made)
        store = bed.store
    if not waits:
        return  # what the crash left is of a moment before S3 got something else
    async with filesystem_bed(after, writeback=True, wrap=Stores(), store=store) as bed:
        assert await bed.owner("a") == (ALICE.uid, ALICE.gid)
        assert await stored(bed) == ()
        assert bed.s3_owner("a") == "alice"
        assert bed.store.data(BUCKET, "a") == b"alice's, and bob's"
        assert await bed.mode("a") == "-rw-rw-rw-"
        assert bed.store.keys(BUCKET) == ["a"]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_crash_between_an_upload_and_giving_it_back(tmp_path: Path, lost: bool) -> None:
    """``lost``: the copy was made, and only its answer never came."""
    stores = Stores()
    async with filesystem_bed(tmp_path / "x", writeback=True, wrap=stores) as bed:
        await shared_file(bed)
        assert await stored(bed) == ()
        if lost:
            for one in stores.made:
                one.fail("copy", lost_answer(), times=ALWAYS, after_effect=True)
        else:
            stores.fail("copy", DOWN)
        await append(bed, b", and bob's", BOB)
        assert await stored(bed) == ("shared/a",)
        assert bed.store.data(BUCKET, "a") == b"alice's, and bob's"
        assert bed.s3_owner("a") == ("alice" if lost else "bob")
        assert bed.fs.status()["queued_files"] == 1
        after = crash(tmp_path / "x", "after")
        store = bed.store
        stores.heal()
    async with filesystem_bed(after, writeback=True, wrap=Stores(), store=store) as bed:
        assert await bed.owner("a") == (ALICE.uid, ALICE.gid)
        assert await stored(bed) == ()
        assert bed.s3_owner("a") == "alice"
        assert bed.store.data(BUCKET, "a") == b"alice's, and bob's"
        assert bed.store.keys(BUCKET) == ["a"]  # and no conflict


async def test_what_cannot_be_given_back_is_the_writers(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path / "x", writeback=True, wrap=stores) as bed:
        await shared_file(bed)
        assert await stored(bed) == ()
        stores.fail("copy", S3Error("AccessDenied", "no", status=403))
        await append(bed, b", and bob's", BOB)
        assert await bed.owner("a") == (ALICE.uid, ALICE.gid)
        assert await stored(bed) == ()
        assert bed.s3_owner("a") == "bob"
        assert await bed.owner("a") == (BOB.uid, BOB.gid)


async def test_a_change_of_owner_outlives_another_writer(tmp_path: Path) -> None:
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        await shared_file(bed)
        stores.fail("put", DOWN)
        await append(bed, b", and bob's", BOB)
        found = await bed.walk("a", ROOT)
        await bed.fs.setattr(
            found.inode, AttributeChanges(uid=CAROL.uid, gid=CAROL.gid), None, ROOT
        )
        await append(bed, b" again", BOB)
        stores.heal()
        assert await stored(bed) == ()
        assert bed.s3_owner("a") == "carol"
        assert bed.store.data(BUCKET, "a") == b"alice's, and bob's again"


async def test_a_failed_sync_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync(2) would say yes to what the first one lost."""
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        stores.fail("put", DOWN)
        parent, name = await bed.split("a", ALICE)
        _, opened = await bed.fs.create(parent, name, 0o644, os.O_WRONLY, ALICE)
        await bed.fs.write(opened.handle, 0, bytes(3 * MIB))

        def fails(fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", fails)
            with pytest.raises(OSError, match="Input/output error"):
                await bed.fs.fsync(opened.handle, data_only=False)
        with pytest.raises(OSError, match="Input/output error"):
            await bed.fs.flush(opened.handle)
        found = await bed.walk("a", ALICE)
        await bed.fs.setattr(found.inode, AttributeChanges(size=0), opened.handle, ALICE)
        await bed.fs.write(opened.handle, 0, b"again")
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        stores.heal()
        assert await stored(bed) == ()
        assert bed.store.data(BUCKET, "a") == b"again"


@pytest.fixture
def small_cache(tmp_path: Path) -> Iterator[Path]:
    """The cache directory is a filesystem of 24 MiB."""
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    options = ["-o", "size=24m,mode=700"]
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(cache)], check=True)
    yield cache
    subprocess.run(["umount", "--lazy", str(cache)], check=True)


async def test_what_a_refused_write_left_does_not_replace_what_was_closed_before(
    tmp_path: Path, small_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program was told by ``write`` and by ``close``: what it had before is what is owed."""
    monkeypatch.setattr(saving, "RETRY_SECONDS", 0.01)
    stores = Stores()
    async with filesystem_bed(tmp_path, writeback=True, wrap=stores) as bed:
        stores.fail("put", DOWN)
        await bed.write("a", b"closed and acknowledged", ALICE)
        parent, name = await bed.split("a", ALICE)
        flags = os.O_WRONLY | os.O_TRUNC
        _, opened = await bed.fs.create(parent, name, 0o644, flags, ALICE)
        offset = 0
        with pytest.raises(OSError, match="No space"):  # noqa: PT012
            while True:
                offset += await bed.fs.write(opened.handle, offset, bytes(5000))
        ballast = small_cache / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(OSError, match="No space"):
            await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        ballast.unlink()
        await trio.sleep(0.1)
        assert (await bed.walk("a", ALICE)).attributes.size == 23
        assert await bed.read("a", ALICE) == b"closed and acknowledged"
        stores.heal()
        assert await stored(bed) == ()
        assert bed.store.data(BUCKET, "a") == b"closed and acknowledged"
        await bed.write("a", b"and more of it", ALICE)
        assert await stored(bed) == ()
        assert bed.store.data(BUCKET, "a") == b"and more of it"


def test_uploads_come_after_what_programs_do() -> None:
    """Not before one is old; then one after the other, and whom somebody waits for at once."""
    now, last = 1000.0, 1000.0
    young, old = now - 0.1, now - PATIENCE_SECONDS
    assert now < begins_beside_work(now, young, last, half_full=False) < young + PATIENCE_SECONDS
    nearly = old + 0.01
    assert begins_beside_work(now, nearly, last, half_full=False) == nearly + PATIENCE_SECONDS
    assert begins_beside_work(now, old, last, half_full=False) == last + POLITE_SECONDS
    assert begins_beside_work(now, old, last - 1, half_full=False) <= now
    assert begins_beside_work(now, young, last, half_full=True) == last + HASTY_SECONDS
    assert begins_beside_work(now, URGENT, last, half_full=False) == now


async def test_every_operation_of_a_program_counts_as_work(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, writeback=True) as bed:
        await bed.write("a", b"content")
        before = bed.fs.meter.noted_at
        await bed.read("a")
        assert bed.fs.meter.noted_at > before
