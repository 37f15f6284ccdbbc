"""Who owns, who signs, who may."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from s3posixfs.core.types import Capabilities, ObjectStat, Owner, PosixOwner
from s3posixfs.fs.attributes import AttributeChanges
from s3posixfs.fs.caller import Caller
from s3posixfs.fs.config import Access, FsConfig
from s3posixfs.fs.ownership import OwnershipRules
from s3posixfs.identity.map import Identity, IdentityMap
from tests.filesystem_bed import (
    ALICE,
    BOB,
    BUCKET,
    CAROL,
    DAVE,
    IDENTITIES,
    PLAIN,
    ROOT,
    Bed,
    MemorySigners,
    filesystem_bed,
)
from tests.memory_store import ALL_CAPABILITIES, MemoryStore

STORES = pytest.mark.parametrize("capabilities", [ALL_CAPABILITIES, PLAIN], ids=["all", "plain"])


def has_errno(code: int) -> pytest.RaisesExc[OSError]:
    return pytest.RaisesExc(OSError, check=lambda error: error.errno == code)


def allow(identity: str, action: str, bucket: str, key: str) -> bool:
    """carol may do nothing; bob may not touch what is below ``private/``."""
    if identity == "carol":
        return False
    return not (identity == "bob" and key.startswith("private/") and action != "s3:ListBucket")


# Ownership, as a table: owner, metadata → type, permissions, uid, gid.

ADMIN = Identity("root-of-s3", (), ("root-of-s3",), PosixOwner(3000, 3000), admin=True)
SETUID = {"uid": "0", "gid": "0", "mode": str(0o104755)}
OWNERS = [
    ("alice", {}, "-rw-r--r--", 1001, 1001),
    ("alice", SETUID, "-rwxr-xr-x", 1001, 1001),
    ("alice", {"uid": "1002", "gid": "50", "mode": str(0o102770)}, "-rwxrwx---", 1001, 50),
    ("alice", {"gid": "51", "mode": str(0o100600)}, "-rw-------", 1001, 1001),
    ("alice", {"mode": str(0o60666), "rdev": "5"}, "-rw-rw-rw-", 1001, 1001),
    ("alice", {"mode": str(0o20666), "rdev": "5"}, "-rw-rw-rw-", 1001, 1001),
    ("alice", {"mode": str(0o120777)}, "lrwxrwxrwx", 1001, 1001),
    ("alice", {"mode": str(0o10640)}, "prw-r-----", 1001, 1001),
    ("alice", {"file-permissions": "0104755", "file-owner": "0"}, "-rwxr-xr-x", 1001, 1001),
    ("alice", {"mode": "104755", "uid": "0"}, "-rwxr-xr-x", 1001, 1001),
    ("daemon", {}, "-rw-r--r--", 65534, 65534),
    ("daemon", SETUID, "-rwsr-xr-x", 0, 0),
    ("daemon", {"uid": "1500"}, "-rw-r--r--", 1500, 65534),
    ("daemon", {"mode": str(0o20666), "rdev": "5"}, "crw-rw-rw-", 65534, 65534),
    ("root-of-s3", SETUID, "-rwsr-xr-x", 0, 0),
    ("root-of-s3", {}, "-rw-r--r--", 3000, 3000),
    ("stranger", SETUID, "-rwxr-xr-x", 65534, 65534),
    ("stranger", {}, "-rw-r--r--", 65534, 65534),
    (None, SETUID, "-rwxr-xr-x", 65534, 65534),
    ("believed", SETUID, "-rwsr-xr-x", 0, 0),
]


def rules(config: FsConfig | None = None) -> OwnershipRules:
    identities = IdentityMap((*IDENTITIES.identities, ADMIN))
    signers = MemorySigners(MemoryStore(BUCKET), identities)
    chosen = config or FsConfig(bucket=BUCKET, trusted_owners=frozenset({"believed"}))
    return OwnershipRules(chosen, signers, lambda uid, gid: (uid, gid) == (1001, 50))


@pytest.mark.parametrize(("owner", "metadata", "mode", "uid", "gid"), OWNERS)
def test_who_owns_a_file(
    owner: str | None, metadata: Mapping[str, str], mode: str, uid: int, gid: int
) -> None:
    found = ObjectStat("k", 1, "e", 5.0, Owner(owner) if owner else None, metadata)
    attributes = rules().file(found, metadata)
    assert (stat.filemode(attributes.mode), attributes.uid, attributes.gid) == (mode, uid, gid)


@pytest.mark.parametrize(
    ("owner", "metadata", "mode", "uid", "gid"),
    [
        ("alice", {}, "drwxr-xr-x", 1001, 1001),
        ("alice", {"gid": "50", "mode": str(0o42775)}, "drwxrwsr-x", 1001, 50),
        ("alice", {"gid": "51", "mode": str(0o42775)}, "drwxrwxr-x", 1001, 1001),
        ("alice", {"gid": "1001", "mode": str(0o43777)}, "drwxrwsrwt", 1001, 1001),
        ("stranger", {"gid": "50", "mode": str(0o42775)}, "drwxrwxr-x", 65534, 65534),
        ("daemon", {"gid": "51", "uid": "9", "mode": str(0o42775)}, "drwxrwsr-x", 9, 51),
    ],
)
def test_who_owns_a_folder(
    owner: str, metadata: Mapping[str, str], mode: str, uid: int, gid: int
) -> None:
    found = ObjectStat("k/", 0, "e", 5.0, Owner(owner), metadata)
    attributes = rules().directory(found, metadata, seen_ns=0)
    assert (stat.filemode(attributes.mode), attributes.uid, attributes.gid) == (mode, uid, gid)


def test_star_trusts_all_owners() -> None:
    config = FsConfig(bucket=BUCKET, trusted_owners=frozenset({"*"}))
    found = ObjectStat("k", 1, "e", 5.0, None, SETUID)
    assert rules(config).file(found, SETUID).mode == 0o104755


# Signing.

SIGNED = [
    (FsConfig(bucket=BUCKET), ALICE, "alice", (1001, 1001)),
    (FsConfig(bucket=BUCKET), ROOT, "daemon", (0, 0)),
    (FsConfig(bucket=BUCKET), DAVE, "daemon", (1500, 1500)),
    (FsConfig(bucket=BUCKET, sign_as="daemon"), ALICE, "daemon", (1001, 1001)),
]


@STORES
@pytest.mark.parametrize(("config", "caller", "signer", "owner"), SIGNED)
async def test_who_signs(
    tmp_path: Path,
    capabilities: Capabilities,
    config: FsConfig,
    caller: Caller,
    signer: str,
    owner: tuple[int, int],
) -> None:
    async with filesystem_bed(tmp_path, config=config, capabilities=capabilities) as bed:
        await bed.mkdir("d", caller)
        await bed.write("d/a", b"x", caller)
        parent, name = await bed.split("d/link", caller)
        await bed.fs.symlink(parent, name, b"a", caller)
        for key in ("d/", "d/a", "d/link"):
            assert bed.s3_owner(key) == signer
        bed.pass_time()
        for path in ("d", "d/a", "d/link"):
            assert await bed.owner(path) == owner
        await bed.chmod("d/a", 0o600, caller)
        await bed.rename("d/a", "d/b", caller)
        await bed.rename("d", "e", caller)
        for key in ("e/", "e/b", "e/link"):
            assert bed.s3_owner(key) == signer
        bed.pass_time()
        assert await bed.owner("e/b") == owner
        assert await bed.mode("e/b") == "-rw-------"
        assert await bed.mode("e/link") == "lrwxrwxrwx"


async def test_unmapped_callers_can_be_denied(tmp_path: Path) -> None:
    config = FsConfig(bucket=BUCKET, unmapped="deny")
    async with filesystem_bed(tmp_path, config=config) as bed:
        bed.put("a")
        with has_errno(errno.EACCES):
            await bed.read("a", DAVE)
        with has_errno(errno.EACCES):
            await bed.list("", DAVE)
        with has_errno(errno.EACCES):
            await bed.write("b", b"", DAVE)
        assert await bed.read("a", ALICE) == b"x"


async def test_identity_without_credentials_is_signed_for_by_the_daemon(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        bed.signers.without_credentials.add("alice")
        await bed.write("a", b"x", ALICE)
        assert bed.s3_owner("a") == "daemon"
        bed.put("b", owner="alice")
        await bed.chmod("b", 0o600, ALICE)
        assert bed.s3_owner("b") == "daemon"
        bed.pass_time()
        for path in ("a", "b"):
            assert await bed.owner(path) == (1001, 1001)


@STORES
async def test_root_works_on_the_files_of_others(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        bed.put("a", owner="alice")
        await bed.chmod("a", 0o755)
        assert bed.s3_owner("a") == "alice"
        await bed.rename("a", "b")
        assert bed.s3_owner("b") == "alice"
        await bed.write("b", b"by root")
        bed.pass_time()
        assert await bed.owner("b") == (1001, 1001)


async def test_what_only_the_mount_is_believed_in_becomes_the_mounts(tmp_path: Path) -> None:
    """A setuid bit that the kernel let its owner set. One set through S3 stays worth nothing."""
    async with filesystem_bed(tmp_path) as bed:
        bed.put("a", owner="alice", metadata={"mode": str(0o104755)})
        assert await bed.mode("a") == "-rwxr-xr-x"
        await bed.chmod("a", 0o4755, ALICE)
        assert bed.s3_owner("a") == "daemon"
        bed.pass_time()
        assert await bed.mode("a") == "-rwsr-xr-x"
        assert await bed.owner("a") == (1001, 1001)
        bed.put("a", b"through S3", owner="alice", metadata={"mode": str(0o104755)})
        bed.pass_time()
        assert await bed.mode("a") == "-rwxr-xr-x"


@STORES
async def test_chown(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        await bed.write("a", b"x")
        await bed.chown("a", 1001, 1001)
        assert bed.s3_owner("a") == "alice"
        await bed.chown("a", 1002, 1002)
        assert bed.s3_owner("a") == "bob"
        await bed.chown("a", 4000, 4000)
        assert bed.s3_owner("a") == "daemon"
        bed.pass_time()
        assert await bed.owner("a") == (4000, 4000)
        await bed.chown("a", 0, 0)
        await bed.mkdir("d")
        await bed.chown("d", 1001, 1001)
        assert bed.s3_owner("d/") == "alice"
        bed.pass_time()
        assert await bed.owner("d") == (1001, 1001)
        for uid, gid in ((1002, None), (None, 1002), (0, None)):
            with has_errno(errno.EPERM):
                await bed.chown("d", uid, gid, ALICE)
        with has_errno(errno.EPERM):
            await bed.chmod("d", 0o777, BOB)
        await bed.chown("d", 1001, 1001, ALICE)


async def test_group_of_the_caller_can_be_given(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"x", DAVE)
        member = replace(DAVE, pid=1, groups_of=lambda _: frozenset({77}))
        await bed.chown("a", None, 77, member)
        bed.pass_time()
        assert await bed.owner("a") == (1500, 77)


# Access.


@STORES
async def test_carol_has_no_rights_in_s3(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities, authorize=allow) as bed:
        await bed.write("a", b"secret", ALICE, mode=0o666)
        await bed.mkdir("d", ROOT, 0o777)
        await bed.write("d/b", b"x", ROOT, mode=0o666)
        assert await bed.read("a", BOB) == b"secret"
        inode = (await bed.walk("a")).inode
        with has_errno(errno.EACCES):
            await bed.list("", CAROL)
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
            with has_errno(errno.EACCES):
                await bed.fs.open(inode, flags, CAROL)
        for flags in (os.O_CREAT | os.O_WRONLY, os.O_CREAT | os.O_EXCL | os.O_WRONLY):
            with has_errno(errno.EACCES):
                await bed.write("d/new", b"x", CAROL, flags=flags)
        with has_errno(errno.EACCES):
            await bed.unlink("d/b", CAROL)
        with has_errno(errno.EACCES):
            await bed.rename("d/b", "d/c", CAROL)
        with has_errno(errno.EACCES):
            await bed.mkdir("d/e", CAROL)
        assert bed.store.data(BUCKET, "a") == b"secret"
        assert bed.store.keys(BUCKET) == ["a", "d/", "d/b"]
        assert bed.fs.status()["dirty_files"] == 0


@STORES
async def test_policy_refuses_what_mode_grants(tmp_path: Path, capabilities: Capabilities) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities, authorize=allow) as bed:
        await bed.mkdir("private", ROOT, 0o777)
        await bed.write("private/a", b"alice's", ALICE, mode=0o666)
        assert await bed.read("private/a", ALICE) == b"alice's"
        with has_errno(errno.EACCES):
            await bed.read("private/a", BOB)
        assert list(await bed.list("private", BOB)) == ["a"]
        parent, name = await bed.split("private/l", ALICE)
        link = await bed.fs.symlink(parent, name, b"target", ALICE)
        assert await bed.fs.readlink(link.inode, ALICE) == b"target"
        with has_errno(errno.EACCES):
            await bed.fs.readlink(link.inode, BOB)


async def test_what_is_not_in_s3_yet_is_refused_too(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, authorize=allow) as bed:
        await bed.mkdir("private", ROOT, 0o777)
        parent, name = await bed.split("private/new", ALICE)
        found, opened = await bed.fs.create(parent, name, 0o666, os.O_WRONLY, ALICE)
        await bed.fs.write(opened.handle, 0, b"not uploaded")
        with has_errno(errno.EACCES):
            await bed.fs.open(found.inode, os.O_RDONLY, BOB)
        await bed.fs.release(opened.handle)


async def test_mode_refuses_what_policy_grants(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        await bed.write("a", b"x", ALICE, mode=0o640)
        inode = (await bed.walk("a")).inode
        for flags in (os.O_RDONLY, os.O_WRONLY):
            with has_errno(errno.EACCES):
                await bed.fs.open(inode, flags, BOB)
        await bed.chmod("a", 0o644, ALICE)
        assert await bed.read("a", BOB) == b"x"
        with has_errno(errno.EACCES):
            await bed.fs.open(inode, os.O_WRONLY, BOB)
        with has_errno(errno.EACCES):
            await bed.setattr("a", AttributeChanges(size=0), BOB)
        assert bed.store.data(BUCKET, "a") == b"x"
        # The bucket's folder is nobody's: it does not let others take a file away …
        with has_errno(errno.EPERM):
            await bed.unlink("a", BOB)
        with has_errno(errno.EPERM):
            await bed.rename("a", "b", BOB)
        await bed.write("b", b"y", BOB)
        with has_errno(errno.EPERM):
            await bed.rename("b", "a", BOB)
        # … and is not sticky, for which Linux has further rules.
        assert (await bed.walk("")).attributes.mode & 0o7777 == 0o777
        await bed.rename("a", "c", ALICE)
        await bed.unlink("c", ALICE)
        await bed.mkdir("d", ALICE, 0o755)
        with has_errno(errno.EACCES):
            await bed.write("d/x", b"", BOB)


async def test_mode_of_another_host_counts_at_open(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, capabilities=PLAIN) as bed:
        bed.put("a", owner="alice", metadata={"mode": str(0o100600)})
        entries = await bed.list("", BOB)  # a listing does not know the mode
        with has_errno(errno.EACCES):
            await bed.fs.open(entries["a"].inode, os.O_RDONLY, BOB)


@pytest.mark.parametrize(
    ("access", "policy", "mode"),
    [("both", False, False), ("posix", True, False), ("s3", False, True)],
)
async def test_who_decides(tmp_path: Path, access: Access, policy: bool, mode: bool) -> None:
    """Whether bob reads what only the policy forbids, and what only the mode forbids."""
    config = FsConfig(bucket=BUCKET, access=access)
    async with filesystem_bed(tmp_path, config=config, authorize=allow) as bed:
        bed.put("private/a", owner="alice", metadata={"mode": str(0o100644)})
        bed.put("b", owner="alice", metadata={"mode": str(0o100600)})
        assert await _reads(bed, "private/a") == policy
        assert await _reads(bed, "b") == mode


async def _reads(bed: Bed, path: str) -> bool:
    try:
        await bed.read(path, BOB)
    except PermissionError:
        return False
    return True


async def test_answers_are_remembered_and_run_out(tmp_path: Path) -> None:
    denied = {"carol"}
    async with filesystem_bed(
        tmp_path, authorize=lambda identity, *_: identity not in denied
    ) as bed:
        with has_errno(errno.EACCES):
            await bed.list("", CAROL)
        before = bed.store.requests["list_objects"]
        with has_errno(errno.EACCES):
            await bed.list("", CAROL)
        assert bed.store.requests["list_objects"] == before
        denied.clear()
        bed.pass_time()
        await bed.list("", CAROL)
        await bed.write("c", b"x", CAROL)
        probes = bed.store.requests["put"]
        await bed.write("d", b"x", CAROL)
        assert bed.store.requests["put"] == probes + 1


@STORES
async def test_another_may_write_into_a_file_and_it_stays_its_owners(
    tmp_path: Path, capabilities: Capabilities
) -> None:
    async with filesystem_bed(tmp_path, capabilities=capabilities) as bed:
        await bed.write("a", b"x", ALICE, mode=0o666)
        for content, caller in ((b"y", BOB), (b"z", ROOT)):
            await bed.write("a", content, caller)
            assert bed.s3_owner("a") == "alice"
            assert bed.store.data(BUCKET, "a") == content
            bed.pass_time()
            assert await bed.owner("a") == (1001, 1001)
            assert await bed.mode("a") == "-rw-rw-rw-"


async def test_what_cannot_be_given_back_is_kept_in_metadata_or_is_the_writers(
    tmp_path: Path,
) -> None:
    """alice may not put any more; then the mount's identity may not either."""
    refused: set[str] = set()

    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return action != "s3:PutObject" or identity not in refused

    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        await bed.write("a", b"x", ALICE, mode=0o666)
        refused.add("alice")
        await bed.write("a", b"y", BOB)
        assert bed.s3_owner("a") == "daemon"
        bed.pass_time()
        assert await bed.owner("a") == (1001, 1001)
        refused.add("daemon")
        await bed.write("a", b"z", BOB)
        assert bed.s3_owner("a") == "bob"
        bed.pass_time()
        assert await bed.owner("a") == (1002, 1002)


async def test_devices_are_for_root(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path) as bed:
        with has_errno(errno.EPERM):
            await bed.fs.mknod(1, b"null", stat.S_IFCHR | 0o666, 259, ALICE)
        await bed.fs.mknod(1, b"null", stat.S_IFCHR | 0o666, 259, ROOT)
        await bed.fs.mknod(1, b"fifo", stat.S_IFIFO | 0o600, 0, ALICE)
        bed.pass_time()
        assert (await bed.walk("null")).attributes.rdev == 259
        assert await bed.mode("null") == "crw-rw-rw-"
        assert await bed.mode("fifo") == "prw-------"
        assert bed.s3_owner("fifo") == "alice"


async def test_objects_closed_to_the_daemon(tmp_path: Path) -> None:
    """As on Ceph RGW: an object in another's bucket can be read by its writer only."""

    beds: list[Bed] = []

    def own_only(identity: str, action: str, bucket: str, key: str) -> bool:
        if action != "s3:GetObject" or key not in beds[0].store.keys(bucket):
            return True
        return identity == beds[0].s3_owner(key)

    async with filesystem_bed(tmp_path, capabilities=PLAIN, authorize=own_only) as bed:
        beds.append(bed)
        bed.put("alice", b"hello", owner="alice", metadata={"mode": str(0o100664)})
        assert await bed.mode("alice") == "-rw-rw-r--"
        inode = (await bed.walk("alice")).inode
        opened = await bed.fs.open(inode, os.O_WRONLY | os.O_APPEND, ALICE)
        await bed.fs.write(opened.handle, 0, b"!")
        await bed.fs.flush(opened.handle)
        await bed.fs.release(opened.handle)
        assert bed.store.data(BUCKET, "alice") == b"hello!"
        await bed.chmod("alice", 0o600, ALICE)
        await bed.rename("alice", "alice2", ALICE)
        parent, name = await bed.split("alice-link", ALICE)
        link = await bed.fs.symlink(parent, name, b"x", ALICE)
        bed.pass_time()
        assert await bed.fs.readlink(link.inode, ALICE) == b"x"
        assert await bed.mode("alice2") == "-rw-------"
        with has_errno(errno.EACCES):
            await bed.read("alice2", BOB)
        with has_errno(errno.EACCES):
            await bed.read("alice2", ROOT)


async def test_denied_callers_cannot_even_look(tmp_path: Path) -> None:
    async with filesystem_bed(tmp_path, config=FsConfig(bucket=BUCKET, unmapped="deny")) as bed:
        bed.put("a")
        with has_errno(errno.EACCES):
            await bed.walk("a", DAVE)


async def test_a_folder_that_the_daemon_cannot_mark_goes(tmp_path: Path) -> None:
    def authorize(identity: str, action: str, bucket: str, key: str) -> bool:
        return not (identity == "daemon" and action == "s3:PutObject")

    async with filesystem_bed(tmp_path, authorize=authorize) as bed:
        bed.put("d/a", owner="alice")
        await bed.unlink("d/a", ALICE)
        assert bed.store.keys(BUCKET) == []
