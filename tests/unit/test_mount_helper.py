"""mount(8)'s flags for external helpers."""

from __future__ import annotations

import pytest

from s3posixfs.cli.mount_helper import translate


def test_fstab_options_go_along() -> None:
    found = translate(["shared", "/mnt", "-o", "rw,_netdev,profile=p"])
    assert found == ["mount", "-o", "rw,_netdev,profile=p", "--", "shared", "/mnt"]


def test_flags_of_mount_are_not_ours() -> None:
    assert translate(["-n", "shared", "/mnt", "-v", "-s", "-N", "1"]) == [
        *("mount", "--", "shared", "/mnt")
    ]
    assert translate(["shared", "/mnt", "-r"]) == ["mount", "-o", "ro", "--", "shared", "/mnt"]


def test_fake_does_nothing() -> None:
    assert translate(["shared", "/mnt", "-f", "-o", "rw"]) is None


@pytest.mark.parametrize("arguments", [[], ["shared"], ["a", "/b", "/c"], ["a", "/b", "-q"]])
def test_wrong_use_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"needed|-q"):
        translate(arguments)
