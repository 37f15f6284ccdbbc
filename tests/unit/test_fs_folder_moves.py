"""A folder is renamed key by key: refused midway, met by others, cut short and gone on with."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import Capabilities, ObjectStat
from s3posixfs.data.rename_notes import RenameNotes, Step
from s3posixfs.fs import folder_moves
from s3posixfs.fs.config import FsConfig
from s3posixfs.fs.key_pairs import is_copied
from tests.faulty_store import FaultyStore
from tests.filesystem_bed import ALICE, BUCKET, PLAIN, Bed, filesystem_bed
from tests.memory_store import ALL_CAPABILITIES, MemoryStore
from tests.unit.test_fs_names import has_errno

SINGLE = replace(ALL_CAPABILITIES, rename_folder=False)
KEYS = [f"d/{n:02d}" for n in range(40)]


class Faults:
    """The wrappers that a bed has put round its stores."""

    def __init__(self) -> None:
        self.stores: list[FaultyStore] = []

    def wrap(self, store: ObjectStore) -> ObjectStore:
        self.stores.append(FaultyStore(store))
        return self.stores[-1]


def notes(folder: Path) -> list[dict[str, str]]:
    return [json.loads(path.read_text()) for path in folder.rglob("renames/*.json")]


async def filled(bed: Bed) -> None:
    for key in KEYS:
        bed.put(key, key.encode(), owner="alice", metadata={"kept": key})
    await bed.chown("d", 1001, 1001)


def renamed(bed: Bed) -> bool:
    """Whether all is at the new name; all is at one."""
    found = bed.store.keys(BUCKET)
    new = sorted(["e/", *(key.replace("d/", "e/") for key in KEYS)])
    assert found in (new, sorted(["d/", *KEYS]))
    for key in KEYS:
        key = key.replace("d/", "e/") if found == new else key
        assert bed.store.data(BUCKET, key) == key.replace("e/", "d/").encode()
        assert bed.s3_owner(key) == "alice"
    return found == new


@pytest.mark.parametrize("capabilities", [SINGLE, PLAIN], ids=["single", "plain"])
@pytest.mark.parametrize("skip", [0, 7, 39])
async def test_a_failure_midway_is_undone(
    tmp_path: Path, capabilities: Capabilities, skip: int
) -> None:
    faults = Faults()
    async with filesystem_bed(tmp_path, capabilities=capabilities, wrap=faults.wrap) as bed:
        await filled(bed)
        operation = "rename" if capabilities.rename_object else "copy"
        alice = bed.signers.for_name("alice")
        assert alice is not None
        assert isinstance(alice.store, FaultyStore)
        alice.store.fail(operation, S3Error("AccessDenied", status=403), skip=skip)
        with has_errno(errno.EACCES):
            await bed.rename("d", "e", ALICE)
        assert not renamed(bed)
        assert notes(tmp_path) == []
        assert bed.fs.status()["unfinished_renames"] == 0
        alice.store.clear()
        await bed.rename("d", "e", ALICE)
        assert renamed(bed)


async def test_a_refusal_to_delete_midway_brings_back_what_is_gone(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (action == "s3:DeleteObject" and key == "d/20" and identity == "alice")

    async with filesystem_bed(tmp_path, capabilities=PLAIN, authorize=authorize) as bed:
        await filled(bed)
        with has_errno(errno.EACCES):
            await bed.rename("d", "e", ALICE)
        assert not renamed(bed)
        assert notes(tmp_path) == []


async def test_others_write_below_meanwhile(tmp_path: Path) -> None:
    """What they replaced since it was listed, and what they made, goes along."""
    faults = Faults()
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=faults.wrap) as bed:
        await filled(bed)
        held = [store.hold("copy") for store in faults.stores]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bed.rename, "d", "e", ALICE)
            while not any(store.running["copy"] for store in faults.stores):
                await trio.lowlevel.checkpoint()
            bed.put("d/05", b"replaced", owner="bob")
            bed.put("d/new", b"made", owner="bob")
            await bed.store.delete(BUCKET, "d/06")
            for event in held:
                event.set()
        assert bed.store.data(BUCKET, "e/05") == b"replaced"
        assert (bed.s3_owner("e/05"), bed.s3_owner("e/07")) == ("bob", "alice")
        assert bed.store.data(BUCKET, "e/new") == b"made"
        expected = {"e/", "e/new", *(key.replace("d/", "e/") for key in KEYS)} - {"e/06"}
        assert set(bed.store.keys(BUCKET)) == expected


async def left_behind(folder: Path, store: MemoryStore, step: Step, identity: str) -> None:
    """What a daemon leaves that was killed in a step, half way."""
    notes_of = RenameNotes(folder / "cache/renames", "")
    await notes_of.add((BUCKET, "d/"), (BUCKET, "e/"), identity, step, over_marker=False)
    alice = store.acting_as("alice")
    done = KEYS if step in ("removing", "restoring") else KEYS[:20]
    for key in done:
        await alice.copy(BUCKET, key, BUCKET, key.replace("d/", "e/"))
    gone = KEYS[:20] if step in ("removing", "restoring", "renaming", "returning") else []
    for key in gone:
        await alice.delete(BUCKET, key)


@pytest.mark.parametrize(
    ("step", "forwards"),
    [
        ("copying", True),
        ("removing", True),
        ("renaming", True),
        ("undoing", False),
        ("restoring", False),
        ("returning", False),
    ],
)
async def test_what_a_crash_left_is_gone_on_with(
    tmp_path: Path, step: Step, forwards: bool, caplog: pytest.LogCaptureFixture
) -> None:
    by_renaming = step in ("renaming", "returning")
    capabilities = SINGLE if by_renaming else PLAIN
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        await filled(bed)
        store = bed.store
    await left_behind(tmp_path, store, step, "alice")
    assert len(notes(tmp_path)) == 1
    async with filesystem_bed(tmp_path, store=store) as bed:
        assert renamed(bed) is forwards
        assert notes(tmp_path) == []
        assert bed.fs.status()["unfinished_renames"] == 0
    assert "which was interrupted" in caplog.text


async def test_a_rename_that_may_not_be_finished_is_taken_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "bob" and key == "e/30")

    async with filesystem_bed(tmp_path, capabilities=PLAIN, authorize=authorize) as bed:
        await filled(bed)
        store = bed.store
    await left_behind(tmp_path, store, "copying", "bob")
    async with filesystem_bed(tmp_path, store=store) as bed:
        assert not renamed(bed)
        assert notes(tmp_path) == []
    assert "taken back" in caplog.text


@pytest.mark.parametrize(
    "config", [FsConfig(bucket=BUCKET, read_only=True), FsConfig(bucket=BUCKET, prefix="x/")]
)
async def test_what_this_mount_is_not_to_do_is_kept_and_said(
    tmp_path: Path, config: FsConfig, caplog: pytest.LogCaptureFixture
) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        await filled(bed)
        store = bed.store
    await left_behind(tmp_path, store, "copying", "alice")
    before = store.keys(BUCKET)
    async with filesystem_bed(tmp_path, store=store, config=config) as bed:
        status = bed.fs.status()
        assert status["unfinished_renames"] == 1
        assert "shared/d/ to shared/e/" in str(status["rename_error"])
    assert store.keys(BUCKET) == before
    assert "shared/d/ to shared/e/" in caplog.text
    async with filesystem_bed(tmp_path, store=store) as bed:
        assert renamed(bed)


async def until(happened: Callable[[], bool]) -> None:
    with trio.fail_after(20):
        while not happened():  # noqa: ASYNC110 - the store is not told who waits
            await trio.sleep(0.001)


def alices(bed: Bed) -> FaultyStore:
    alice = bed.signers.for_name("alice")
    assert alice is not None
    assert isinstance(alice.store, FaultyStore)
    return alice.store


async def overwrite(bed: Bed, name: str, data: bytes) -> None:
    for attempt in range(2):
        inode = (await bed.walk(name, ALICE)).inode
        try:
            handle = (await bed.fs.open(inode, os.O_WRONLY | os.O_TRUNC, ALICE)).handle
            break
        except OSError as error:  # the kernel looks the name up again, too
            if attempt or error.errno != errno.ESTALE:
                raise
    try:
        await bed.fs.write(handle, 0, data)
        await bed.fs.flush(handle)
    finally:
        await bed.fs.release(handle)


async def test_what_programs_write_beside_a_late_end_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mount answers already while it ends a renaming: what it is about to remove under the old
    name must not be what a program has stored there since."""
    monkeypatch.setattr(folder_moves, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(folder_moves, "AGAIN_SECONDS", 0.05)
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        await filled(bed)
        store = bed.store
    await left_behind(tmp_path, store, "removing", "alice")
    faults = Faults()
    async with filesystem_bed(tmp_path, store=store, wrap=faults.wrap) as bed:
        alice = alices(bed)
        held = alice.hold("delete_many")
        await until(lambda: alice.running["delete_many"] > 0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(overwrite, bed, "d/30", b"by a program")
            await trio.sleep(0.1)
            held.set()
        await until(lambda: not bed.fs.status()["unfinished_renames"])
        assert bed.store.data(BUCKET, "d/30") == b"by a program"
        assert bed.store.data(BUCKET, "e/30") == b"d/30"
        assert notes(tmp_path) == []


@pytest.mark.parametrize("step", ["renaming", "undoing"])
async def test_what_was_written_under_the_new_name_after_a_crash_stays(
    tmp_path: Path, step: Step
) -> None:
    """Also of the same size as what is at the old name still."""
    async with filesystem_bed(
        tmp_path, capabilities=SINGLE if step == "renaming" else PLAIN
    ) as bed:
        await filled(bed)
        store = bed.store
    await left_behind(tmp_path, store, step, "alice")
    key = "e/30" if step == "renaming" else "e/05"
    await trio.sleep(0.002)
    store.acting_as("alice").put_now(BUCKET, key, b"mine")
    async with filesystem_bed(tmp_path, store=store) as bed:
        assert bed.store.data(BUCKET, key) == b"mine"
        assert notes(tmp_path) == []
        left = [name for name in bed.store.keys(BUCKET) if name.endswith(key[1:])]
        assert left == ([key] if step == "renaming" else ["d/05", key])


async def test_what_listings_of_others_show_meanwhile(tmp_path: Path) -> None:
    """S3 lists no moment: a key may be in a listing twice, or not at all. Looked up by its name
    it is always at one of the two."""
    faults = Faults()
    async with filesystem_bed(tmp_path, capabilities=PLAIN, wrap=faults.wrap) as bed:
        await filled(bed)
        alice = alices(bed)
        held = alice.hold("delete_many")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bed.rename, "d", "e", ALICE)
            await until(lambda: alice.running["delete_many"] > 0)
            for key in KEYS:
                assert {key, key.replace("d/", "e/")} <= set(bed.store.keys(BUCKET))
            held.set()
        assert renamed(bed)
        first = await bed.store.list_objects(BUCKET, max_keys=5)
        await bed.rename("e", "c", ALICE)  # before what has been listed
        rest = await bed.store.list_objects(BUCKET, token=first.next_token)
        shown = [row.key for row in (*first.objects, *rest.objects)]
        assert "e/30" not in shown
        assert "c/30" not in shown
        assert bed.store.data(BUCKET, "c/30") == b"d/30"


def stat(etag: str, modified: float, size: int = 1) -> ObjectStat:
    return ObjectStat("k", size, etag, modified)


@pytest.mark.parametrize(
    ("old", "new", "copied"),
    [
        (stat("a", 5), None, False),
        (stat("a", 5), stat("a", 4), True),  # the same, whatever clocks say
        (stat("a", 5), stat("b", 6), True),  # written over the copy
        (stat("a", 5), stat("b", 5), False),  # of one second: copied once more
        (stat("a", 5), stat("b", 4), False),  # the original was replaced
        (stat("a-2", 5), stat("b", 5), True),  # parts joined: another ETag
        (stat("a-2", 5, 9), stat("b", 5), False),
        (stat("a-2", 5), stat("b-2", 6), True),
        (stat("a-2", 7), stat("b-2", 6), False),
    ],
)
def test_what_counts_as_a_copy(old: ObjectStat, new: ObjectStat | None, copied: bool) -> None:
    assert is_copied(old, new) is copied


async def test_what_others_have_at_the_new_name_is_not_written_over(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        await filled(bed)
        await bed.list("")
        bed.put("e/theirs", b"theirs")
        with has_errno(errno.ENOTEMPTY):
            await bed.rename("d", "e", ALICE)
        assert bed.store.data(BUCKET, "e/theirs") == b"theirs"
        assert notes(tmp_path) == []


async def test_a_note_of_another_endpoint_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = RenameNotes(tmp_path / "renames", "http://first")
    path = await first.add(("b", "d/"), ("b", "e/"), "alice", "copying", over_marker=False)
    other = RenameNotes(tmp_path / "renames", "http://other")
    assert other.own == ()
    assert "http://first" in caplog.text
    mine = await other.add(("b", "x/"), ("b", "y/"), "bob", "renaming", over_marker=True)
    assert mine != path
    again = RenameNotes(tmp_path / "renames", "http://first")
    ((found, note),) = again.own
    assert (found, note.identity, note.step) == (path, "alice", "copying")
    await again.reached(path, "removing")
    assert RenameNotes(tmp_path / "renames", "http://first").own[0][1].step == "removing"
    await again.remove(path)
    assert RenameNotes(tmp_path / "renames", "http://first").own == ()


async def test_damaged_notes_are_said_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "renames"
    folder.mkdir()
    (folder / "3.json").write_text("{")
    (folder / "4.new").write_text("half")
    assert RenameNotes(folder, "o").own == ()
    assert "3.json" in caplog.text
    assert (folder / "3.json").exists()
    assert not (folder / "4.new").exists()
