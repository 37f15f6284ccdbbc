"""Rounds in which the daemon is killed while it renames a large folder: nothing is lost or halved.

::

    python -m tests.faults.rename_rounds --rounds 50 --store rgw

Each round a folder of files, some of another owner and in folders of their own, is renamed through
a mount; at a random moment the daemon is killed, in a third of the rounds once more while it
mends what it left. Meanwhile readers look for files at the old name and then at the new one. In
the end the mount comes back with its cache directory: all files are at one name, whole, with
their owners and modes, and no note is left. ``--store`` is ``rgw``, ``copies`` (the embedded store
with ``capabilities=rename:no``), ``single`` (RenameObject of each object) or ``folder`` (one
request). Prints its counts; the exit status is 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.mount.bed import Bed, EmbeddedBed, GatewayBed
from tests.mount.mount_process import DaemonProcess
from tests.rgw.gateway import running_gateway

CAPABILITIES = {"rgw": None, "copies": "rename:no", "single": "rename_folder:no", "folder": None}
RENAME = "import os, sys; print(flush=True); input(); os.rename(sys.argv[1], sys.argv[2])"
READERS = 2
FINISH_SECONDS = 120.0


class Rounds:
    """A store, a mount of its shared bucket, and a folder with a new name each round."""

    def __init__(self, bed: Bed, folder: Path, *, kind: str, files: int, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._bed = bed
        self._folder = folder
        self._files = files
        self._chance = random.Random(seed)
        options = {"capabilities": CAPABILITIES[kind], "metadata_ttl": "0.2"}
        self._mount: DaemonProcess = bed.mount(folder, bed.bucket, options)
        self._mount.options["cache_dir"] = str(folder / "cache")
        self._lasts = 1.0  # seconds that a rename takes, about
        self._stop = threading.Event()

    def run(self, rounds: int) -> None:
        """All rounds, or as many as go well."""
        try:
            self._mount.start()
            self._measure()
            for number in range(rounds):
                self._round(f"round-{number}")
                self.counts["rounds"] += 1
                if self.problems:
                    return
        finally:
            self._mount.free()

    def _measure(self) -> None:
        self._make("measured")
        began = time.monotonic()
        (self._mount.mountpoint / "measured").rename(self._mount.mountpoint / "measured-too")
        self._lasts = time.monotonic() - began
        self._look("measured")
        self._clear("measured-too")

    def _body(self, rest: str) -> bytes:
        return rest.encode() * 20

    def _rests(self) -> list[str]:
        """Names below the folder."""
        return [f"{'deep/er/' if n % 3 else ''}file-{n:05d}" for n in range(self._files)]

    def _owner(self, rest: str) -> str:
        return "bob" if rest.endswith("7") else "alice"

    def _make(self, name: str) -> None:
        clients = {user: self._bed.s3(user) for user in ("alice", "bob")}

        def put(rest: str) -> None:
            clients[self._owner(rest)].put_object(
                Bucket=self._bed.bucket,
                Key=f"{name}/{rest}",
                Body=self._body(rest),
                Metadata={"mode": str(0o100640), "kept": rest[-1]},
                ContentType="text/x-kept",
            )

        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(put, rest) for rest in self._rests()]:
                done.result()
        marker = {"mode": str(0o40750)}
        clients["alice"].put_object(Bucket=self._bed.bucket, Key=f"{name}/", Metadata=marker)
        for client in clients.values():
            client.close()

    def _clear(self, name: str) -> None:
        client = self._bed.s3("admin")
        keys = [f"{name}/{rest}" for rest in ["", *self._rests()]]
        for start in range(0, len(keys), 1000):
            client.delete_objects(
                Bucket=self._bed.bucket,
                Delete={"Objects": [{"Key": key} for key in keys[start : start + 1000]]},
            )
        client.close()

    def _round(self, name: str) -> None:
        self._make(name)
        top = self._mount.mountpoint
        time.sleep(0.3)  # until the mount shows what S3 was given
        renamer = subprocess.Popen(
            [sys.executable, "-c", RENAME, str(top / name), str(top / f"{name}-too")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert renamer.stdin is not None
        assert renamer.stdout is not None
        renamer.stdout.readline()
        self._stop = threading.Event()
        readers = [threading.Thread(target=self._read, args=(name,)) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        time.sleep(0.2)  # in which the kernel comes to know the names that are read
        renamer.stdin.write(b"\n")
        renamer.stdin.flush()
        time.sleep(self._chance.uniform(0, self._lasts * 1.1))
        self._mount.kill()
        self._stop.set()
        self._note_step("killed while")
        renamer.communicate(timeout=60)
        if renamer.returncode == 0:
            self.counts["killed after it"] += 1
        for reader in readers:
            reader.join(60)
            if reader.is_alive():
                self.problems.append("a reader hangs")
        subprocess.run(["umount", "--lazy", str(top)], check=False, timeout=30)
        if self._chance.random() < 1 / 3:
            self._kill_again()
        self._mount.start(seconds=60)
        self._wait_until_finished()
        self._look(name)
        self._clear(f"{name}-too")
        self._clear(name)

    def _note_step(self, what: str) -> None:
        notes = [*(self._folder / "cache/renames").glob("*.json")]
        for note in notes:
            with suppress(OSError, ValueError):
                self.counts[f"{what} {json.loads(note.read_text())['step']}"] += 1
        if not notes:
            self.counts[f"{what} nothing was noted"] += 1

    def _kill_again(self) -> None:
        """Another daemon goes on with it, for a while."""
        with (self._folder / "mount.log").open("ab") as log:
            process = subprocess.Popen(
                self._mount.command("-f"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        time.sleep(0.7 + self._chance.uniform(0, self._lasts))
        process.kill()
        process.wait(30)
        subprocess.run(
            ["umount", "--lazy", str(self._mount.mountpoint)],
            check=False,
            timeout=30,
            stderr=subprocess.DEVNULL,
        )
        self._note_step("killed again while")

    def _wait_until_finished(self) -> None:
        deadline = time.monotonic() + FINISH_SECONDS
        while self._mount.status()["filesystem"]["unfinished_renames"]:
            if time.monotonic() > deadline:
                self.problems.append("the renaming is never finished")
                return
            time.sleep(0.2)

    def _read(self, name: str) -> None:
        """A file is at its old name or, seen from there, at its new one."""
        chance = random.Random(self._chance.random())
        rests = self._rests()
        places = (self._mount.mountpoint / name, self._mount.mountpoint / f"{name}-too")
        while not self._stop.is_set():
            rest = chance.choice(rests)
            try:
                try:
                    found = (places[0] / rest).read_bytes()
                except FileNotFoundError:
                    found = (places[1] / rest).read_bytes()
            except FileNotFoundError:
                self.problems.append(f"{name}/{rest} is at none of its names")
            except OSError:
                if not self._stop.is_set():  # the daemon dies
                    time.sleep(0.05)
            else:
                self.counts["reads"] += 1
                if found != self._body(rest):
                    self.problems.append(f"{name}/{rest} is not what it was")

    def _look(self, name: str) -> None:
        """All is at one name, as S3 and as the mount have it."""
        old, new = self._bed.owners(f"{name}/"), self._bed.owners(f"{name}-too/")
        if old and new:
            self.problems.append(f"{name}: {len(old)} are at the old name, {len(new)} at the new")
            return
        self.counts["renamed" if new else "not renamed"] += 1
        prefix = f"{name}-too" if new else name
        rests = self._rests()
        expected = {"": "alice", **{rest: self._owner(rest) for rest in rests}}
        differ = sorted(set((new or old).items()) ^ set(expected.items()))
        if differ:
            self.problems.append(f"{prefix}: {len(differ)} differ, {differ[:4]}")
            return
        client = self._bed.s3("admin" if self._bed.kind == "embedded" else "alice")
        own = [rest for rest in rests if self._owner(rest) == "alice"]
        for rest in self._chance.sample(own, min(20, len(own))):
            got = client.get_object(Bucket=self._bed.bucket, Key=f"{prefix}/{rest}")
            kept = (got["ContentType"], got["Metadata"].get("kept"))
            if got["Body"].read() != self._body(rest) or kept != ("text/x-kept", rest[-1]):
                self.problems.append(f"{prefix}/{rest} differs: {kept}")
            self.counts["objects compared"] += 1
        client.close()
        time.sleep(0.3)
        top = self._mount.mountpoint
        there = {path.name for path in top.iterdir() if path.name.startswith(name)}
        if there != {prefix}:
            self.problems.append(f"the mount shows {there}")
            return
        found = {
            str(path.relative_to(top / prefix))
            for path in (top / prefix).rglob("*")
            if path.is_file()
        }
        if found != set(rests):
            self.problems.append(f"the mount shows {len(found)} files below {prefix}")
        if (top / prefix).stat().st_mode & 0o7777 != 0o750:
            self.problems.append(f"{prefix} has another mode")


def main() -> int:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(description="Kill the daemon while it renames a folder.")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--files", type=int, default=400)
    parser.add_argument("--store", choices=tuple(CAPABILITIES), default="copies")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="s3posixfs-renames-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        if arguments.store == "rgw":
            with running_gateway() as gateway, GatewayBed(gateway) as bed:
                rounds = _rounds(bed, folder, arguments)
        else:
            with EmbeddedBed(folder) as bed:
                rounds = _rounds(bed, folder, arguments)
    print(json.dumps(dict(sorted(rounds.counts.items()))))
    for problem in rounds.problems[:20]:
        print(problem)
    return 1 if rounds.problems else 0


def _rounds(bed: Bed, folder: Path, arguments: argparse.Namespace) -> Rounds:
    rounds = Rounds(bed, folder, kind=arguments.store, files=arguments.files, seed=arguments.seed)
    rounds.run(arguments.rounds)
    return rounds


if __name__ == "__main__":
    sys.exit(main())
