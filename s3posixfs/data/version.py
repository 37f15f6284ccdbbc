"""One version of one object: what a reader reads and what a cached block belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(slots=True, unsafe_hash=True)
class ObjectVersion:
    """An object as it was when it was opened.

    ``etag`` has no quotes and is what tells a replaced object from this one; ``size`` is in
    bytes.
    """

    bucket: Final[str]
    key: Final[str]
    etag: Final[str]
    size: Final[int]
