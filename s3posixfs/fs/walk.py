"""Whether a program goes through the folders in a folder, and what helped it so far. No I/O."""

from __future__ import annotations

SMALLEST, LARGEST = 250, 1000  # keys of one request
GROWTH = 4
PAUSE = 64  # folders that are listed by themselves after a request that did not help


class Walk:
    """Of a folder: when a folder in it was last opened (``entered_at``, monotonic clock, seconds),
    and whether listings of all that is below are worth their request: how many folders the last
    one brought, and how many of those were asked for. ``refused`` says that S3 does not let the
    mount list all that is below."""

    __slots__ = ("_keys", "_pause", "asked_for", "brought", "entered_at", "refused")

    def __init__(self) -> None:
        self.entered_at = float("-inf")
        self.brought = self.asked_for = 0
        self.refused = False
        self._keys = 0
        self._pause = 0

    def next_keys(self) -> int:
        """How many keys to ask for, 0 for none: more each time that most of the last folders were
        asked for, and none for a while where they were not."""
        if self._pause:
            self._pause -= 1
            return 0
        first = not self._keys
        too_few = not self.brought and self._keys < LARGEST
        helped = self.brought > 0 and 2 * self.asked_for >= self.brought
        if first or too_few or helped:
            self._keys = min(max(SMALLEST, self._keys * GROWTH), LARGEST)
        else:
            self._keys = 0
            self._pause = PAUSE - 1
        self.brought = self.asked_for = 0
        return self._keys
