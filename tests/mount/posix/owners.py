"""chown(2)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    TICK,
    People,
    User,
    attempt,
    owner_of,
    put,
)


def chown_calls(d: Path, who: People) -> list[Any]:
    owner, other = who.owner, who.other
    file = Path(owner.does(lambda: str(put(d / "file"))))
    (d / "link").symlink_to("file")
    member = User(owner.uid, owner.gid, (other.gid,))
    seen = [
        owner.does(lambda: attempt(os.chown, file, other.uid, -1)),
        owner.does(lambda: attempt(os.chown, file, -1, other.gid)),
        owner.does(lambda: attempt(os.chown, file, owner.uid, owner.gid)),
        owner.does(lambda: attempt(os.chown, file, -1, -1)),
        other.does(lambda: attempt(os.chown, file, other.uid, other.gid)),
        other.does(lambda: attempt(os.chown, file, -1, -1)),
        owner_of(file),
        attempt(os.chown, file, other.uid, other.gid),
        owner_of(file),
        attempt(os.chown, file, owner.uid, -1),
        attempt(os.chown, file, -1, owner.gid),
        owner_of(file),
        attempt(os.lchown, d / "link", other.uid, other.gid),
        (owner_of(d / "link"), owner_of(file)),
        attempt(os.chown, file, 0, 0),
        owner_of(file),
        attempt(os.chown, file, 54321, 54322),
        owner_of(file),
        attempt(os.chown, d / "missing", 1, 1),
        attempt(os.chown, d, other.uid, other.gid),
        owner_of(d),
    ]
    before = file.stat()
    time.sleep(TICK)
    os.chown(file, 54321, 54322)
    seen.append(file.stat().st_ctime_ns > before.st_ctime_ns)
    seen.append((member.gid, member.groups) == (owner.gid, (other.gid,)))
    return seen


def chgrp_by_member(d: Path, who: People) -> list[Any]:
    member = User(who.owner.uid, who.owner.gid, (who.other.gid,))
    file = Path(member.does(lambda: str(put(d / "file"))))
    return [member.does(lambda: attempt(os.chown, file, -1, who.other.gid)), owner_of(file)]
