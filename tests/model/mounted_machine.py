"""Programs of three users on a real mount and in a local folder: every call must come out alike.

Between the calls other S3 clients write, the mount is mounted anew, the daemon is killed, and with
``writeback`` the store is away for a while.
"""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.mounted_bench import Bench
from tests.model.random_calls import ON_DESCRIPTORS, anything, paths, slots, users
from tests.model.two_trees import Outcome
from tests.model.unsaved import Unsaved, inode_of
from tests.mount.bed import BUCKET, MEMBERS

UNNOTICED_SECONDS = 0.3  # for which a mount may not look for names in a folder that it knows
CHANGES = {"truncate", "chmod", "chown", "utimens", "setxattr", "removexattr"}


@dataclass(frozen=True, slots=True)
class Opened:
    uid: int
    inode: int | None  # of the local file
    writes: bool


class MountedMachine(RuleBasedStateMachine):
    """One example: in folders of its own, on the mount that all examples share."""

    bench: Bench
    done: Counter[str]  # over all examples

    @initialize()
    def begin(self) -> None:
        self.bench.begin()
        self.handles: dict[int, Opened] = {}
        self.unsaved = Unsaved(self.bench.local)
        self.steps: list[str] = []
        self.call(1001, "mkdir", "d", 0o777)
        self.call(1002, "mkdir", "e", 0o755)

    def teardown(self) -> None:
        if hasattr(self, "steps"):
            self.close_all()
            self.compare()
            self.look_into_the_store()
            self.bench.end()

    # How calls are made.

    def at(self, path: str) -> Path:
        return self.bench.local / path

    def call(self, uid: int, name: str, *arguments: Any) -> Outcome:
        """Make a call in both, expect the same of both."""
        shown = ", ".join(
            f"{len(one)} bytes of {one[:1]!r}" if isinstance(one, bytes) else repr(one)
            for one in arguments
        )
        self.steps.append(f"{uid}: {name}({shown})")
        self.done[name] += 1
        ours, local = self.bench.users[uid].call(name, *arguments)
        if ours != local:
            self.fail(f"{_short(ours)} instead of {_short(local)}")
        self.unsaved.after_call()
        self.steps[-1] += f" = {_short(local)}"
        return local

    def fail(self, what: str) -> None:
        steps = "\n  ".join(self.steps)
        said = f"{what}\n  {steps}\n{self.bench.mount.log_tail(1500)}"
        self.bench.failures.append(said)
        raise AssertionError(said)

    def _writers(self, inode: int | None) -> bool:
        return any(one.inode == inode and one.writes for one in self.handles.values())

    def _change(self, path: str) -> None:
        """A file is about to be changed by its name: it counts at once, unless it is written."""
        inode = inode_of(Path(os.path.realpath(self.at(path))))
        if inode is not None and self._writers(inode):
            self.unsaved.touched(inode)

    # One rule for all: of several Hypothesis leaves out most in each example.

    @rule(uid=users, which=slots, path=paths, call=anything)
    def step(self, uid: int, which: int, path: str, call: tuple[Any, ...]) -> None:
        """A call of a program, or what happens to the mount meanwhile."""
        name, *arguments = call
        if name in ("open", "create"):
            getattr(self, name)(uid, which, path, *arguments)
        elif name in ON_DESCRIPTORS:
            self.use(uid, which, path, name, arguments)
        elif name in ("put_outside", "delete_outside"):
            getattr(self, name)(path, *arguments)
        elif name in ("mount_anew", "store_away", "compare"):
            getattr(self, name)(*arguments)
        else:
            self.by_name(uid, name, arguments)

    # Files that are open.

    def open(
        self, uid: int, slot: int, path: str, access: int, makes: int, extra: int, mode: int
    ) -> None:
        if slot in self.handles:
            self.end(slot)
        flags = access | makes | extra
        real = Path(os.path.realpath(self.at(path)))
        new = not real.exists()
        if flags & os.O_TRUNC:
            self.unsaved.touched(inode_of(real))
        if self.call(uid, "open", slot, path, flags, mode)[0] == "errno":
            return
        inode = inode_of(real)
        self.handles[slot] = Opened(uid, inode, access != os.O_RDONLY)
        if new and inode is not None:
            self.unsaved.made(real)
            self.unsaved.after_call()

    def create(self, uid: int, slot: int, path: str, extra: int) -> None:
        self.open(uid, slot, path, os.O_RDWR, os.O_CREAT, extra, 0o666)

    def end(self, slot: int) -> None:
        """Close a slot that is open."""
        opened = self.handles.pop(slot)
        self.call(opened.uid, "close", slot)
        if opened.writes:
            self.unsaved.acknowledged(opened.inode)

    def close_all(self) -> None:
        for slot in list(self.handles):
            self.end(slot)

    def some(self, which: int) -> int:
        """One of the slots that are open."""
        return sorted(self.handles)[which % len(self.handles)]

    def use(self, uid: int, which: int, path: str, name: str, arguments: list[Any]) -> None:
        """A call on one of the descriptors, or on a new one where there is none."""
        if not self.handles:
            self.create(uid, which, path, 0)
        if not self.handles:
            return
        if name == "close":
            self.end(self.some(which))
        elif name == "stored":
            self.through(which, "pwrite", *arguments)
            self.through(which, "fsync")
        else:
            self.through(which, name, *arguments)

    def through(self, which: int, name: str, *arguments: Any) -> None:
        """A call on one of the descriptors that are open."""
        slot = self.some(which)
        opened = self.handles[slot]
        if name in ("write", "pwrite", "ftruncate", "map_write", "fchmod"):
            self.unsaved.touched(opened.inode)
        kind, value = self.call(opened.uid, name, slot, *arguments)
        if name == "fsync" or (name == "map_write" and kind == "value" and value is not None):
            self.unsaved.acknowledged(opened.inode)

    # Names.

    def by_name(self, uid: int, name: str, arguments: list[Any]) -> None:
        """A call that takes a path."""
        if name in CHANGES:
            self._change(arguments[0])
        elif name == "rename" and not arguments[2]:
            self.unsaved.replaces(self.at(arguments[0]), self.at(arguments[1]))
        self.call(uid, name, *arguments)

    # What others do.

    def put_outside(self, path: str, data: bytes) -> None:
        """alice writes an object through S3; not one that is open or a folder here."""
        local = self.at(path)
        if not self._free(local) or not local.parent.is_dir() or _has_link(self.bench.local, local):
            return
        self._outside(f"put_outside({path}, {len(data)} bytes)")
        self.bench.client.put_object(Bucket=BUCKET, Key=f"{self.bench.name}/{path}", Body=data)
        local.unlink(missing_ok=True)
        local.write_bytes(data)
        os.chown(local, MEMBERS["alice"], MEMBERS["alice"])
        local.chmod(0o644)
        time.sleep(UNNOTICED_SECONDS)

    def delete_outside(self, path: str) -> None:
        """alice deletes an object through S3; not one that is open or a folder here."""
        local = self.at(path)
        if (
            not self._free(local)
            or not os.path.lexists(local)
            or _has_link(self.bench.local, local)
        ):
            return
        self._outside(f"delete_outside({path})")
        self.bench.client.delete_object(Bucket=BUCKET, Key=f"{self.bench.name}/{path}")
        local.unlink()
        time.sleep(UNNOTICED_SECONDS)

    def _free(self, local: Path) -> bool:
        if local.is_dir() and not local.is_symlink():
            return False
        inode = inode_of(local)
        return inode is None or all(one.inode != inode for one in self.handles.values())

    def _outside(self, step: str) -> None:
        self.bench.stored()  # what waits for its upload would be a conflict
        self.steps.append(step)
        self.done[step.split("(")[0]] += 1

    def mount_anew(self, how: str) -> None:
        if how == "umount":
            self.close_all()
        self.steps.append(f"mount_anew({how})")
        self.done[how] += 1
        self.bench.remount(how)
        self._mounted_anew(safe=how == "sigterm")

    def _mounted_anew(self, *, safe: bool) -> None:
        self.handles.clear()
        if safe:
            self.unsaved = Unsaved(self.bench.local)
        problems = self.unsaved.settle(self.bench.ours)
        if problems:
            self.fail("; ".join(problems))
        self.compare()

    def store_away(self, writes: list[tuple[int, int, bytes, bool]], kill: bool) -> None:
        """The store is stopped; open files are written and synced all the same."""
        if not self.bench.writeback:
            return
        self.steps.append("the store stops")
        self.done["store_away"] += 1
        self.bench.store.stop()
        try:
            for which, offset, data, sync in writes if self.handles else ():
                self.through(which, "pwrite", offset, data)
                if sync:
                    self.through(which, "fsync")
            if kill:
                self.steps.append("the daemon is killed")
                self.bench.kill()
        finally:
            self.bench.store.start()
        self.steps.append("the store is back")
        if kill:
            self.bench.start()
            self._mounted_anew(safe=False)

    # What is there.

    def compare(self) -> None:
        """The whole trees, as root sees them."""
        before = len(self.steps)
        self._compare("")
        self.steps[before:] = ["compare"]  # it is the same in both; not needed to be read again

    def _compare(self, folder: str) -> None:
        listed = self.call(0, "list_folder", folder)[1]
        assert isinstance(listed, list)
        for name, is_folder, is_link in listed:
            path = f"{folder}/{name}".lstrip("/")
            self.call(0, "stat", path)
            if is_link:
                self.call(0, "readlink", path)
                continue
            self.call(0, "listxattr", path)
            if is_folder:
                self._compare(path)
            else:
                self.call(0, "read", path)

    def look_into_the_store(self) -> None:
        """Its own files have the content of the local ones, and there are no others."""
        ours, local = _contents(self.bench.stored()), _contents(self.bench.local)
        wrong = sorted(name for name in {*ours, *local} if ours.get(name) != local.get(name))
        if wrong:
            self.fail(f"in the store these are not the same: {wrong}")


def _short(outcome: Outcome) -> str:
    kind, value = outcome
    if kind == "errno":
        return errno_name(value)
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return repr(value)


def errno_name(value: object) -> str:
    return errno.errorcode.get(value, str(value)) if isinstance(value, int) else str(value)


def _has_link(top: Path, path: Path) -> bool:
    """Whether the path leads through a symbolic link: a key does not."""
    return any((top / parent).is_symlink() for parent in path.relative_to(top).parents)


def _contents(top: Path) -> dict[str, bytes]:
    """Objects and what is in them, of a symbolic link its target."""
    found: dict[str, bytes] = {}
    for folder, below, files in os.walk(top):
        for path in (Path(folder, name) for name in (*below, *files)):
            if path.is_symlink():
                found[str(path.relative_to(top))] = os.fsencode(os.readlink(path))
            elif path.is_file():
                found[str(path.relative_to(top))] = path.read_bytes()
    return found
