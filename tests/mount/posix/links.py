"""symlink(2), readlink(2), link(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.mount.posix.kit import (
    People,
    attempt,
    mode_of,
    opened,
    put,
)


def link_and_symlink_calls(d: Path, who: People) -> list[Any]:
    file = put(d / "file")
    (d / "a").symlink_to("b")
    (d / "b").symlink_to("a")
    seen = [
        attempt(os.symlink, "file", file),
        attempt(os.symlink, "file", d / "link"),
        attempt(os.symlink, "", d / "empty"),
        attempt(os.symlink, "t" * 1000, d / "long"),
        attempt(os.readlink, d / "long"),
        attempt(os.symlink, "t" * 4095, d / "longest") in ("ok", "ENAMETOOLONG"),
        attempt(os.symlink, "t" * 4096, d / "too-long"),
        attempt(os.symlink, "x", d / ("n" * 256)),
        attempt(os.readlink, file),
        attempt(os.readlink, d / "missing"),
        attempt(os.readlink, d),
        attempt(os.stat, d / "a"),
        attempt(os.lstat, d / "a"),
        (d / "link").lstat().st_size,
        (d / "link").read_bytes(),
        mode_of(d / "link"),
        attempt(os.link, d / "missing", d / "x"),
        attempt(os.link, file, d / "link"),
        attempt(os.symlink, b"\xc3\xa4\xe2\x82\xac", os.fsencode(d / "utf")),
        os.readlink(os.fsencode(d / "utf")),
        attempt(os.unlink, d / "link"),
        file.exists(),
    ]
    chain = d / "file"
    for number in range(45):
        link = d / f"chain{number}"
        link.symlink_to(chain.name)
        chain = link
    seen += [opened(d / "chain30", os.O_RDONLY), opened(d / "chain44", os.O_RDONLY)]
    return seen
