"""What ``status`` shows people; that it asks real mounts is tested with those."""

from __future__ import annotations

import time

import pytest

from s3posixfs.cli.status import _duration, _left, _show, _show_mount, _summary, _until


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3585, "59 min 45 s"),
        (3600, "1 h 0 min"), (90_061, "1 d 1 h"), (2_678_400, "31 d 0 h"),
    ],
)  # fmt: skip
def test_a_duration(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


def test_until() -> None:
    assert _until(time.time() + 7200.5) == "in 2 h 0 min"
    assert _until(time.time() - 1) == "expired"


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (1536, "dirty_bytes", "1.5 KiB"),
        (True, "rename", "yes"),
        ({"complete": True, "copy": False}, "conditions", "complete yes, copy no"),
        ({}, "errors", "-"),
        (None, "rename_error", "-"),
        (0.0, "clock_offset_seconds", "0 s"),
        (75.0, "oldest_seconds", "1 min 15 s"),
    ],
)
def test_a_value(value: object, name: str, text: str) -> None:
    assert _show(value, name) == text


def test_what_is_not_in_s3_stands_at_the_top(capsys: pytest.CaptureFixture[str]) -> None:
    mount = {
        "mountpoint": "/srv/a",
        "health": "ok",
        "pid": 7,
        "source": "shared",
        "since": 0.0,
        "daemon_credentials_expire": None,
        "filesystem": {
            "dirty_files": 0, "dirty_bytes": 0, "queued_files": 3, "queued_bytes": 2048,
            "failing_files": 1, "oldest_seconds": 61.0,
        },
    }  # fmt: skip
    waiting = "3 files (2.0 KiB) closed and queued, 1 of them failing, the oldest for 1 min 1 s"
    assert _left(mount) == waiting
    _show_mount(mount)
    first = capsys.readouterr().out.splitlines()[:5]
    assert first[0] == "/srv/a"
    assert any(line.split(None, 4)[:4] == ["not", "in", "S3", "yet"] for line in first)
    assert any(waiting in line for line in first)
    mount["filesystem"] = {"dirty_files": 0, "queued_files": 0}
    assert _left(mount) == "nothing"


def test_a_dead_mount_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    dead = {"mountpoint": "/srv/a", "health": "dead: its daemon is not running"}
    _show_mount(dead)
    assert "s3posixfs umount --if-dead /srv/a" in capsys.readouterr().out
    _summary([dead, {"mountpoint": "/srv/b", "health": "ok", "pid": 1, "source": "b"}])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mountpoint", "/srv/a", "/srv/b"]
