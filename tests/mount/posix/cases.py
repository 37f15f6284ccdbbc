"""The cases of the POSIX table, by system call. Each returns a list of what it saw."""

from __future__ import annotations

from tests.mount.posix import (
    attributes,
    folders,
    kinds,
    links,
    listing,
    modes,
    opening,
    owners,
    permissions,
    renaming,
    special,
    times,
    unlinking,
    writing,
)
from tests.mount.posix.kit import Case

ALL: tuple[Case, ...] = (
    opening.open_flags,
    opening.open_truncate_append,
    opening.open_access_modes,
    permissions.open_permissions,
    permissions.folder_permissions,
    writing.truncate_calls,
    writing.holes,
    writing.fallocate_calls,
    writing.mmap_shared,
    writing.locks,
    modes.chmod_calls,
    modes.set_id_bits,
    modes.umask_and_creation,
    modes.setgid_folder,
    owners.chown_calls,
    owners.chgrp_by_member,
    times.times_of_files,
    times.times_of_folders,
    attributes.xattr_calls,
    folders.mkdir_rmdir_calls,
    folders.sticky_folder,
    links.link_and_symlink_calls,
    special.special_files,
    renaming.rename_calls,
    renaming.rename_open_files,
    unlinking.unlink_calls,
    listing.odd_names,
    listing.reading_folders,
    listing.inodes,
    kinds.renaming_each_over_each,
    kinds.removing_each,
    kinds.links_of_folders,
    kinds.what_is_open_and_gone,
    kinds.set_id_bits_and_writers,
    kinds.group_changes_by_others,
)

# Of these it matters whether a user is the one who owns what nobody does.
OF_NOBODY: tuple[Case, ...] = (
    permissions.folder_permissions,
    folders.sticky_folder,
    kinds.removing_each,
)
