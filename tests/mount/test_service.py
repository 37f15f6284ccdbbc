"""A mount as a service of systemd: what it tells, its watchdog, its reload, its credentials."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from s3posixfs.cli.mount_options import parse_options, with_service_credentials
from s3posixfs.cli.notify import Notifier
from tests.mount.bed import EmbeddedBed
from tests.mount.mount_process import DaemonProcess

Message = dict[str, str]


class Manager:
    """The end of NOTIFY_SOCKET that a service manager reads."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(30)

    def hears(self, is_it: Callable[[Message], bool]) -> Message:
        """The next message of this kind."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            text = self._socket.recv(4096).decode()
            message = dict(line.split("=", 1) for line in text.splitlines())
            if is_it(message):
                return message
        raise AssertionError("never told")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(open_folder: Path) -> Iterator[Manager]:
    with closing(Manager(str(open_folder / "notify"))) as manager:
        yield manager


@pytest.fixture
def service(embedded: EmbeddedBed, open_folder: Path, manager: Manager) -> Iterator[DaemonProcess]:
    """A mount with its credentials in a file of its own, started as a unit starts it."""
    credentials = open_folder / "credentials"
    credentials.write_text(embedded.store.credentials_file.read_text())
    mount = embedded.mount(open_folder, options={"credentials_file": str(credentials)})
    mount.environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "300000"}
    with mount:
        yield mount


@pytest.mark.mount
def test_the_manager_is_told_of_a_life(service: DaemonProcess, manager: Manager) -> None:
    ready = manager.hears(lambda message: message.get("READY") == "1")
    assert str(service.mountpoint) in ready["STATUS"]
    alive = manager.hears(lambda message: message.get("WATCHDOG") == "1")
    assert alive["STATUS"] == "everything written is in S3"
    with (service.mountpoint / "shared" / "open").open("wb") as file:
        file.write(b"x" * 100)
        file.flush()
        told = manager.hears(lambda message: "1 files (100 bytes)" in message.get("STATUS", ""))
        assert "written to" in told["STATUS"]
    assert service.terminate() == 0
    stopping = manager.hears(lambda message: message.get("STOPPING") == "1")
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) >= 1_000_000


@pytest.mark.mount
def test_a_hangup_has_credentials_and_identities_read_again(
    service: DaemonProcess, manager: Manager, embedded: EmbeddedBed
) -> None:
    manager.hears(lambda message: message.get("READY") == "1")
    before = service.status()["daemon_refreshes"]
    old = embedded.store.admin()
    credentials = Path(str(service.options["credentials_file"]))
    text = credentials.read_text()
    changed = text.replace(old.secret_key, "not the secret any more")
    assert changed != text
    credentials.write_text(changed)
    os.kill(service.pid, signal.SIGHUP)
    reloading = manager.hears(lambda message: message.get("RELOADING") == "1")
    assert int(reloading["MONOTONIC_USEC"]) > 0
    manager.hears(lambda message: message.get("READY") == "1")
    assert service.status()["daemon_refreshes"] == before + 1
    # Taken at once, though the store had refused nothing; and put right in the same way.
    credentials.write_text(text)
    os.kill(service.pid, signal.SIGHUP)
    manager.hears(lambda message: message.get("READY") == "1")
    assert service.status()["daemon_refreshes"] == before + 2
    assert (service.mountpoint / "shared").is_dir()


@pytest.mark.mount
def test_a_service_that_cannot_mount_says_why(
    embedded: EmbeddedBed, open_folder: Path, manager: Manager
) -> None:
    mount = embedded.mount(open_folder, options={"profile": "nobody-of-that-name"})
    mount.environment = {"NOTIFY_SOCKET": manager.address}
    with pytest.raises(AssertionError, match="not mounted"):
        mount.start()
    assert "nobody-of-that-name" in manager.hears(lambda message: "ERRNO" in message)["STATUS"]


def test_sockets_without_a_name_in_the_filesystem(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": f"@{tmp_path}/notify", "WATCHDOG_USEC": "5000000"}
    with closing(Manager(environment["NOTIFY_SOCKET"])) as manager:
        notifier = Notifier.from_environment(environment)
        assert (environment, notifier.watchdog) == ({}, 5.0)
        notifier.ready("one line,\nwhatever it was")
        assert manager.hears(bool) == {"READY": "1", "STATUS": "one line, whatever it was"}
    notifier.ready("nobody hears, and that is no error")
    other = {"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}
    assert Notifier.from_environment(other).watchdog is None


def test_credentials_of_the_unit_are_used_where_no_others_are_named(tmp_path: Path) -> None:
    file = tmp_path / "aws-credentials"
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    options = parse_options(["profile=shared"], {})
    assert with_service_credentials(options, environment) == options  # there are none
    file.write_text("[shared]\n")
    given = with_service_credentials(options, environment)
    assert given.text("credentials_file") == str(file)
    assert with_service_credentials(options, {}) == options
    named = parse_options([f"credentials_file={file}"], {})
    assert with_service_credentials(named, environment) == named
