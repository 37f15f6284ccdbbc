"""mount(8)'s and umount(8)'s flags for external helpers, and their exit statuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from s3posixfs.cli import mount_helper, umount_helper
from s3posixfs.cli.generic_options import remount_flags
from s3posixfs.cli.mount_helper import Wanted, check_options, exit_status, translate
from s3posixfs.cli.mount_options import known
from s3posixfs.core.errors import OperatorError, S3Error


def test_fstab_options_go_along() -> None:
    found = translate(["shared", "/mnt", "-o", "rw,_netdev,profile=p"])
    assert found == Wanted("shared", "/mnt", ("rw,_netdev,profile=p",))
    assert found.names == ["rw", "_netdev", "profile"]


def test_flags_of_mount_are_not_ours() -> None:
    assert translate(["-n", "shared", "/mnt", "-v", "-N", "1", "-t", "fuse.s3posixfs"]) == (
        Wanted("shared", "/mnt", ())
    )
    assert translate(["shared", "/mnt", "-r"]) == Wanted("shared", "/mnt", ("ro",))
    assert translate(["shared", "/mnt", "-fs", "-o", "rw"]) == (
        Wanted("shared", "/mnt", ("rw",), fake=True, sloppy=True)
    )


@pytest.mark.parametrize("arguments", [[], ["shared"], ["a", "/b", "/c"], ["a", "/b", "-q"]])
def test_wrong_use_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"needed|-q"):
        translate(arguments)
    with pytest.raises(ValueError, match=r"needed|-q"):
        umount_helper.translate([*arguments, "-q"])


def test_sloppy_drops_what_nobody_knows_and_keeps_the_rest_as_it_was() -> None:
    given = ["rw,colour=red,_netdev,profile=a\\,b", "fast", "x-systemd.automount,metadata-ttl=2"]
    assert known(given) == ["rw,_netdev,profile=a\\,b", "", "x-systemd.automount,metadata-ttl=2"]
    # A secret is not dropped in silence.
    with pytest.raises(OperatorError, match="aws_secret_access_key is a secret"):
        check_options(Wanted("shared", "/mnt", tuple(known(["aws_secret_access_key=hunter22"]))))


def test_options_are_refused_by_name() -> None:
    with pytest.raises(OperatorError, match="unknown option 'colour'"):
        check_options(Wanted("shared", "/mnt", ("rw,colour=red",)))
    with pytest.raises(OperatorError, match="contradict"):
        check_options(Wanted("shared", "/mnt", ("sync,writeback",)))
    # All that mount(8) of util-linux hands on of its own.
    check_options(
        Wanted(
            "shared",
            "/mnt",
            (
                "rw,relatime,sync,dirsync,lazytime,strictatime,iversion,nodiratime,noexec,nosuid",
                "nodev,_netdev,nofail,users,user=alice,uhelper=foo,helper=bar,x-gvfs-show,owner",
                "user_id=0,group_id=0,default_permissions,auto,noauto,defaults,comment=text",
            ),
        )
    )


def test_umount_flags() -> None:
    assert umount_helper.translate(["/mnt", "-n", "-r", "-v", "-t", "fuse.s3posixfs"]) == (
        "/mnt",
        [],
    )
    assert umount_helper.translate(["-lf", "/mnt"]) == ("/mnt", ["-f", "-l"])


@pytest.mark.parametrize(
    ("names", "flags"),
    [
        (["remount", "ro"], 0x21),
        (["ro", "remount", "rw"], 0x20),
        (["remount", "nosuid", "nodev", "noexec", "noatime"], 0x42E),
        (["nosuid", "nodev", "remount", "suid", "profile", "_netdev"], 0x24),
    ],
)
def test_flags_of_a_remount(names: list[str], flags: int) -> None:
    assert remount_flags(names) == flags


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OperatorError("no"), mount_helper.FAILED),
        (S3Error("NoSuchBucket", "none", status=404), mount_helper.FAILED),
        (SystemExit(1), mount_helper.FAILED),
        (OSError(12, "Cannot allocate memory"), mount_helper.SYSTEM),
        (ValueError("never"), mount_helper.BUG),
        (KeyboardInterrupt(), mount_helper.INTERRUPTED),
    ],
)
def test_exit_statuses_are_those_of_mount(
    error: BaseException, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(raising(error)) == status
    assert len(capsys.readouterr().err.splitlines()) <= 1
    assert exit_status(lambda: None) == 0
