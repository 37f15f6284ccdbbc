"""The process behind a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final


def groups_of_process(pid: int) -> frozenset[int]:
    """Supplementary group IDs of a process, from ``/proc/PID/status`` (proc(5)); empty when it
    is gone. The kernel makes the text up in memory, so this does not wait."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith("Groups:"):
            return frozenset(int(word) for word in line.split()[1:])
    return frozenset()


@dataclass(slots=True, unsafe_hash=True)
class Caller:
    """Effective user and group of the calling process; ``groups_of`` is asked only when the
    answer depends on supplementary groups."""

    uid: Final[int]
    gid: Final[int]
    pid: Final[int] = 0
    groups_of: Final[Callable[[int], frozenset[int]]] = groups_of_process

    @property
    def is_root(self) -> bool:
        return self.uid == 0

    def in_group(self, gid: int) -> bool:
        """Whether the process belongs to a group."""
        return gid == self.gid or (self.pid > 0 and gid in self.groups_of(self.pid))


ROOT = Caller(0, 0)
