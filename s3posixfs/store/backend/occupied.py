"""Whether directories are empty, without reading large ones again and again.

Reading one name of a directory makes the kernel hand out a thousand (0.4 ms). So the names are
remembered: as long as one of them is still there, the directory is not empty.
"""

from __future__ import annotations

import os
from itertools import islice

_MOST_NAMES = 500  # of a directory; what one reading gives
_MOST_DIRECTORIES = 64


class Occupied:
    """Names that were in directories; safe for threads, and never believed without a look."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], list[str]] = {}

    def is_empty(self, fd: int) -> bool:
        """Whether an open directory has nothing in it now."""
        stat = os.fstat(fd)
        identity = (stat.st_dev, stat.st_ino)
        names = self._names.get(identity, [])
        while names:
            try:
                os.stat(names[-1], dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                names[-1:] = []  # another thread may have emptied it meanwhile
            except IndexError:
                break
            else:
                return False
        with os.scandir(fd) as entries:
            names = [entry.name for entry in islice(entries, _MOST_NAMES)]
        if not names:
            self._names.pop(identity, None)
            return True
        if len(self._names) >= _MOST_DIRECTORIES:
            self._names.clear()
        self._names[identity] = names
        return False
