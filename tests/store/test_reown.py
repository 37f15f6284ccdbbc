"""``user update --reown``: what a user has follows its POSIX ids, while the store runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.cli.reown import reown_objects
from s3posixfs.core.clock import OffsetClock
from s3posixfs.core.types import PosixOwner
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import ObjectFacts
from s3posixfs.store.state import State
from tests.conftest import make_open_folder
from tests.store_process import PROGRAM, StoreProcess, User

NEW = (7001, 7002)
PART = b"p" * 5 * 1024 * 1024


def ids(path: Path) -> tuple[int, int]:
    stat = path.lstat()
    return stat.st_uid, stat.st_gid


@pytest.fixture
def store() -> Iterator[StoreProcess]:
    folder = make_open_folder()
    with StoreProcess(folder / "store") as store:
        yield store
        assert store.stop() == 0
        assert "Traceback" not in store.log.read_text()
    subprocess.run(["rm", "-rf", str(folder)], check=True)


@pytest.fixture
def alice(store: StoreProcess) -> User:
    return store.add_user("alice", 1001, policy="readwrite")


@pytest.fixture
def client(store: StoreProcess, alice: User) -> Iterator[Any]:
    client = store.s3(alice)
    client.create_bucket(Bucket="photos")
    yield client
    client.close()


def reown(store: StoreProcess, *more: str) -> Any:
    ids = ["--posix-uid", str(NEW[0]), "--posix-gid", str(NEW[1])]
    command = ["user", "update", "alice", "--reown", "--root", str(store.root), "--json"]
    return json.loads(store.command(*command, *(more or ids)).stdout)


def test_all_of_hers_and_nothing_else(store: StoreProcess, client: Any) -> None:
    bob: Any = store.s3(store.add_user("bob", 1002, policy="readwrite"))
    for key in ("a", "a/b", "deep/er/file", "marker/", "..", "x" * 300):
        client.put_object(Bucket="photos", Key=key, Body=b"" if key[-1] == "/" else b"data",
                          Metadata={"kept": "yes"}, Tagging="t=1")  # fmt: skip
    bob.put_object(Bucket="photos", Key="bobs", Body=b"bob")
    bob.put_object(Bucket="photos", Key="deep/bobs", Body=b"bob")
    bob.create_bucket(Bucket="bobs-own")
    client.put_object(Bucket="bobs-own", Key="guest/file", Body=b"data")
    dropped = store.root / "photos/dropped"
    dropped.write_bytes(b"by a local program")
    os.chown(dropped, 1001, 1001)
    foreign = store.root / "photos/foreign"
    foreign.write_bytes(b"of nobody's")
    os.chown(foreign, 1234, 1234)
    upload = client.create_multipart_upload(Bucket="photos", Key="parts")["UploadId"]
    part = client.upload_part(
        Bucket="photos", Key="parts", UploadId=upload, PartNumber=1, Body=PART
    )
    before = {entry["Key"]: entry for entry in listing(client, "photos")}

    shown = reown(store)

    assert (shown["uid"], shown["gid"]) == NEW
    assert (shown["reowned_objects"], shown["reowned_buckets"], shown["reowned_uploads"]) == (
        8, 1, 1,
    )  # fmt: skip
    client.complete_multipart_upload(
        Bucket="photos", Key="parts", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    root = store.root
    after = {entry["Key"]: entry for entry in listing(client, "photos")}
    after.pop("parts")
    assert after == before
    assert after["dropped"]["Owner"]["ID"] == "alice"
    for path in ("photos", "photos/a/b", "photos/a", "photos/deep", "photos/deep/er",
                 "photos/deep/er/file", "photos/marker", "photos/dropped", "photos/parts",
                 "bobs-own/guest", "bobs-own/guest/file"):  # fmt: skip
        assert ids(root / path) == NEW, path
    for path in ("photos/bobs", "photos/deep/bobs", "bobs-own"):
        assert ids(root / path) == (1002, 1002), path
    assert ids(foreign) == (1234, 1234)
    # The directories that hold pieces of a name too long for one are nobody's to look at.
    left = [path for path in (root / "photos").rglob("*") if ids(path) == (1001, 1001)]
    assert all(path.is_dir() and path.name.startswith(".~s3~") for path in left), left
    head = client.head_object(Bucket="photos", Key="a/b")
    assert head["Metadata"] == {"kept": "yes"}
    assert client.get_object_tagging(Bucket="photos", Key="a/b")["TagSet"]
    assert client.get_object(Bucket="photos", Key="a")["Body"].read() == b"data"
    again = reown(store)
    assert again["reowned_objects"] == again["reowned_folders"] == again["reowned_buckets"] == 0
    bob.close()


def listing(client: Any, bucket: str) -> list[Any]:
    return list(client.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"])


def test_while_she_writes(store: StoreProcess, alice: User, client: Any) -> None:
    """No write is lost or torn, and none that was under way keeps the old ids."""
    written: dict[str, bytes] = {}
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(number: int) -> None:
        own: Any = store.s3(alice)
        count = 0
        try:
            while not stop.is_set():
                # New keys, and the same ones over and over.
                for key in (f"w{number}/{count}", f"w{number}/same"):
                    body = f"{number}-{count}".encode()
                    own.put_object(Bucket="photos", Key=key, Body=body)
                    written[key] = body
                    assert own.get_object(Bucket="photos", Key=key)["Body"].read() == body
                if count % 3 == 0:
                    own.delete_object(Bucket="photos", Key=f"w{number}/{count}")
                    del written[f"w{number}/{count}"]
                count += 1
        except BaseException as failure:
            failures.append(failure)
        finally:
            own.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    while len(written) < 60 and not failures:
        stop.wait(0.02)
    reown(store)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert {entry["Key"] for entry in listing(client, "photos")} == set(written)
    for key, body in written.items():
        assert client.get_object(Bucket="photos", Key=key)["Body"].read() == body
        assert ids(store.root / "photos" / key) == NEW


def test_what_was_interrupted_is_taken_up(store: StoreProcess, client: Any) -> None:
    for number in range(300):
        client.put_object(Bucket="photos", Key=f"folder/{number}", Body=b"x")
    dropped = store.root / "photos/zz-dropped"
    dropped.write_bytes(b"local")
    os.chown(dropped, 1001, 1001)
    process = subprocess.Popen(
        [PROGRAM, "user", "update", "alice", "--posix-uid", "7001", "--posix-gid", "7002",
         "--reown", "--root", str(store.root), "--state", str(store.state)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    folder = store.root / "photos/folder"
    while not any(ids(path) == NEW for path in folder.iterdir()) and process.poll() is None:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait(20)
    assert ids(dropped) == (1001, 1001)
    # As a crash between a file's owner and its facts leaves it.
    os.chown(folder / "299", *NEW)
    reown(store, "--enable")
    assert all(ids(path) == NEW for path in folder.iterdir())
    assert ids(dropped) == NEW
    owners = {entry["Owner"]["ID"] for entry in listing(client, "photos")}
    assert owners == {"alice"}
    with State.open(store.state) as state:
        assert state.left_owners("alice") == ()


def test_ids_that_another_user_has_are_not_taken_for_hers(store: StoreProcess) -> None:
    """The new uid is bob's, who had it first: what local programs of that uid made stays his."""
    store.add_user("bob", NEW[0], policy="readwrite")
    client: Any = store.s3(store.add_user("alice", 1001, policy="readwrite"))
    client.create_bucket(Bucket="photos")
    bobs = store.root / "photos/bobs"
    bobs.write_bytes(b"local")
    os.chown(bobs, NEW[0], 5)
    client.put_object(Bucket="photos", Key="hers", Body=b"x")
    assert reown(store)["reowned_objects"] == 1
    assert ids(bobs) == (NEW[0], 5)
    owners = {entry["Key"]: entry["Owner"]["ID"] for entry in listing(client, "photos")}
    assert owners == {"bobs": "bob", "hers": "alice"}
    client.close()


def test_refusals(store: StoreProcess, alice: User, tmp_path: Path) -> None:
    update = ("user", "update", "alice", "--posix-uid", "7001")
    assert store.command(*update, "--reown", check=False).returncode == 2
    assert store.command(*update, "--root", str(store.root), check=False).returncode == 2
    wrong = store.command(*update, "--reown", "--root", str(tmp_path), check=False)
    assert wrong.returncode == 1
    assert "no store's folder" in wrong.stderr
    assert list(tmp_path.iterdir()) == []
    # What is refused changes nothing at all.
    shown = json.loads(store.command("user", "show", "alice", "--json").stdout)
    assert shown["uid"] == 1001


def test_without_xattrs(open_folder: Path) -> None:
    root = open_folder / "objects"
    clock = OffsetClock()
    with State.open(open_folder / "state", create=True) as state:
        state.add_user("alice", owner=PosixOwner(1001, 1001))
        backend = DirectoryBackend(root, user_of_uid=state.user_of_uid, clock=clock, xattrs=False)
        with closing(backend):
            backend.create_bucket("photos", "alice", PosixOwner(1001, 1001))
            with backend.begin_put("photos", "a/b") as pending:
                pending.write(b"data")
                facts = ObjectFacts("alice", PosixOwner(1001, 1001), "e" * 32, {"kept": "yes"})
                before = pending.commit(facts)
            state.update_user("alice", uid=7001, gid=7002, reown=True)
            backend.reowning.object("photos", "a/b", "alice", PosixOwner(*NEW))
            after = backend.head("photos", "a/b")
        assert ids(root / "photos/a/b") == NEW
        assert (after.etag, after.metadata, after.last_modified) == (
            before.etag, before.metadata, before.last_modified,
        )  # fmt: skip
        assert after.owner == PosixOwner(*NEW)
        assert reown_objects(state, "alice", root).complete
