"""Which number a file gets, so that it keeps it: while mounted, in the next mount, on other hosts.

A number is derived from that of the folder and the name, and the root is 1; so the same source
mounted twice has the same numbers, with nothing to be stored. A renamed file keeps the number that
it had while this mount lives, though the kernel forgets it in between, and nothing else gets that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from hashlib import blake2b

ROOT_INODE = 1
REMEMBERED = 100_000

Place = tuple[int, bytes]  # the number of a folder, and a name in it


def derived(place: Place) -> int:
    """63 bits of a hash: two of a million files share them once in 18 million mounts."""
    folder, name = place
    digest = blake2b(folder.to_bytes(8, "big") + name, digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class InodeNumbers:
    """Numbers for names, among them those of forgotten files that came by theirs otherwise."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Place, int] = OrderedDict()
        self._taken: set[int] = set()

    @property
    def kept(self) -> int:
        """So many numbers are remembered, of ``REMEMBERED`` at most."""
        return len(self._kept)

    def choose(self, place: Place, in_use: Container[int]) -> int:
        """The number for what is at a place, which none of those ``in_use`` has."""
        kept = self._kept.pop(place, None)
        if kept is not None:
            self._taken.discard(kept)
            if kept not in in_use:
                return kept
        number = derived(place)
        while number <= ROOT_INODE or number in in_use or number in self._taken:
            number += 1
        return number

    def keep(self, place: Place, number: int) -> None:
        """The kernel forgot what is at the place: it is to get this number again."""
        if number == derived(place):
            return
        self._kept[place] = number
        self._taken.add(number)
        if len(self._kept) > REMEMBERED:
            _, dropped = self._kept.popitem(last=False)
            self._taken.discard(dropped)
