"""The frame of the command: help without loading anything, exit statuses, errors in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from s3posixfs import __version__
from s3posixfs.cli.common import default_state_dir, echo_table, read_secret_file, run_command
from s3posixfs.cli.main import NOUNS, run
from s3posixfs.core.errors import OperatorError, S3Error


def status(command: Callable[[], object]) -> int:
    try:
        run_command(command)
    except SystemExit as stop:
        return int(str(stop.code))
    return 0


def raising(error: BaseException) -> Callable[[], object]:
    def command() -> object:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "expected", "line"),
    [
        (OperatorError("no such thing: do this"), 1, "s3posixfs: no such thing: do this"),
        (OperatorError("two\nlines"), 1, "s3posixfs: two lines"),
        (
            S3Error("NoSuchBucket", "there is none", status=404),
            1,
            "s3posixfs: NoSuchBucket: there is none; see `s3posixfs doctor`",
        ),
        (
            FileNotFoundError(2, "No such file", "/x"),
            1,
            "s3posixfs: /x: No such file; check the name, or make it",
        ),
        (OSError(28, "No space left"), 1, "s3posixfs: No space left; make room on that disk"),
        (click.ClickException("nope"), 1, "s3posixfs: nope"),
        (click.Abort(), 130, ""),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(3), 3, ""),
        (click.exceptions.Exit(0), 0, ""),
        (click.exceptions.Exit(4), 4, ""),
    ],
)
def test_errors_are_one_line(
    error: BaseException, expected: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(raising(error)) == expected
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{line}\n" if line else "")


def test_what_was_not_foreseen_is_not_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S3POSIXFS_DEBUG", raising=False)
    assert status(raising(ValueError("the-secret"))) == 1
    err = capsys.readouterr().err
    assert "internal error (ValueError)" in err
    assert "the-secret" not in err
    assert err.count("\n") == 1
    monkeypatch.setenv("S3POSIXFS_DEBUG", "1")
    assert status(raising(ValueError("where"))) == 1
    assert "Traceback" in capsys.readouterr().err


def test_it_may_be_nested(capsys: pytest.CaptureFixture[str]) -> None:
    inner = raising(OperatorError("once"))
    assert status(lambda: run_command(inner)) == 1
    assert capsys.readouterr().err == "s3posixfs: once\n"


def test_results_and_statuses() -> None:
    assert status(lambda: None) == 0
    assert status(lambda: "text") == 0
    assert status(lambda: 5) == 5
    assert status(lambda: True) == 0


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from s3posixfs.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("module", ["mount_helper", "mount", "umount_helper", "status"])
def test_what_runs_beside_the_daemon_loads_none_of_its_parts(module: str) -> None:
    script = (
        f"import sys, s3posixfs.cli.{module};"
        "print([m for m in ('awscrt', 'botocore', 'pyfuse3', 'rich', 'ssl', 'trio') "
        "if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    assert shown == "[]\n"


def test_help_loads_no_command() -> None:
    script = (
        "import sys; from s3posixfs.cli.main import run; run(['--help']);"
        "print(sorted(m for m in sys.modules if m.startswith(('s3posixfs', 'boto', 'rich',"
        " 'trio', 'pyfuse3', 'cryptography', 'sqlite3'))))"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    for name, noun in NOUNS.items():
        assert f"{name} " in shown
        assert noun.help in shown
    assert shown.splitlines()[-1] == str(
        ["s3posixfs", "s3posixfs.cli", "s3posixfs.cli.common", "s3posixfs.cli.completion",
         "s3posixfs.cli.main", "s3posixfs.core", "s3posixfs.core.errors"]
    )  # fmt: skip


def test_version_and_usage() -> None:
    shown = command("--version")
    assert (shown.returncode, shown.stdout) == (0, f"s3posixfs {__version__}\n")
    for arguments in (["fly"], ["user", "fly"], ["user", "add"], ["user", "list", "--fly"]):
        wrong = command(*arguments)
        assert wrong.returncode == 2
        assert wrong.stdout == ""
        assert "Traceback" not in wrong.stderr
        assert wrong.stderr.splitlines()[-1].startswith("Error: ")


def test_a_reader_that_stops_early(tmp_path: Path) -> None:
    program = f"{sys.executable} -c 'from s3posixfs.cli.main import main; main()'"
    shown = subprocess.run(
        ["bash", "-c", f"{program} user --help | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert shown.returncode in (0, 1)  # whether it was done before the reader went
    assert shown.stderr == ""


def test_where_the_state_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir() == Path("/var/lib/s3posixfs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", "/x/state")
    assert default_state_dir() == Path("/x/state/s3posixfs")
    monkeypatch.setenv("HOME", "/home/me")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unusable)
        assert default_state_dir() == Path("/home/me/.local/state/s3posixfs")


def test_tables_cut_nothing_off(capsys: pytest.CaptureFixture[str]) -> None:
    echo_table(["name", "what"], [["a" * 300, True], ["b", ["x", "y"]], ["c", None], ["d", ()]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "a" * 300 + "  yes"
    assert [line.split() for line in lines[2:]] == [["b", "x,", "y"], ["c", "-"], ["d", "-"]]
    echo_table(["", ""], [["key", "value"]])
    assert capsys.readouterr().out == "key  value\n"


def test_secret_files(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    for text in ("password", "password\n", "password\r\n"):
        file.write_text(text)
        assert read_secret_file(str(file)) == "password"
    for text in ("", "one\ntwo\n"):
        file.write_text(text)
        with pytest.raises(OperatorError, match="one line"):
            read_secret_file(str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(OperatorError, match="UTF-8"):
        read_secret_file(str(file))


def test_run_takes_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--version"])
    assert capsys.readouterr().out == f"s3posixfs {__version__}\n"
    with pytest.raises(SystemExit) as stop:
        run(["user", "list", "--state", "/nonexistent/state"])
    assert stop.value.code == 1
