"""What programs call, at random: the steps of the machine on a mount."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import strategies as st

from tests.model.two_trees import NOREPLACE
from tests.mount.bed import MEMBERS

SLOTS = 5

users = st.sampled_from((1001, 1001, 1001, 1002, 1002, 0))
slots = st.integers(0, SLOTS - 1)
paths = st.sampled_from(("f", "g", "d", "e", "d/f", "d/g", "d/e", "e/f", "e/g", "d/e/f"))
offsets = st.integers(0, 300_000) | st.sampled_from((0, 1, 4096, 131_072))
sizes = st.integers(1, 200_000) | st.sampled_from((1, 4096, 131_072, 1_048_577))
contents = st.binary(max_size=40) | sizes.map(lambda size: bytes([size % 251]) * size)
access = st.sampled_from((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR))
makes = st.sampled_from((0, os.O_CREAT, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL))
extras = st.sampled_from((0, 0, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY))
modes = st.sampled_from((0o600, 0o644, 0o666, 0o755, 0o777, 0o700, 0o444))
folder_modes = st.sampled_from((0o755, 0o777, 0o777, 0o700, 0o1777))
names = st.sampled_from(("user.a", "user.b"))
moments = st.integers(0, 999_999_999).map(lambda second: second * 10**9 + second)
folders = st.sampled_from(("d", "e", "d/e", "f"))


def calls(**arguments: tuple[st.SearchStrategy[Any], ...]) -> st.SearchStrategy[tuple[Any, ...]]:
    """A call by name with its arguments."""
    return st.one_of(*(st.tuples(st.just(name), *those) for name, those in arguments.items()))


ON_DESCRIPTORS = {
    "write": (contents,),
    "pwrite": (offsets, contents),
    "stored": (offsets, contents),  # written and synced
    "pread": (offsets, st.integers(1, 300_000)),
    "seek": (st.integers(0, 5000), st.sampled_from((0, 1, 2))),
    "ftruncate": (offsets,),
    "map_write": (offsets, contents),
    "fsync": (),
    "fstat": (),
    "same_file": (paths,),
    "fchmod": (modes,),
    "close": (),
}
on_names = calls(
    list_folder=(st.sampled_from(("", "d", "e", "d/e", "f")),),
    stat=(paths,),
    read=(paths,),
    access=(paths, st.sampled_from((os.R_OK, os.W_OK, os.X_OK, os.F_OK))),
    readlink=(paths,),
    mkdir=(folders, folder_modes),
    rmdir=(folders,),
    unlink=(paths,),
    rename=(paths, paths, st.sampled_from((0, 0, 0, NOREPLACE))),
    symlink=(st.sampled_from(("f", "d", "../d/f", "nowhere")), paths),
    truncate=(paths, offsets),
)
on_attributes = calls(
    chmod=(paths, modes | folder_modes),
    chown=(paths, st.sampled_from((-1, *MEMBERS.values())), st.sampled_from((-1, 1001, 1002))),
    utimens=(paths, moments, moments),
    setxattr=(
        paths,
        names,
        st.binary(max_size=200),
        st.sampled_from((0, 0, os.XATTR_CREATE, os.XATTR_REPLACE)),
    ),
    getxattr=(paths, names),
    listxattr=(paths,),
    removexattr=(paths, names),
)
openings = calls(
    open=(access, makes, extras, modes),
    create=(st.sampled_from((0, os.O_TRUNC, os.O_APPEND, os.O_EXCL)),),
)
events = calls(
    put_outside=(contents,),
    delete_outside=(),
    mount_anew=(st.sampled_from(("umount", "sigterm", "kill", "kill", "kill", "kill")),),
    store_away=(
        st.lists(st.tuples(slots, offsets, contents, st.booleans()), max_size=4),
        st.booleans(),
    ),
    compare=(),
)
on_descriptors = calls(**ON_DESCRIPTORS)
anything = st.one_of(*[openings] * 4, *[on_descriptors] * 2, *[on_names] * 2, on_attributes, events)
