"""A PostgreSQL server with its data on a mount of the embedded store, by hand:

::

    python -m tests.faults.postgres_rounds [--writeback on] [--scale 1] [--seconds 20]

It needs Debian's ``postgresql``. initdb, ``pgbench -i``, a run of pgbench, a crash of the server
(SIGQUIT) and its recovery, a check of every table and index (pg_amcheck) and of pgbench's sums, an
orderly stop, a mount anew, and the check once more. Prints how long each took.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.mount.bed import BUCKET, add_people
from tests.mount.mount_process import MountProcess, setpriv
from tests.store_process import StoreProcess

SETTINGS = {
    "listen_addresses": "''",
    "shared_buffers": "32MB",
    "max_wal_size": "128MB",
    "min_wal_size": "32MB",
    "dynamic_shared_memory_type": "posix",
}
SUMS = """
select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
   and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)
   and (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history)
"""


def programs() -> Path:
    """The folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise SystemExit("PostgreSQL is missing: apt-get install postgresql")
    return found[-1].parent


class Server:
    """One server as the user postgres; its socket in a local folder."""

    def __init__(self, data: Path, folder: Path) -> None:
        user = pwd.getpwnam("postgres")
        self.uid, self.gid = user.pw_uid, user.pw_gid
        self._data, self._folder, self._bin = data, folder, programs()

    def run(self, program: str, *arguments: str, seconds: float = 900.0) -> str:
        """A program of PostgreSQL's; what it printed."""
        done = subprocess.run(
            [*setpriv(self.uid, self.gid), str(self._bin / program), *arguments],
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PGHOST": str(self._folder), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{program} failed\n{done.stdout}{done.stderr}{self._log()}")
        return done.stdout

    def _log(self) -> str:
        log = self._folder / "server.log"
        return log.read_text()[-3000:] if log.exists() else ""

    def start(self) -> None:
        log = str(self._folder / "server.log")
        self.run("pg_ctl", "-D", str(self._data), "-l", log, "-w", "-t", "600", "start")

    def stop(self, mode: str) -> None:
        self.run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "-t", "600", "stop")

    def check(self) -> None:
        """Every table and index is whole, and the sums are those of the transactions."""
        if (self._bin / "pg_amcheck").exists():
            self.run("pg_amcheck", "--install-missing", "--heapallindexed", "-d", "postgres")
        if self.run("psql", "-d", "postgres", "-Atc", SUMS).strip() != "t":
            raise SystemExit("the sums of pgbench are not right")

    def prepare(self) -> None:
        self.run("initdb", "-D", str(self._data), "-A", "trust", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            for name, value in {**SETTINGS, "unix_socket_directories": f"'{self._folder}'"}.items():
                settings.write(f"{name} = {value}\n")


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def rounds(folder: Path, *, writeback: bool, scale: int, seconds: int) -> None:
    """All of it; SystemExit with what failed."""
    with StoreProcess(folder / "store") as store:
        add_people(store)
        options = {"writeback": "on" if writeback else "off"}
        with MountProcess(store, folder / "m", BUCKET, options) as mount:
            data, local = mount.mountpoint / "data", folder / "local"
            server = Server(data, local)
            for path in (data, local):
                path.mkdir()
                os.chown(path, server.uid, server.gid)
            data.chmod(0o700)
            with timed("initdb"):
                server.prepare()
            server.start()
            with timed(f"pgbench -i -s {scale}"):
                server.run("pgbench", "-i", "-q", "-s", str(scale), "postgres")
            with timed("pgbench"):
                said = server.run("pgbench", "-c", "4", "-T", str(seconds), "postgres")
            print(
                "\n".join(line for line in said.splitlines() if "=" in line or "processed" in line)
            )
            with timed("crash and recovery"):
                server.stop("immediate")
                server.start()
            with timed("check"):
                server.check()
            with timed("stop, mount anew, start"):
                server.stop("fast")
                mount.umount(seconds=600)
                mount.start()
                server.start()
            server.check()
            server.stop("fast")


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--writeback", choices=("on", "off"), default="off")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=20)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-postgres-"))
    folder.chmod(0o755)
    try:
        rounds(
            folder,
            writeback=chosen.writeback == "on",
            scale=chosen.scale,
            seconds=chosen.seconds,
        )
    finally:
        shutil.rmtree(folder)
    print("all right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
