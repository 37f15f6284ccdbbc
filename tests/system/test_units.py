"""The units, and what makes machines to run them in: what can be seen without starting either."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s3posixfs.cli.mount_options import parse_options

CHECKOUT = Path(__file__).resolve().parent.parent.parent
UNITS = CHECKOUT / "packaging" / "systemd"
MOUNT, STORE = UNITS / "s3posixfs@.service", UNITS / "s3posixfs-store.service"

# systemd.exec(5): each of these gives a unit a mount namespace, which its mounts stay in.
NAMESPACES = {
    *("PrivateDevices", "PrivateIPC", "PrivateMounts", "PrivateTmp", "ProcSubset"),
    *("ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs"),
    *("ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem"),
    *("BindPaths", "InaccessiblePaths", "ReadOnlyPaths", "ReadWritePaths", "TemporaryFileSystem"),
    *("RootDirectory", "RootImage", "StateDirectory", "CacheDirectory", "LogsDirectory"),
}


def directives(unit: Path) -> dict[str, list[str]]:
    """What a unit sets: the values of each name, in their order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", "[")):
            found.setdefault(name, []).append(value)
    return found


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Unknown words and missing programs are among what `systemd-analyze verify` finds."""
    program = Path(sys.executable).with_name("s3posixfs")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "s3posixfs").symlink_to(program)
    names = []
    for unit in (MOUNT, STORE):
        names.append(str(tmp_path / unit.name.replace("@.", "@team.")))
        text = unit.read_text().replace("@BIN@", str(tmp_path / "bin"))
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [MOUNT, STORE], ids=lambda unit: unit.name)
def test_a_unit_is_watched_over(unit: Path) -> None:
    found = directives(unit)
    assert found["Type"] == ["notify"]
    assert found["Restart"] == ["on-failure"]
    assert "network-online.target" in found["After"][0].split()
    assert found["Wants"] == ["network-online.target"]
    assert found["NoNewPrivileges"] == ["yes"]


def test_a_mount_of_a_unit_is_seen_by_everybody() -> None:
    assert not NAMESPACES & set(directives(MOUNT))


def test_a_mount_is_given_the_time_it_needs() -> None:
    """It goes on trying while the store is away, and has as long as it uploads to end."""
    found = directives(MOUNT)
    assert found["StartLimitIntervalSec"] == ["0"]
    drain = parse_options([], {}).number("drain_timeout")
    assert int(found["TimeoutStopSec"][0]) > drain + 10
    assert "umount --if-dead" in found["ExecStartPre"][0]
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert found["LoadCredential"] == ["aws-credentials:s3posixfs.%i"]


@pytest.mark.parametrize("box", ["debian-12", "ubuntu-24.04"])
def test_vagrant_takes_the_vagrantfile(tmp_path: Path, box: str) -> None:
    shutil.copy(CHECKOUT / "Vagrantfile", tmp_path)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "S3POSIXFS_BOX": box}
    done = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout
    secrets = tmp_path / ".vagrant" / "credentials"
    assert secrets.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["provision", "vm-test"])
def test_the_scripts_say_what_they_do(name: str) -> None:
    script = CHECKOUT / "scripts" / name
    syntax = subprocess.run(["bash", "-n", script], capture_output=True, check=False)
    assert syntax.stderr == b""
    done = subprocess.run(
        [script, "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"scripts/{name}" in done.stdout


def test_a_host_is_not_provisioned_by_mistake() -> None:
    for arguments in ([], ["--wrong"], ["store", "--store", "nowhere"], ["mount", "--credentials"]):
        done = subprocess.run(
            [CHECKOUT / "scripts" / "provision", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "see --help" in done.stderr
