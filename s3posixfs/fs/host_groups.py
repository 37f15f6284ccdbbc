"""Which users are in which groups on this host, asked of NSS in a thread and kept in memory."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable

import trio


def _groups_of(uid: int) -> frozenset[int]:
    try:
        entry = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (KeyError, OSError):
        return frozenset()


def _load(uids: Iterable[int]) -> dict[int, frozenset[int]]:
    return {uid: _groups_of(uid) for uid in uids}


class HostGroups:
    """Memberships of known users; ``refresh`` again from time to time."""

    def __init__(self) -> None:
        self._groups: dict[int, frozenset[int]] = {}

    async def refresh(self, uids: Iterable[int]) -> None:
        """Look the users up (NSS may ask a directory server, so it runs in a thread)."""
        self._groups = await trio.to_thread.run_sync(_load, tuple(uids), abandon_on_cancel=True)

    def member(self, uid: int, gid: int) -> bool:
        """Whether the user is in the group, as far as it is known."""
        return gid in self._groups.get(uid, ())
