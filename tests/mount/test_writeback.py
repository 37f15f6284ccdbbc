"""Write-back on each store: names that S3 never got, replay after ``kill -9``, conflicts.

The mount reaches the store through a proxy that is cut where nothing may be uploaded yet.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.cuttable_proxy import CuttableProxy
from tests.mount.bed import MEMBERS, Bed
from tests.mount.mount_process import DaemonProcess, setpriv

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.mount
ALICE, BOB = MEMBERS["alice"], MEMBERS["bob"]
LARGE = 3 * 1024 * 1024  # bytes: content in a file of its own beside the journal


@pytest.fixture(scope="module")
def proxy(bed: Bed) -> Iterator[CuttableProxy]:
    with CuttableProxy(urlsplit(bed.endpoint).port or 80) as proxy:
        yield proxy


@contextmanager
def mounted(
    bed: Bed, proxy: CuttableProxy, folder: Path, **options: str
) -> Iterator[DaemonProcess]:
    chosen = {"writeback": "on", "endpoint_url": proxy.url, **options}
    with bed.mount(folder, bed.bucket, chosen) as mount:
        yield mount


def sh(mount: DaemonProcess, script: str, uid: int) -> None:
    """Run a script at the top of the mount, entered by the shell: where it were entered while this
    process waits for its child, the proxy, which is in this process, could not answer."""
    script = f"cd {shlex.quote(str(mount.mountpoint))}; {script}"
    done = subprocess.run(
        [*setpriv(uid), "/bin/sh", "-euc", script], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{script}\n{done.stderr}{mount.log_tail()}"


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """A new file, or another content, with this mode whatever the umask."""
    with path.open("w") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)


def body(client: S3Client, bed: Bed, key: str) -> bytes:
    return client.get_object(Bucket=bed.bucket, Key=key)["Body"].read()


def test_names_that_s3_never_got_survive_a_crash(
    bed: Bed, proxy: CuttableProxy, open_folder: Path, alice: S3Client
) -> None:
    # New names need no word of the store while a listing of the folder is young enough.
    with mounted(bed, proxy, open_folder, metadata_ttl="600") as mount:
        top = mount.mountpoint / "names"
        sh(mount, "mkdir names && chmod 777 names", ALICE)
        for uid in (ALICE, BOB):
            sh(mount, f"umask 0; for n in 1 2 3; do echo old > names/{uid}-$n; done", uid)
        mount.wait_until_stored()
        proxy.refuse()
        # By this process: a shell on a busy machine takes so long from one command to the next that
        # an upload is tried in between, and what S3 may have is renamed in S3.
        with acting_as(ALICE):
            write(top / "made", "a\n")
            (top / "made").rename(top / "moved")
            write(top / "short", "b\n")
            (top / "short").unlink()
            write(top / "large", "\0" * LARGE)
            (top / "large").rename(top / f"{ALICE}-1")
            write(top / "mine", "c\n", 0o600)
            write(top / "twice", "d\n")
            (top / "twice").rename(top / "thrice")
            (top / "thrice").rename(top / "last")
            write(top / "made", "e\n")
        with acting_as(BOB):
            write(top / "bobs", "f\n")
            (top / "bobs").rename(top / f"{BOB}-1")
            write(top / "bobs", "g\n")
            write(top / "bobs-too", "h\n", 0o666)
        sh(mount, "echo i >> names/bobs-too", ALICE)  # it stays bob's
        mount.kill()
        mount.free()
        proxy.mend()
        mount.start()
        for _ in range(2):
            names = {path.name: path.stat() for path in top.iterdir()}
            assert sorted(names) == sorted(
                [
                    *(f"{uid}-{number}" for uid in (ALICE, BOB) for number in (1, 2, 3)),
                    *("moved", "mine", "last", "made", "bobs", "bobs-too"),
                ]
            )
            assert names["mine"].st_mode & 0o777 == 0o600
            assert {name: found.st_uid for name, found in names.items()} == {
                name: BOB if name.startswith(("bob", str(BOB))) else ALICE for name in names
            }
            assert (top / f"{ALICE}-1").read_bytes() == bytes(LARGE)
            assert (top / "moved").read_text() + (top / "made").read_text() == "a\ne\n"
            mount.wait_until_stored()
        owners = bed.owners("names/")
        assert {name: owners[name] for name in names} == {
            name: "bob" if name.startswith(("bob", str(BOB))) else "alice" for name in names
        }
        assert body(alice, bed, f"names/{BOB}-1") == b"f\n"
        assert body(alice, bed, "names/bobs-too") == b"h\ni\n"
        assert body(alice, bed, f"names/{ALICE}-1") == bytes(LARGE)
        assert "short" not in owners


@pytest.mark.parametrize("conflict", ["keep-both", "fail"])
def test_both_changed_it(
    bed: Bed,
    proxy: CuttableProxy,
    open_folder: Path,
    bob: S3Client,
    conflict: str,
) -> None:
    """alice here, bob in S3: an object that she opened before, and a name that was new to both."""
    place = f"both-{conflict}"
    with mounted(bed, proxy, open_folder, conflict=conflict) as mount:
        sh(mount, f"mkdir {place} && printf base > {place}/old", ALICE)
        mount.wait_until_stored()
        with acting_as(ALICE):
            old = os.open(mount.mountpoint / place / "old", os.O_WRONLY)
            new = os.open(mount.mountpoint / place / "new", os.O_WRONLY | os.O_CREAT)
            os.write(old, b"ours")
            os.write(new, b"ours")
        for name in ("old", "new"):
            bob.put_object(Bucket=bed.bucket, Key=f"{place}/{name}", Body=b"bob's")
        os.close(old)
        os.close(new)
        mount.wait_until_stored(but=2 if conflict == "fail" else 0)
        time.sleep(0.5 if conflict == "fail" else 0)
        owners = bed.owners(f"{place}/")
        owners.pop("")
        beside = {name for name in owners if ".conflict-" in name}
        ours = "bob" if conflict == "fail" else "alice"
        assert {name: owners[name] for name in ("old", "new")} == {"old": ours, "new": ours}
        assert len(beside) == (2 if conflict == "keep-both" else 0)
        for name in beside:
            assert owners[name] == "bob"
            assert body(bob, bed, f"{place}/{name}") == b"bob's"
        for name in ("old", "new"):
            wanted = b"bob's" if conflict == "fail" else b"ours"
            assert body(bob, bed, f"{place}/{name}") == wanted
            shown = (mount.mountpoint / place / name).read_bytes()
            assert shown[:4] == b"ours"
        if conflict != "fail":
            return
        found = mount.status()["filesystem"]
        assert found["queued_files"] == found["failing_files"] == 2
        mount.kill()
        mount.free()
        mount.options["conflict"] = "last-writer"
        mount.start()
        mount.wait_until_stored()
        assert body(bob, bed, f"{place}/new") == b"ours"
        assert bed.owners(f"{place}/new")[""] == "alice"
