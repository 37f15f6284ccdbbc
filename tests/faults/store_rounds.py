"""Rounds of work on a store, ``kill -9`` and looking: what it acknowledged is there, nothing else.

::

    python -m tests.faults.store_rounds --rounds 100
    python -m tests.faults.store_rounds --rounds 100 --power-loss xfs

Each round clients put, rename and remove objects, send parts, complete and abort uploads, on a
store with two workers. At a random moment one worker is killed, or all processes at once. After
the next start everything is compared with what the clients were told: objects byte by byte with
ETag and owner, parts, uploads, and the files that lie in the root. With
``--power-loss`` the filesystem is cut off in every round, and what was not synced is lost. Prints
its counts; the exit status is 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from botocore.exceptions import ClientError

from tests.faults.cut_disk import CutDisk
from tests.faults.store_client import BUCKET, Client, Unanswered, Upload, Version, md5
from tests.store_process import StoreProcess

CLIENTS = 4
_UID = 1500


class Rounds:
    """A store with two workers, its clients, and what they know of it."""

    def __init__(self, folder: Path, seed: int, disk: CutDisk | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self._chance = random.Random(seed)
        self._disk = disk
        where = folder if disk is None else disk.path
        self._store = StoreProcess(where / "store", arguments=["--workers", "2"])

    def run(self, rounds: int) -> None:
        """All rounds, or as many as go well."""
        store = self._store
        store.start()
        try:
            user = store.add_user("maker", _UID, policy="readwrite")
            clients = [
                Client(store, user, f"c{number}", self._chance.randrange(2**32))
                for number in range(CLIENTS)
            ]
            clients[0].s3.create_bucket(Bucket=BUCKET)
            if self._disk is not None:
                os.sync()
            for _ in range(rounds):
                self._round(clients)
                if self.problems:
                    self.problems.append(store.log_tail(20_000))
                    break
            for client in clients:
                self.counts.update(client.counts)
                client.s3.close()
        finally:
            store.stop()

    def _round(self, clients: list[Client]) -> None:
        store = self._store
        everything = self._disk is not None or self._chance.random() < 0.6
        ending = threading.Event()
        threads = [
            threading.Thread(target=client.work, args=(ending, everything)) for client in clients
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.2 + self._chance.random() * 1.5)
        workers = _children(store.pid)
        if self._disk is not None:
            for client in clients:
                client.disk_is_gone = True
            self._disk.cut()
            self.counts["power lost"] += 1
        if everything:
            # The parent first: a worker that it sees end would be started again.
            os.kill(store.pid, signal.SIGSTOP)
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            store.kill()
            self.counts["all killed"] += 1
        else:
            os.kill(self._chance.choice(workers), signal.SIGKILL)
            time.sleep(0.7)
            ending.set()
            self.counts["one worker killed"] += 1
        for thread in threads:
            thread.join(60)
        if not everything and store.stop() != 0:
            self.problems.append("the store did not end well")
        if self._disk is not None:
            for pid in workers:
                _wait_for_end(pid)
            self._disk.again()
            for client in clients:
                client.disk_is_gone = False
        store.start()
        self.counts["rounds"] += 1
        for client in clients:
            self.problems += client.problems
        self._check(clients)

    # --- looking ---------------------------------------------------------------------------

    def _check(self, clients: list[Client]) -> None:
        self._check_leftovers()
        for client in clients:
            self._check_objects(client)
        self._check_uploads(clients)
        for client in clients:
            self._finish_some(client)
            self._check_objects(client)
        self._check_leftovers()

    def _check_leftovers(self) -> None:
        internal = self._store.root / ".s3posixfs"
        for path in (internal / "tmp").rglob("*"):
            if path.parent.parent == internal / "tmp":
                self.problems.append(f"temporary file left: {path}")
        if len(list((internal / "tmp").iterdir())) != 2:
            self.problems.append("a dead process's temporary folder is left")
        for path in (self._store.root / BUCKET).rglob("*"):
            found = path.stat()
            if found.st_uid != _UID:
                self.problems.append(f"{path} belongs to {found.st_uid}")
            if path.is_file() and found.st_nlink != 1:
                self.problems.append(f"{path} has {found.st_nlink} names")

    def _check_objects(self, client: Client) -> None:
        pages = client.s3.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{client.name}/", FetchOwner=True
        )
        rows = {row["Key"]: row for page in pages for row in page.get("Contents", [])}
        for key in sorted(set(rows) | set(client.objects)):
            may = client.may_be(key)
            row = rows.get(key)
            found: Version | None = None
            if row is not None:
                body = client.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
                said = (row["ETag"].strip('"'), row["Size"], row["Owner"]["ID"])
                right = [
                    one
                    for one in may
                    if one is not None
                    and said == (one.etag, len(body), "maker")
                    and md5(one.body()) == md5(body)
                ]
                if not right:
                    expected = [one and one.etag for one in may]
                    self.problems.append(f"{key}: {said}, MD5 {md5(body)}, not of {expected}")
                    continue
                found = right[0]
            elif None not in may:
                self.problems.append(
                    f"{key}: nothing instead of {[one and one.etag for one in may]}"
                )
                continue
            client.objects[key] = {found}
            self.counts["objects compared"] += 1

    def _check_uploads(self, clients: list[Client]) -> None:
        s3 = clients[0].s3
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        listed = {row["UploadId"]: row["Key"] for page in pages for row in page.get("Uploads", [])}
        folder = self._store.root / ".s3posixfs" / "uploads" / BUCKET
        there = {path.name for path in folder.iterdir()} if folder.exists() else set()
        if there != set(listed):
            self.problems.append(f"uploads on the disk {there}, listed {set(listed)}")
        for client in clients:
            for upload in client.uploads:
                is_there = listed.pop(upload.upload_id, None) is not None
                if is_there:
                    self._check_parts(client, upload)
                elif upload.asked is None and not upload.aborting:
                    self.problems.append(f"{upload.key}: the upload {upload.upload_id} is lost")
        begun = [key for client in clients for key in client.unknown]
        for upload_id, key in listed.items():
            if key not in begun:
                self.problems.append(f"{key}: the upload {upload_id} came back")
            s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload_id)
        for client in clients:
            client.unknown.clear()

    def _check_parts(self, client: Client, upload: Upload) -> None:
        answer = client.s3.list_parts(Bucket=BUCKET, Key=upload.key, UploadId=upload.upload_id)
        listed = {row["PartNumber"]: row for row in answer.get("Parts", [])}
        for number in sorted(set(listed) | set(upload.parts)):
            may = upload.parts.get(number, {None})
            row = listed.get(number)
            right: set[Version | None]
            if row is None:
                right = may & set[Version | None]({None})
            else:
                told = (row["ETag"].strip('"'), row["Size"])
                right = {
                    one for one in may if one is not None and (one.etag, one.pieces[0][1]) == told
                }
            if len(right) != 1:
                self.problems.append(f"{upload.key}: part {number} is {row}, not one of {may}")
                continue
            upload.parts[number] = right
            self.counts["parts compared"] += 1

    def _finish_some(self, client: Client) -> None:
        """Complete and abort a part of the uploads; the clients go on with the others."""
        for upload in list(client.uploads):
            chance = self._chance.random()
            try:
                if upload.asked is not None and chance < 0.5:
                    client.complete_again(upload)
                elif upload.aborting or chance < 0.1:
                    client.abort(upload)
                elif upload.asked is None and len(upload.sure()) >= 2 and chance < 0.5:
                    client.complete(upload)
            except (AssertionError, ClientError, Unanswered) as error:
                self.problems.append(f"{upload.key}: {error!r}")


def _children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _wait_for_end(pid: int) -> None:
    while Path(f"/proc/{pid}/fd").exists():
        time.sleep(0.01)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--folder", type=Path, default=None, help="where the store's files go")
    parser.add_argument("--power-loss", choices=("xfs", "ext4"), default=None)
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.randrange(2**32)
    folder = Path(tempfile.mkdtemp(prefix="s3posixfs-store-rounds-", dir=chosen.folder))
    folder.chmod(0o755)
    disk = None if chosen.power_loss is None else CutDisk(folder, chosen.power_loss)
    rounds = Rounds(folder, seed, disk)
    try:
        rounds.run(chosen.rounds)
    finally:
        print(f"seed={seed} folder={folder}", flush=True)
        for name, count in sorted(rounds.counts.items()):
            print(f"{name}: {count}")
        print(f"lost, mixed or left: {len(rounds.problems)}")
        for problem in rounds.problems:
            print(problem)
        if disk is not None:
            disk.close()
    if not rounds.problems:
        shutil.rmtree(folder)
    return 1 if rounds.problems else 0


if __name__ == "__main__":
    sys.exit(main())
