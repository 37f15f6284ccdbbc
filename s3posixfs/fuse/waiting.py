"""What pyfuse3's workers wait with for the kernel's next request.

They take turns by a lock, and trio's lock makes a turn of the loop, with a system call, each time
it is taken: before every request, a fifth of the CPU time of one that is answered from memory.
pyfuse3 reads its trio from a module variable so that another may take its place (as
``pyfuse3.asyncio`` does); here it is the same one with another lock. Nothing is starved by that:
to wait for the kernel is a turn of the loop, too.
"""

from __future__ import annotations

from typing import Any

import pyfuse3
import trio

from s3posixfs.waiting.quick_lock import QuickLock


class _Trio:
    """trio, with a lock that costs nothing while it is free."""

    Lock = QuickLock

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)


def use_quick_lock() -> None:
    """To be called before ``pyfuse3.init``; may be called again."""
    module: Any = pyfuse3
    module.trio = _Trio()
