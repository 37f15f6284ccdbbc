"""What it costs to rename a folder: seconds, S3 requests, the daemon's memory.

    .venv/bin/python -m benchmarks.rename_folder [--files 10000] [NAME …]

Names: ``one`` (the embedded store, one request), ``each`` (it with RenameObject for each object),
``copies`` (it as a store that renames nothing), ``rgw`` (Ceph RGW). Needs root and /dev/fuse.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.mount.bed import Bed, EmbeddedBed, GatewayBed
from tests.rgw.gateway import running_gateway

CAPABILITIES = {"one": None, "each": "rename_folder:no", "copies": "rename:no", "rgw": None}
FILES_IN_A_FOLDER = 100


@contextmanager
def on_embedded(folder: Path) -> Iterator[Bed]:
    with EmbeddedBed(folder) as bed:
        yield bed


@contextmanager
def on_gateway(folder: Path) -> Iterator[Bed]:
    with running_gateway() as gateway, GatewayBed(gateway) as bed:
        yield bed


def put_all(bed: Bed, files: int) -> None:
    """A folder of folders of small files of alice's."""
    client = bed.s3("alice")

    def put(number: int) -> None:
        key = f"folder/{number // FILES_IN_A_FOLDER}/{number}"
        client.put_object(Bucket=bed.bucket, Key=key, Body=b"x" * 100)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(put, number) for number in range(files)]:
            done.result()
    client.close()


def measure(name: str, files: int) -> None:
    """Rename a folder that the mount has not looked into yet, and print what that took."""
    with tempfile.TemporaryDirectory(prefix="s3posixfs-rename-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        with (on_gateway if name == "rgw" else on_embedded)(folder) as bed:
            put_all(bed, files)
            capabilities = CAPABILITIES[name]
            with bed.mount(folder, bed.bucket, {"capabilities": capabilities}) as mount:
                top = mount.mountpoint
                before = mount.status()["client"]["requests_by_kind"]
                began = time.perf_counter()
                (top / "folder").rename(top / "other")
                seconds = time.perf_counter() - began
                after = mount.status()["client"]["requests_by_kind"]
                kinds = {
                    kind: count - before.get(kind, 0)
                    for kind, count in after.items()
                    if count > before.get(kind, 0)
                }
                peak = mount.resident_bytes()
                assert len(bed.owners("other/")) >= files
                assert not bed.owners("folder/")
    row = {
        "store": name,
        "files": files,
        "seconds": round(seconds, 3),
        "requests": sum(kinds.values()),
        "kinds": kinds,
        "peak_mib": peak >> 20,
    }
    print(json.dumps(row), flush=True)


def main() -> int:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(description="What it costs to rename a folder.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("names", nargs="*", default=list(CAPABILITIES), metavar="NAME")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in CAPABILITIES:
            parser.error(f"there is no {name}: {', '.join(CAPABILITIES)}")
        measure(name, arguments.files)
    return 0


if __name__ == "__main__":
    sys.exit(main())
