"""All keys below a prefix get another beginning in one step: what moves, and what refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.backend.records import CompletedPart
from tests.store.backend_kit import ALICE, BOB, BUCKET, backend_at, facts_of, keys, md5, put, read

REPOSITORY = Path(__file__).parents[2]
LONG = "l" * 300


@pytest.fixture(params=[True, False], ids=["xattr", "sidecar"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DirectoryBackend]:
    made = backend_at(tmp_path / "root", xattrs=request.param)
    yield made
    made.close()


def refusal(backend: DirectoryBackend, source: str, target: str, **options: Any) -> str:
    with pytest.raises(S3Error) as caught:
        backend.rename_folder(BUCKET, source, target, **options)
    return caught.value.code


@pytest.mark.parametrize("source", ["a/b/", "x/", f"{LONG}/", "a/./", "a//", ".~s3~dodd/"])
@pytest.mark.parametrize("target", ["n/", "a/n/", f"a/{LONG}1/", "deep/er/than/that/", "n/../"])
def test_every_key_below_moves(backend: DirectoryBackend, source: str, target: str) -> None:
    rests = ["", "f", "f/g", "g/", "g/h", f"{LONG}/k", "//", ".", "..", "i\0j", "k/l/m/n"]
    for rest in rests:
        key = source + rest
        put(backend, key, rest.encode(), facts_of(rest.encode(), owner_id="bob", owner=BOB))
    others = [source[:-1], target[:-1], source[:-1] + "z/1", "0"]
    for key in others:
        put(backend, key, b"other")
    before = {key: backend.head(BUCKET, key) for key in keys(backend)}
    assert len(before) == len(rests) + len(set(others))
    backend.rename_folder(BUCKET, source, target)
    expected = sorted([*{*others}, *(target + rest for rest in rests)], key=str.encode)
    assert keys(backend) == expected
    for rest in rests:
        record = backend.head(BUCKET, target + rest)
        old = before[source + rest]
        assert (record.etag, record.owner, record.last_modified) == (
            old.etag,
            old.owner,
            old.last_modified,
        )
        assert read(backend, target + rest) == rest.encode()
    for key in set(others):
        assert read(backend, key) == b"other"
    backend.rename_folder(BUCKET, target, source)
    assert {key: backend.head(BUCKET, key) for key in keys(backend)} == before


def test_what_is_at_the_target(backend: DirectoryBackend) -> None:
    put(backend, "a/1")
    assert refusal(backend, "none/", "b/") == "NoSuchKey"
    assert refusal(backend, "a/", "a/b/") == "InvalidRequest"
    assert refusal(backend, "a/1", "b/") == "InvalidRequest"
    backend.rename_folder(BUCKET, "a/", "a/")
    put(backend, "b/x/1")
    for target in ("b/", "b/x/"):
        assert refusal(backend, "a/", target) == "FolderNotEmpty"
    backend.delete(BUCKET, "b/x/1")
    put(backend, "b/", b"a body")
    assert refusal(backend, "a/", "b/") == "FolderNotEmpty"
    put(backend, "b/", b"", facts_of(b"", metadata={"k": "v" * 9000}))
    assert refusal(backend, "a/", "b/", no_replace=True) == "PreconditionFailed"
    backend.rename_folder(BUCKET, "a/", "b/")
    assert keys(backend) == ["b/1"]
    put(backend, "b/c/1")
    assert refusal(backend, "b/c/", "b/") == "FolderNotEmpty"
    longest = "k" * 1000
    put(backend, f"b/{longest}")
    assert refusal(backend, "b/", f"{'n' * 30}/") == "KeyTooLongError"
    assert {key[:2] for key in keys(backend)} == {"b/"}


def test_what_local_programs_left_at_the_target(backend: DirectoryBackend, tmp_path: Path) -> None:
    put(backend, "a/1")
    bucket = tmp_path / "root" / BUCKET
    (bucket / "b/empty/inner").mkdir(parents=True)
    backend.rename_folder(BUCKET, "a/", "b/")
    assert keys(backend) == ["b/1"]
    (bucket / "c/inner").mkdir(parents=True)
    (bucket / "c/inner/link").symlink_to("/etc")
    assert refusal(backend, "b/", "c/") == "InvalidRequest"
    (bucket / "b/link").symlink_to("/etc")
    backend.rename_folder(BUCKET, "b/", "d/")
    assert keys(backend) == ["d/1"]
    assert (bucket / "d/link").is_symlink()


def test_who_permits_is_asked_again_where_keys_changed(backend: DirectoryBackend) -> None:
    put(backend, "a/1")
    asked: list[list[str]] = []

    def permit(names: Iterable[str]) -> None:
        asked.append([])
        for name in names:
            asked[-1].append(name)
            if name == "secret":
                raise S3Error("AccessDenied", status=403)
        if len(asked) == 1:
            put(backend, "a/secret")  # before anything is locked

    assert refusal(backend, "a/", "b/", permit=permit) == "AccessDenied"
    assert asked == [["1"], ["1", "secret"]]
    assert keys(backend) == ["a/1", "a/secret"]


def test_an_upload_in_progress_stays_at_its_key(backend: DirectoryBackend) -> None:
    put(backend, "a/1")
    upload = backend.create_upload(BUCKET, "a/big", facts_of())
    with backend.begin_part(BUCKET, "a/big", upload, 1, 4) as part:
        part.write(b"part")
        part.commit(md5(b"part"))
    backend.rename_folder(BUCKET, "a/", "b/")
    backend.complete_upload(BUCKET, "a/big", upload, [CompletedPart(1, md5(b"part"))])
    assert keys(backend) == ["a/big", "b/1"]


# --- together with others -----------------------------------------------------------------

# Writes at names of both folders, whichever of them there is; says what was acknowledged last.
WRITER = """
import sys
from pathlib import Path
from s3posixfs.core.errors import S3Error
from s3posixfs.store.backend.records import Condition
from tests.store.backend_kit import BUCKET, backend_at, facts_of, md5, put, read
root, name = Path(sys.argv[1]), sys.argv[2]
backend = backend_at(root)
print("ready", flush=True)
sys.stdin.readline()
for number in range(150):
    folder = "ab"[number % 2]
    key = f"{folder}/d{number % 3}/{name}-{number}"
    body = f"{name} {number}".encode()
    put(backend, key, body)
    if number % 5 == 0:
        # Where the folder was renamed meanwhile there is nothing at this name to be removed.
        try:
            backend.delete(BUCKET, key, Condition(if_match=md5(body)))
            print("removed", name, number, flush=True)
        except S3Error as error:
            assert error.code == "NoSuchKey", error
backend.close()
"""


def test_no_write_is_lost_while_folders_move(tmp_path: Path) -> None:
    """Each acknowledged object is there afterwards, once, below one of the two names."""
    backend = backend_at(tmp_path / "root")
    put(backend, "a/d0/first", b"first")
    names = ["p", "q"]
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "root"), name],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    moves = 0
    refusals = set()
    while any(writer.poll() is None for writer in writers):
        try:
            backend.rename_folder(BUCKET, "a/", f"moved/{moves}/")
            moves += 1
        except S3Error as error:  # nobody has written at the old name since
            refusals.add(error.code)
    assert refusals <= {"NoSuchKey"}
    removed = set()
    for writer in writers:
        output, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0
        removed |= {tuple(line.split()[1:]) for line in output.splitlines()}
    found = [key.rpartition("/")[2] for key in keys(backend)]
    expected = {f"{n}-{i}" for n in names for i in range(150) if (n, str(i)) not in removed}
    assert sorted(found) == sorted([*expected, "first"])
    for key in keys(backend):
        if not key.endswith("first"):
            assert read(backend, key) == key.rpartition("/")[2].replace("-", " ").encode()
    assert moves > 3
    backend.close()


def test_readers_see_each_key_at_one_of_its_names(tmp_path: Path) -> None:
    backend = backend_at(tmp_path / "root")
    put(backend, "0/x/key", b"body")
    renames = 60
    passes = 0
    done = threading.Event()

    def rename() -> None:
        for number in range(renames):
            backend.rename_folder(BUCKET, f"{number}/", f"{number + 1}/")
        done.set()

    renamer = threading.Thread(target=rename)
    renamer.start()
    while True:
        last = done.is_set()
        # The names only rise: who goes up through them can't overtake the object.
        for number in range(renames + 1):
            with suppress(S3Error):
                assert read(backend, f"{number}/x/key") == b"body"
                break
        else:
            pytest.fail("the object was at none of its names")
        passes += 1
        if last:
            break
    renamer.join()
    assert passes > 1
    assert keys(backend) == [f"{renames}/x/key"]
    backend.close()


def test_the_owner_of_what_is_made_on_the_way(backend: DirectoryBackend, tmp_path: Path) -> None:
    put(backend, "a/1", b"x", facts_of(b"x", owner=ALICE))
    backend.rename_folder(BUCKET, "a/", "new/er/")
    made = (tmp_path / "root" / BUCKET / "new").stat()
    if os.geteuid() == 0:
        assert (made.st_uid, made.st_gid) == (1001, 1001)
    assert not (tmp_path / "root" / BUCKET / "a").exists()
