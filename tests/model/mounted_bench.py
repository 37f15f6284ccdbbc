"""A store and a mount of it, as processes that can be killed, beside a local folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tests.model.two_trees import User
from tests.mount.bed import BUCKET, MEMBERS, add_people
from tests.mount.mount_process import MountProcess, is_mounted
from tests.store_process import StoreProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UIDS = (0, *MEMBERS.values())


class Bench:
    """``folder``: one that every uid can enter. Each example gets fresh folders of it."""

    def __init__(self, folder: Path, *, writeback: bool) -> None:
        self.writeback = writeback
        self.store = StoreProcess(folder / "store")
        self.failures: list[str] = []  # of all examples: what comes once may not come again
        self._folder = folder
        self._examples = 0

    def __enter__(self) -> Self:
        self.store.start()
        self.client: S3Client = self.store.s3(add_people(self.store)["alice"])
        options = {"metadata_ttl": "0", "writeback": "on" if self.writeback else "off"}
        self.mount = MountProcess(self.store, self._folder / "m", BUCKET, options)
        self._local = self._folder / "local"
        self._local.mkdir()
        self._local.chmod(0o755)
        self.mount.start()
        self.users = {uid: User(uid) for uid in UIDS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for user in self.users.values():
            user.end()
        self.mount.free()
        self.client.close()
        self.store.stop()

    def begin(self) -> None:
        """Fresh folders for an example, with the users in them."""
        self._examples += 1
        self.name = f"example-{self._examples}"
        self.ours, self.local = self.mount.mountpoint / self.name, self._local / self.name
        for top in (self.ours, self.local):
            top.mkdir()
            top.chmod(0o777)
        for user in self.users.values():
            user.enter(self.ours, self.local)

    def end(self) -> None:
        """The example is over: what it had is forgotten."""
        for user in self.users.values():
            user.enter(self._folder, self._folder)
        shutil.rmtree(self.local)

    def forget(self) -> None:
        """Nobody has anything open any more."""
        for user in self.users.values():
            user.call("forget")

    def remount(self, how: str) -> None:
        """End the daemon by ``umount``, by ``sigterm`` or by ``kill``, and mount again."""
        if how == "umount":
            self.forget()
            assert self.mount.umount() == 0, self.mount.log_tail()
        elif how == "sigterm":
            assert self.mount.terminate() == 0, self.mount.log_tail()
            self.forget()
        else:
            self.kill()
        self.start()

    def kill(self) -> None:
        """``kill -9`` of the daemon; what is left of the mount goes."""
        self.mount.kill()
        self.forget()

    def start(self) -> None:
        if is_mounted(self.mount.mountpoint):
            lazily = ["umount", "--lazy", str(self.mount.mountpoint)]
            subprocess.run(lazily, check=True, timeout=30)
        self.mount.start()

    def stored(self) -> Path:
        """The store's own files of this example, once all that is acknowledged is there."""
        if self.writeback:
            self.mount.wait_until_stored()
        return self.store.root / BUCKET / self.name
