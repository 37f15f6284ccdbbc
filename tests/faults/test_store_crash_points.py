"""A process is killed before each step that changes the disk: what it leaves can be gone on with.

The steps are those that Python tells audit hooks of: making, linking, renaming and removing names,
owners, times and xattrs. Nothing is simulated: every step is the last one of a real process.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import CompletedPart, Condition
from tests.store.backend_kit import BUCKET, backend_at, facts_of, keys, md5, put, read

KEY = "folder/key"
PARTS = (b"1" * 100, b"2" * 100, b"3" * 7)
WHOLE = b"".join(PARTS)

LOCK = re.compile(r"\d{3}")  # an empty file of which nothing hangs on its being there

STEPS = frozenset(
    f"os.{name}"
    for name in [
        "link",
        "rename",
        "remove",
        "rmdir",
        "mkdir",
        "chown",
        "chmod",
        "utime",
        "setxattr",
        "removexattr",
    ]
)


def act(backend: DirectoryBackend, action: str, upload: str) -> None:
    match action:
        case "complete":
            complete(backend, upload)
        case "abort":
            backend.abort_upload(BUCKET, KEY, upload)
        case "part":
            send(backend, upload, 2)
        case "part copy":
            send(backend, upload, 2, copied=True)
        case "create":
            backend.create_upload(BUCKET, KEY, facts_of())
        case "put":
            put(backend, KEY, b"new")
        case "delete":
            backend.delete(BUCKET, KEY)
        case "rename":
            backend.rename(BUCKET, KEY, "other/key")
        case "rename folder":
            backend.rename_folder(BUCKET, "folder/", "other/new/")


def die_before(left: int) -> None:
    """End this process before it takes another step than ``left``."""

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        made = event == "open" and arguments[2] & os.O_CREAT and not LOCK.fullmatch(arguments[0])
        if event in STEPS or made:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(step)


class Crasher:
    """A root of its own for every step at which a process dies."""

    def __init__(self, folder: Path, kind: str) -> None:
        self._folder = folder
        self._kind = kind
        self.died_at = -1

    def backend(self) -> DirectoryBackend:
        root = self._folder / f"{self.died_at}"
        return backend_at(root, xattrs=self._kind == "xattr")

    def crash(self, action: str, upload: str = "") -> bool:
        """Run an action and die before step ``died_at``; whether it came so far."""
        pid = os.fork()
        if not pid:
            try:
                backend = self.backend()
                die_before(self.died_at)
                act(backend, action, upload)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, -signal.SIGKILL)
        return status != 0

    def steps(self) -> Iterator[DirectoryBackend]:
        """A new root for each step, without end; the backend is the caller's to close."""
        while True:
            self.died_at += 1
            yield self.backend()

    def look_at_leftovers(self, backend: DirectoryBackend, *, open_uploads: int) -> None:
        internal = self._folder / f"{self.died_at}" / ".s3posixfs"
        (scratch,) = (internal / "tmp").iterdir()
        assert list(scratch.iterdir()) == [], "a dead process's temporary files are left"
        uploads = list((internal / "uploads").glob("*/*"))
        assert len(uploads) == open_uploads
        for path in (self._folder / f"{self.died_at}" / BUCKET).rglob("*"):
            assert path.is_dir() or path.stat().st_nlink == 1, f"{path} has a second name"


@pytest.fixture(params=["xattr", "sidecar"])
def crasher(request: pytest.FixtureRequest, tmp_path: Path) -> Crasher:
    return Crasher(tmp_path, request.param)


def send(
    backend: DirectoryBackend,
    upload: str,
    number: int,
    *,
    placed: bool = True,
    copied: bool = False,
) -> None:
    body = PARTS[number - 1]
    length = len(body) if placed else None
    copied_from = len(b"".join(PARTS[: number - 1])) if copied else None
    with backend.begin_part(BUCKET, KEY, upload, number, length, copied_from=copied_from) as part:
        part.write(body)
        part.commit(md5(body))


def complete(backend: DirectoryBackend, upload: str, condition: Condition | None = None) -> str:
    parts = [CompletedPart(number, md5(body)) for number, body in enumerate(PARTS, 1)]
    return backend.complete_upload(
        BUCKET, KEY, upload, parts, condition=condition or Condition()
    ).etag


def begun(backend: DirectoryBackend, how: str = "placed") -> str:
    """An upload of all parts, of which ``edited`` copies the first and the last."""
    upload = backend.create_upload(BUCKET, KEY, facts_of())
    for number in (1, 2, 3):
        copied = how == "edited" and number != 2
        send(backend, upload, number, placed=how != "joined", copied=copied)
    return upload


@pytest.mark.parametrize("how", ["placed", "joined", "edited"])
def test_completing(crasher: Crasher, how: str) -> None:
    for backend in crasher.steps():
        upload = begun(backend, how)
        backend.close()
        died = crasher.crash("complete", upload)
        again = crasher.backend()
        there = keys(again) == [KEY]
        if there:
            assert read(again, KEY) == WHOLE
        uploads = len(again.list_uploads(BUCKET).uploads)
        assert there or uploads == 1, "neither object nor upload"
        assert not there or uploads == 0 or how == "joined", (
            "the object's file is still the upload's"
        )
        crasher.look_at_leftovers(again, open_uploads=uploads)
        # A client that got no answer asks again: also where nothing may be there before.
        etag = complete(again, upload, Condition(if_none_match=True) if uploads else None)
        assert etag.endswith("-3")
        assert read(again, KEY) == WHOLE
        crasher.look_at_leftovers(again, open_uploads=0)
        again.close()
        if not died:
            assert crasher.died_at > 5
            return


def test_aborting(crasher: Crasher) -> None:
    for backend in crasher.steps():
        upload = begun(backend)
        backend.close()
        died = crasher.crash("abort", upload)
        again = crasher.backend()
        uploads = len(again.list_uploads(BUCKET).uploads)
        crasher.look_at_leftovers(again, open_uploads=uploads)
        if uploads:  # then it is whole: no part is lost
            complete(again, upload)
            assert read(again, KEY) == WHOLE
        again.close()
        if not died:
            assert not uploads
            return


@pytest.mark.parametrize("copied", [False, True], ids=["sent", "copied"])
@pytest.mark.parametrize("placed", [True, False], ids=["new", "again"])
def test_sending_a_part(crasher: Crasher, placed: bool, copied: bool) -> None:
    for backend in crasher.steps():
        upload = backend.create_upload(BUCKET, KEY, facts_of())
        for number in (1, 3) if placed else (1, 2, 3):
            send(backend, upload, number, copied=copied)
        backend.close()
        died = crasher.crash("part copy" if copied else "part", upload)
        again = crasher.backend()
        listed = [part.number for part in again.list_parts(BUCKET, KEY, upload).parts]
        assert listed == [1, 2, 3] or (listed == [1, 3] and died and placed)
        if listed == [1, 3]:
            send(again, upload, 2)
        complete(again, upload)
        assert read(again, KEY) == WHOLE
        crasher.look_at_leftovers(again, open_uploads=0)
        again.close()
        if not died:
            return


def test_beginning_an_upload(crasher: Crasher) -> None:
    for backend in crasher.steps():
        backend.close()
        died = crasher.crash("create")
        again = crasher.backend()
        uploads = again.list_uploads(BUCKET).uploads
        crasher.look_at_leftovers(again, open_uploads=len(uploads))
        for upload in uploads:
            again.abort_upload(BUCKET, KEY, upload.upload_id)
        again.close()
        if not died:
            assert len(uploads) == 1
            return


@pytest.mark.parametrize("action", ["put", "delete", "rename"])
def test_objects(crasher: Crasher, action: str) -> None:
    for backend in crasher.steps():
        put(backend, KEY, b"old")
        backend.close()
        died = crasher.crash(action)
        again = crasher.backend()
        found = {key: read(again, key) for key in keys(again)}
        done = {"put": {KEY: b"new"}, "delete": {}, "rename": {"other/key": b"old"}}[action]
        assert found == done or (died and found == {KEY: b"old"})
        for key, body in found.items():
            assert again.head(BUCKET, key).etag == md5(body)
        crasher.look_at_leftovers(again, open_uploads=0)
        put(again, KEY, b"newer")
        assert read(again, KEY) == b"newer"
        again.close()
        if not died:
            return


@pytest.mark.parametrize("replacing", [False, True], ids=["new", "over a marker"])
def test_renaming_a_folder(crasher: Crasher, replacing: bool) -> None:
    """All of the old keys or all of the new ones, and nobody's facts at another's name."""
    bodies = {"": b"", "/": b"", "/key": b"1", "/a": b"beside", "/a/b": b"2", "/empty/": b""}
    old = {f"folder{name}": body for name, body in bodies.items() if name}
    new = {f"other/new{name}": body for name, body in bodies.items() if name}
    for backend in crasher.steps():
        for key, body in {**old, "folder": b"a file"}.items():
            put(backend, key, body, facts_of(body, metadata={"k": key[6:] * 900}))
        if replacing:
            put(backend, "other/new/", b"", facts_of(b"", metadata={"k": "x" * 9000}))
        backend.close()
        died = crasher.crash("rename folder")
        again = crasher.backend()
        found = {key: read(again, key) for key in keys(again)}
        assert found.pop("folder") == b"a file"
        marker = found.pop("other/new/", None) if found.keys() & old.keys() else None
        assert marker is None or replacing
        assert found == new or (died and found == old)
        for key in found:
            rest = key.removeprefix("other/new").removeprefix("folder")
            assert again.head(BUCKET, key).metadata == {"k": rest * 900}
        crasher.look_at_leftovers(again, open_uploads=0)
        if found == old:
            again.rename_folder(BUCKET, "folder/", "other/new/")
        put(again, "folder/key", b"another")
        assert {**new, "folder": b"a file", "folder/key": b"another"} == {
            key: read(again, key) for key in keys(again)
        }
        again.close()
        if not died:
            assert crasher.died_at > 0
            return
