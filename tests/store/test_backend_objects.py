"""Single objects of the directory backend: what is stored, who owns it, and what is refused."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3posixfs.core.clock import OffsetClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.attributes import XATTR_NAME
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.problems import from_os_error
from s3posixfs.store.backend.records import Condition, ObjectFacts
from tests.store.backend_kit import (
    ALICE,
    BOB,
    BUCKET,
    NASTY,
    backend_at,
    facts_of,
    keys,
    md5,
    put,
    read,
)


@pytest.fixture(params=[True, False], ids=["xattr", "sidecar"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path / "root", xattrs=request.param)
    yield made
    made.close()


@pytest.fixture
def folder(backend: DirectoryBackend, tmp_path: Path) -> Path:
    return tmp_path / "root" / BUCKET


def refused(code: str) -> pytest.RaisesExc[S3Error]:
    return pytest.RaisesExc(S3Error, check=lambda error: error.code == code)


def names_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_an_object_is_a_plain_file_of_its_owner(backend: DirectoryBackend, folder: Path) -> None:
    facts = ObjectFacts(
        "alice",
        ALICE,
        etag=md5(b"hello"),
        metadata={"mtime": "1.5", "ключ": "wert"},
        headers={"content-type": "text/plain", "cache-control": "no-store"},
        checksums={"crc32c": "mnG7TA=="},
        checksum_type="FULL_OBJECT",
        tags={"project": "x"},
    )
    stored = put(backend, "a/b.txt", b"hello", facts)
    assert (folder / "a/b.txt").read_bytes() == b"hello"
    assert stored.facts() == facts
    assert stored.size == 5
    assert backend.head(BUCKET, "a/b.txt") == stored
    assert read(backend, "a/b.txt") == b"hello"
    info = (folder / "a/b.txt").stat()
    assert stat.S_IMODE(info.st_mode) == 0o644
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o755
    if os.geteuid() == 0:
        assert (info.st_uid, info.st_gid) == (1001, 1001)
        assert (folder / "a").stat().st_uid == 1001


def test_a_put_replaces_and_leaves_nothing_behind(
    backend: DirectoryBackend, tmp_path: Path
) -> None:
    put(backend, "k", b"old", facts_of(b"old", metadata={"big": "x" * 6000}))
    put(backend, "k", b"newer", facts_of(b"newer", owner_id="bob", owner=BOB))
    assert read(backend, "k") == b"newer"
    assert backend.head(BUCKET, "k").owner_id == "bob"
    backend.delete(BUCKET, "k")
    assert keys(backend) == []
    internal = tmp_path / "root/.s3posixfs"
    left = [p for p in (internal / "sidecars").rglob("*") if p.is_file()]
    # Without xattrs the bucket's own facts are in one.
    assert len(left) <= 1
    assert [p for p in (internal / "tmp").rglob("*") if p.is_file()] == []


def test_a_reader_keeps_the_version_it_opened(backend: DirectoryBackend) -> None:
    big = {"big": "x" * 6000}
    put(backend, "k", b"old", facts_of(b"old", metadata=big))
    with backend.open_object(BUCKET, "k") as opened:
        put(backend, "k", b"new!", facts_of(b"new!"))
        assert os.read(opened.fd, 100) == b"old"
        assert opened.record.etag == md5(b"old")
        assert opened.record.metadata == big
    assert backend.head(BUCKET, "k").etag == md5(b"new!")


@pytest.mark.parametrize("key", NASTY, ids=lambda key: repr(key)[:20])
def test_every_key_comes_back(backend: DirectoryBackend, key: str, tmp_path: Path) -> None:
    before = {p for p in tmp_path.rglob("*") if "root" not in p.parts}
    put(backend, key, b"body")
    assert read(backend, key) == b"body"
    assert keys(backend) == [key]
    assert {p for p in tmp_path.rglob("*") if "root" not in p.parts} == before
    assert backend.delete(BUCKET, key)
    assert keys(backend) == []
    assert list((tmp_path / "root" / BUCKET).iterdir()) == []


def test_all_of_them_at_once_in_either_order(backend: DirectoryBackend, folder: Path) -> None:
    for order in (NASTY, NASTY[::-1]):
        for key in order:
            put(backend, key, key.encode())
        assert keys(backend) == sorted(NASTY, key=str.encode)
        for key in order:
            assert read(backend, key) == key.encode()
        for key in order[::2] + order[1::2]:
            assert backend.delete(BUCKET, key)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "code"),
    [("", "InvalidArgument"), ("x" * 1025, "KeyTooLongError"), ("\ud800", "InvalidURI")],
)
def test_what_is_no_key(backend: DirectoryBackend, key: str, code: str) -> None:
    with refused(code):
        backend.begin_put(BUCKET, key)
    with refused(code):
        backend.head(BUCKET, key)


def test_conditions(backend: DirectoryBackend) -> None:
    new = Condition(if_none_match=True)
    with refused("NoSuchKey"):
        put(backend, "k", b"x", condition=Condition(if_match=md5(b"x")))
    first = put(backend, "k", b"1", condition=new)
    with refused("PreconditionFailed"):
        put(backend, "k", b"2", condition=new)
    with refused("PreconditionFailed"):
        put(backend, "k", b"2", condition=Condition(if_match=md5(b"other")))
    assert read(backend, "k") == b"1"
    put(backend, "k", b"2", condition=Condition(if_match=first.etag))
    put(backend, "k", b"3", condition=Condition(if_match="*"))
    with refused("PreconditionFailed"):
        backend.delete(BUCKET, "k", Condition(if_match=first.etag))
    assert backend.delete(BUCKET, "k", Condition(if_match=md5(b"3")))
    assert not backend.delete(BUCKET, "k")
    with refused("NoSuchKey"):
        backend.delete(BUCKET, "k", Condition(if_match="*"))


def test_an_aborted_put_leaves_the_old(backend: DirectoryBackend, tmp_path: Path) -> None:
    put(backend, "k", b"old")
    with backend.begin_put(BUCKET, "k") as pending:
        pending.write(b"half")
    assert read(backend, "k") == b"old"
    assert [p for p in (tmp_path / "root/.s3posixfs/tmp").rglob("*") if p.is_file()] == []


def test_marker_objects(backend: DirectoryBackend, folder: Path) -> None:
    facts = facts_of(metadata={"mode": "16877"})
    marker = put(backend, "d/", b"", facts)
    assert (folder / "d").is_dir()
    assert list((folder / "d").iterdir()) == []
    assert backend.head(BUCKET, "d/") == marker
    assert marker.metadata == {"mode": "16877"}
    assert read(backend, "d/") == b""
    put(backend, "d/f")
    backend.delete(BUCKET, "d/f")
    assert keys(backend) == ["d/"]  # an empty directory that is an object stays
    put(backend, "d/", b"with a body")
    assert read(backend, "d/") == b"with a body"
    assert keys(backend) == ["d/"]
    put(backend, "d/", b"")
    assert backend.head(BUCKET, "d/").size == 0
    with refused("PreconditionFailed"):
        put(backend, "d/", b"", condition=Condition(if_none_match=True))
    with refused("NoSuchKey"):
        backend.head(BUCKET, "d")
    assert backend.delete(BUCKET, "d/")
    assert list(folder.iterdir()) == []


def test_deleting_prunes_only_what_is_empty(backend: DirectoryBackend, folder: Path) -> None:
    put(backend, "a/b/c/1")
    put(backend, "a/b/2")
    backend.delete(BUCKET, "a/b/c/1")
    assert names_below(folder) == ["a", "a/b", "a/b/2"]
    backend.delete(BUCKET, "a/b/2")
    assert names_below(folder) == []


def test_delete_many(backend: DirectoryBackend, folder: Path) -> None:
    wanted = ["a", "a/b", "a/c", "d/", "e/f/g", "x" * 300, "d/body/"]
    for key in wanted:
        put(backend, key, b"" if key == "d/" else b"x")
    put(backend, "stays")
    failed = backend.delete_many(BUCKET, [*wanted, "none", "k" * 1025, ""])
    assert {key: error.code for key, error in failed.items()} == {
        "k" * 1025: "KeyTooLongError",
        "": "InvalidArgument",
    }
    assert keys(backend) == ["stays"]
    assert names_below(folder) == ["stays"]
    with refused("NoSuchBucket"):
        backend.delete_many("none", ["a"])


def test_folders_below_a_setgid_directory_are_open_to_all(
    backend: DirectoryBackend, folder: Path
) -> None:
    (folder / "team").mkdir()
    (folder / "team").chmod(0o2775)
    put(backend, "team/a/b")
    assert stat.S_IMODE((folder / "team/a").stat().st_mode) & 0o5777 == 0o755
    assert (folder / "team/a").stat().st_uid == 1001


def test_a_folder_whose_maker_died_is_finished(backend: DirectoryBackend, folder: Path) -> None:
    (folder / "half").mkdir()
    (folder / "half").chmod(0o1700)
    put(backend, "half/k")
    assert stat.S_IMODE((folder / "half").stat().st_mode) == 0o755


def test_set_metadata_keeps_bytes_etag_and_inode(backend: DirectoryBackend, folder: Path) -> None:
    before = put(backend, "k", b"body")
    inode = (folder / "k").stat().st_ino
    wanted = ObjectFacts("bob", BOB, metadata={"uid": "7"}, tags={"a": "b"})
    changed = backend.set_metadata(BUCKET, "k", wanted, Condition(if_match=before.etag))
    assert changed == backend.head(BUCKET, "k")
    assert (changed.etag, changed.checksums, changed.size) == (before.etag, before.checksums, 4)
    assert (changed.owner_id, changed.owner, changed.metadata) == ("bob", BOB, {"uid": "7"})
    assert changed.headers == {}
    assert changed.last_modified > before.last_modified
    assert (folder / "k").stat().st_ino == inode
    with refused("PreconditionFailed"):
        backend.set_metadata(BUCKET, "k", wanted, Condition(if_match="other"))
    with refused("NoSuchKey"):
        backend.set_metadata(BUCKET, "other", wanted)


def test_facts_may_grow_and_shrink(backend: DirectoryBackend, tmp_path: Path) -> None:
    put(backend, "k", b"body")
    sizes = []
    for length in (10, 9000, 20, 8000, 8001, 5):
        metadata = {"m": "x" * length}
        backend.set_metadata(BUCKET, "k", facts_of(metadata=metadata))
        record = backend.head(BUCKET, "k")
        assert record.metadata == metadata
        assert record.etag == md5(b"body")
        sidecars = (tmp_path / "root/.s3posixfs/sidecars").rglob("*")
        sizes.append(len([p for p in sidecars if p.is_file()]))
    assert sizes in ([0, 1, 0, 1, 1, 0], [2] * 6)  # with xattrs, and without (the bucket's too)


def test_set_tags_keeps_the_time(backend: DirectoryBackend) -> None:
    before = put(backend, "k")
    after = backend.set_tags(BUCKET, "k", {"a": "1"})
    assert after == replace(before, tags={"a": "1"}) == backend.head(BUCKET, "k")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a", "b"),
        ("a", "x/y/z"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("d/", "e/"),
        ("d/", "f"),
        ("a", "g/"),
        ("x" * 300, "y" * 300),
        ("a", ".."),
    ],
    ids=lambda key: key[:8],
)
def test_rename(backend: DirectoryBackend, source: str, target: str) -> None:
    body = b"" if source.endswith("/") else b"body"
    before = put(backend, source, body)
    put(backend, "other/key")
    moved = backend.rename(BUCKET, source, target)
    assert moved == replace(before, key=target)
    assert backend.head(BUCKET, target) == moved
    assert read(backend, target) == body
    assert keys(backend) == sorted([target, "other/key"], key=str.encode)


def test_rename_conditions(backend: DirectoryBackend, folder: Path) -> None:
    put(backend, "a", b"a")
    put(backend, "b", b"b")
    with refused("PreconditionFailed"):
        backend.rename(BUCKET, "a", "b", no_replace=True)
    with refused("PreconditionFailed"):
        backend.rename(BUCKET, "a", "c", source_if_match=md5(b"b"))
    with refused("PreconditionFailed"):
        backend.rename(BUCKET, "a", "b", if_match=md5(b"a"))
    with refused("NoSuchKey"):
        backend.rename(BUCKET, "none", "c")
    inode = (folder / "a").stat().st_ino
    backend.rename(BUCKET, "a", "b", source_if_match=md5(b"a"), if_match=md5(b"b"))
    assert (folder / "b").stat().st_ino == inode
    assert read(backend, "b") == b"a"
    assert backend.rename(BUCKET, "b", "b").etag == md5(b"a")


def test_copy(backend: DirectoryBackend) -> None:
    source = put(backend, "a", b"body" * 1000)
    with backend.open_object(BUCKET, "a") as opened:
        copied = backend.copy(opened, BUCKET, "b/c", ObjectFacts("bob", BOB, metadata={"n": "1"}))
        with refused("PreconditionFailed"):
            backend.copy(opened, BUCKET, "b/c", facts_of(), Condition(if_none_match=True))
    assert (copied.etag, copied.size, copied.owner_id) == (source.etag, 4000, "bob")
    assert read(backend, "b/c") == b"body" * 1000
    put(backend, "d/", b"")
    with backend.open_object(BUCKET, "d/") as opened:
        backend.copy(opened, BUCKET, "e/", replace(facts_of(), etag=""))
        backend.copy(opened, BUCKET, "f", replace(facts_of(), etag=""))
    assert read(backend, "e/") == read(backend, "f") == b""


# --- files of local programs -------------------------------------------------------------


def test_a_local_file_is_an_object_of_its_uids_user(
    backend: DirectoryBackend, folder: Path
) -> None:
    (folder / "sub").mkdir()
    path = folder / "sub/local"
    path.write_bytes(b"local")
    os.chown(path, 1002, 1002)
    record = backend.head(BUCKET, "sub/local")
    assert (record.owner_id, record.owner, record.size) == ("bob", BOB, 5)
    assert record.etag.endswith("-1")
    assert keys(backend) == ["sub/local"]
    os.chown(path, 4242, 4242)
    assert backend.head(BUCKET, "sub/local").owner_id == "posix:4242"
    path.write_bytes(b"local, longer")
    assert backend.head(BUCKET, "sub/local").etag != record.etag
    with refused("PreconditionFailed"):
        put(backend, "sub/local", condition=Condition(if_match=record.etag))


def test_a_local_change_shows_even_at_the_same_size(
    backend: DirectoryBackend, folder: Path
) -> None:
    before = put(backend, "k", b"body", facts_of(b"body", metadata={"m": "1"}))
    with (folder / "k").open("r+b") as file:
        file.write(b"BODY")
    after = backend.head(BUCKET, "k")
    assert after.etag != before.etag
    assert after.checksums == {}
    assert after.etag == backend.head(BUCKET, "k").etag
    kept = backend.set_metadata(BUCKET, "k", facts_of(metadata={"m": "2"}))
    assert kept.etag == after.etag


def test_chown_by_root_gives_an_object_to_another_user(
    backend: DirectoryBackend, folder: Path
) -> None:
    put(backend, "k", b"body", facts_of(b"body", metadata={"m": "1"}))
    os.chown(folder / "k", 1002, 1002)
    record = backend.head(BUCKET, "k")
    assert (record.owner_id, record.owner) == ("bob", BOB)
    assert (record.etag, record.metadata) == (md5(b"body"), {"m": "1"})


def test_facts_cannot_be_forged_or_borrowed(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root", xattrs=True)
    folder = tmp_path / "root" / BUCKET
    admin = facts_of(b"", owner_id="admin", owner=PosixOwner(0, 0), metadata={"uid": "0"})
    put(backend, "of-admin", b"", admin)
    borrowed = os.getxattr(folder / "of-admin", XATTR_NAME)
    path = folder / "of-bob"
    path.write_bytes(b"")
    os.chown(path, 1002, 1002)
    os.setxattr(path, XATTR_NAME, borrowed)
    assert backend.head(BUCKET, "of-bob").owner_id == "bob"
    for forged in (b"", b"\x01", b"\x01" + b"x" * 40, borrowed[:-1] + b"!", b"\x02", b"\x02short"):
        os.setxattr(path, XATTR_NAME, forged)
        record = backend.head(BUCKET, "of-bob")
        assert (record.owner_id, record.metadata) == ("bob", {})
    # A pointer to another's sidecar does not let its holder remove that sidecar.
    put(backend, "big", b"", replace(admin, metadata={"m": "x" * 6000}))
    os.setxattr(path, XATTR_NAME, os.getxattr(folder / "big", XATTR_NAME))
    backend.delete(BUCKET, "of-bob")
    assert backend.head(BUCKET, "big").metadata == {"m": "x" * 6000}
    backend.close()


def test_symlinks_and_special_files_are_no_objects(
    backend: DirectoryBackend, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(outside / "secret")
    (folder / "folder").symlink_to(outside)
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        previous = Path.cwd()
        os.chdir(folder)
        try:
            server.bind("socket")
        finally:
            os.chdir(previous)
    assert keys(backend) == []
    for key in ("link", "folder/secret", "folder", "loop", "fifo", "socket"):
        with refused("NoSuchKey"):
            backend.head(BUCKET, key)
        assert not backend.delete(BUCKET, key)
    with refused("InvalidRequest"):
        put(backend, "folder/new")
    with refused("InvalidRequest"):
        put(backend, "fifo/new")
    put(backend, "link", b"mine")  # takes the name, does not follow it
    assert (outside / "secret").read_bytes() == b"secret"
    assert read(backend, "link") == b"mine"
    assert sorted(p.name for p in outside.iterdir()) == ["secret"]


def test_empty_local_directories_and_odd_names_are_not_listed(
    backend: DirectoryBackend, folder: Path
) -> None:
    (folder / "empty/deeper").mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe")).write_bytes(b"no UTF-8")
    (folder / ".~s3~oa%zz").write_bytes(b"nothing the store would write")
    (folder / ".~s3~da").mkdir()
    (folder / ".~s3~da/x").write_bytes(b"")
    assert keys(backend) == []
    assert backend.list(BUCKET, delimiter="/").prefixes == ()


# --- buckets -----------------------------------------------------------------------------


def test_buckets(backend: DirectoryBackend, tmp_path: Path) -> None:
    made = backend.create_bucket("second", "bob", BOB)
    assert backend.bucket("second") == made
    assert (made.owner_id, made.owner) == ("bob", BOB)
    with refused("BucketAlreadyOwnedByYou"):
        backend.create_bucket("second", "bob", BOB)
    with refused("BucketAlreadyExists"):
        backend.create_bucket("second", "alice", ALICE)
    (tmp_path / "root/by-hand").mkdir()
    (tmp_path / "root/Not_A_Bucket").mkdir()
    (tmp_path / "root/a-file").write_bytes(b"")
    (tmp_path / "root/a-link").symlink_to("second")
    assert [b.name for b in backend.list_buckets()] == [BUCKET, "by-hand", "second"]
    by_hand = backend.bucket("by-hand")
    assert by_hand.owner.uid == os.geteuid()
    if os.geteuid() == 0:
        assert by_hand.owner_id == "admin"
    for name in ("none", "a-link", "a-file", ".s3posixfs", "..", "", "a/b"):
        with refused("NoSuchBucket"):
            backend.bucket(name)
    with refused("BucketAlreadyExists"):
        backend.create_bucket("a-link", "bob", BOB)


@pytest.mark.parametrize("name", ["ab", "A" * 4, "a..b", "-ab", "10.0.0.1", "x" * 64, "a_b", "a\n"])
def test_names_that_no_bucket_may_have(backend: DirectoryBackend, name: str) -> None:
    with refused("InvalidBucketName"):
        backend.create_bucket(name, "alice", ALICE)


def test_deleting_a_bucket(backend: DirectoryBackend, folder: Path) -> None:
    put(backend, "a/b")
    (folder / "empty/deeper").mkdir(parents=True)
    backend.put_document(BUCKET, "policy", b"{}")
    upload = backend.create_upload(BUCKET, "k", facts_of())
    with refused("BucketNotEmpty"):
        backend.delete_bucket(BUCKET)
    assert (folder / "empty/deeper").exists()
    backend.delete(BUCKET, "a/b")
    put(backend, "d/", b"")
    with refused("BucketNotEmpty"):
        backend.delete_bucket(BUCKET)
    backend.delete(BUCKET, "d/")
    backend.delete_bucket(BUCKET)
    with refused("NoSuchBucket"):
        backend.delete_bucket(BUCKET)
    with refused("NoSuchBucket"):
        backend.begin_put(BUCKET, "k")
    backend.create_bucket(BUCKET, "bob", BOB)
    assert backend.get_document(BUCKET, "policy") is None
    with refused("NoSuchUpload"):
        backend.upload(BUCKET, "k", upload)


def test_a_bucket_that_goes_during_a_put(backend: DirectoryBackend) -> None:
    with backend.begin_put(BUCKET, "k") as pending:
        backend.delete_bucket(BUCKET)
        with refused("NoSuchBucket"):
            pending.commit(facts_of())


def test_documents(backend: DirectoryBackend) -> None:
    assert backend.get_document(BUCKET, "policy") is None
    backend.delete_document(BUCKET, "policy")
    backend.put_document(BUCKET, "policy", b"one")
    backend.put_document(BUCKET, "policy", b"two")
    assert backend.get_document(BUCKET, "policy") == b"two"
    backend.delete_document(BUCKET, "policy")
    assert backend.get_document(BUCKET, "policy") is None
    with refused("NoSuchBucket"):
        backend.put_document("none", "policy", b"")
    with pytest.raises(ValueError, match="no kind"):
        backend.get_document(BUCKET, "../x")


# --- the root ----------------------------------------------------------------------------


def test_what_is_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    clock = OffsetClock()
    first = backend_at(tmp_path / "root", clock=clock)
    stored = put(first, "a/b", b"body", facts_of(b"body", metadata={"m": "x" * 5000}))
    first.close()
    second = backend_at(tmp_path / "root", clock=clock)
    assert second.head(BUCKET, "a/b") == stored
    second.close()
    assert (tmp_path / "root/.s3posixfs").stat().st_mode & 0o777 == 0o700
    assert list((tmp_path / "root/.s3posixfs/tmp").iterdir()) == []


def test_a_root_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OperatorError, match="can't use"):
        backend_at(tmp_path / "file", bucket=False)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OperatorError):
        backend_at(tmp_path / "file/below", bucket=False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_leaks_descriptors(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    put(backend, "a/b")

    def everything() -> None:
        put(backend, "a/b", b"1", facts_of(b"1", metadata={"m": "x" * 5000}))
        put(backend, "a", b"1")
        put(backend, "d/", b"")
        backend.rename(BUCKET, "d/", "e/")
        backend.rename(BUCKET, "a", "c")
        backend.set_metadata(BUCKET, "c", facts_of())
        keys(backend)
        backend.list(BUCKET, delimiter="/", max_keys=1)
        backend.delete_many(BUCKET, ["a/b", "none"])
        for key in ("c", "e/", "none"):
            backend.delete(BUCKET, key)
        with refused("PreconditionFailed"):
            backend.delete(BUCKET, put(backend, "x").key, Condition(if_match="y"))
        with refused("PreconditionFailed"):
            put(backend, "x", condition=Condition(if_none_match=True))
        with refused("BucketNotEmpty"):
            backend.delete_bucket(BUCKET)

    everything()
    before = len(os.listdir("/proc/self/fd"))
    everything()
    assert len(os.listdir("/proc/self/fd")) == before
    backend.close()


def test_errors_of_the_disk_become_s3_errors() -> None:
    full = from_os_error(OSError(errno.ENOSPC, "No space left on device", "/secret/path"))
    assert (full.code, full.status) == ("StorageFull", 507)
    odd = from_os_error(OSError(errno.EIO, "Input/output error", "/secret/path"))
    assert (odd.code, odd.status) == ("InternalError", 500)
    assert "secret" not in str(full) + str(odd)
