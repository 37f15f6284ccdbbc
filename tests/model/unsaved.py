"""What may be lost in a crash: files with writes that neither ``fsync`` nor ``close`` acknowledged.

Such a file may afterwards be as it was at any moment since the last acknowledgement, and not be
there at all if there was none. Everything else has to be as it is in the local folder.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tests.model.two_trees import OLD


@dataclass(frozen=True, slots=True)
class State:
    """A file at one moment. ``mtime`` in ns, None for one that the clock set."""

    content: bytes
    mode: int
    owner: tuple[int, int]
    mtime: int | None
    xattrs: tuple[tuple[str, bytes], ...]


def state_of(path: Path) -> State | None:
    """A regular file now; None where there is none."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    names = sorted(os.listxattr(path))
    return State(
        path.read_bytes(),
        found.st_mode,
        (found.st_uid, found.st_gid),
        found.st_mtime_ns if found.st_mtime_ns < OLD else None,
        tuple((name, os.getxattr(path, name)) for name in names if name.startswith("user.")),
    )


def inode_of(path: Path) -> int | None:
    """The inode of a regular file, None for everything else."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino if stat.S_ISREG(found.st_mode) else None


class Unsaved:
    """The files of a local folder that may have been lost, with all that they may be."""

    def __init__(self, local: Path) -> None:
        self._local = local
        self._states: dict[int, list[State | None]] = {}  # by inode

    def _paths(self) -> dict[int, Path]:
        found: dict[int, Path] = {}
        for folder, _, names in os.walk(self._local):
            for name in names:
                inode = inode_of(Path(folder, name))
                if inode is not None:
                    found[inode] = Path(folder, name)
        return found

    def made(self, path: Path) -> None:
        """A file was made just now."""
        inode = inode_of(path)
        assert inode is not None
        self._states[inode] = [None]

    def touched(self, inode: int | None) -> None:
        """A file is about to be written to."""
        if inode is None or inode in self._states:
            return
        path = self._paths().get(inode)
        if path is not None:
            self._states[inode] = [state_of(path)]

    def acknowledged(self, inode: int | None) -> None:
        """All that a file has is safe."""
        if inode is not None:
            self._states.pop(inode, None)

    def replaces(self, old: Path, new: Path) -> None:
        """``old`` is about to be renamed over ``new``: if it was never saved, ``new`` may stay."""
        inode, replaced = inode_of(old), inode_of(new)
        states = self._states.get(inode) if inode is not None else None
        if states is None or inode is None or None not in states or replaced is None:
            return
        former = self._states.get(replaced, [state_of(new)])
        self._states[inode] = [*(state for state in states if state is not None), *former]

    def after_call(self) -> None:
        """Take down what the files are now; forget those that are gone."""
        if not self._states:
            return
        paths = self._paths()
        for inode in list(self._states):
            if inode not in paths:
                del self._states[inode]
                continue
            now = state_of(paths[inode])
            if now != self._states[inode][-1]:
                self._states[inode].append(now)

    def settle(self, ours: Path) -> list[str]:
        """After a crash: what is not as it may be. The local files become as ours are."""
        problems: list[str] = []
        paths = self._paths()
        for inode, states in self._states.items():
            path = paths.get(inode)
            if path is None:
                continue
            name = path.relative_to(self._local)
            found = state_of(ours / name)
            if found is None:
                if None not in states:
                    problems.append(f"{name} is gone")
                path.unlink()
                continue
            problems += [f"{name}: {what}" for what in _differences(found, states)]
            _make(path, found)
        self._states.clear()
        return problems


def _differences(found: State, states: list[State | None]) -> list[str]:
    allowed = [state for state in states if state is not None]
    wrong = []
    if found.content not in [state.content for state in allowed]:
        sizes = [len(state.content) for state in allowed]
        wrong.append(f"{len(found.content)} bytes that it never had; its sizes were {sizes}")
    for field in ("mode", "owner", "mtime", "xattrs"):
        values = [getattr(state, field) for state in allowed]
        if getattr(found, field) not in values:
            wrong.append(f"{field} {getattr(found, field)}, not one of {values}")
    return wrong


def _make(path: Path, state: State) -> None:
    path.write_bytes(state.content)
    os.chown(path, *state.owner)
    path.chmod(stat.S_IMODE(state.mode))
    for name in os.listxattr(path):
        if name.startswith("user."):
            os.removexattr(path, name)
    for name, value in state.xattrs:
        os.setxattr(path, name, value)
    if state.mtime is not None:  # 1970 is a time like any other
        os.utime(path, ns=(state.mtime, state.mtime))
