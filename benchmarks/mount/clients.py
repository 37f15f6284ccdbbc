"""The programs that mount: their command lines, and one of them running."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mount.sites import Site

PROGRAM = str(Path(sys.executable).with_name("s3posixfs"))
_MOUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Client:
    """A program that mounts: its name, and the command line for a site, mountpoint and folder.

    ``acknowledges`` says where what it acknowledges is: "S3", or "here" where ``close`` and
    ``fsync`` return before the upload.
    """

    name: str
    program: str
    command: Callable[[Site, Path, Path], list[str]]
    acknowledges: str = "S3"


@dataclass(frozen=True, slots=True)
class Running:
    """A mount that runs: ``pid`` is its daemon's, ``seconds`` how long it took to be usable."""

    client: Client
    top: Path
    pid: int
    seconds: float


def ours(site: Site, mountpoint: Path, folder: Path) -> list[str]:
    """``writeback=off``: what is acknowledged is in S3."""
    return _ours(site, mountpoint, folder / "cache-ours")


def ours_writeback(site: Site, mountpoint: Path, folder: Path) -> list[str]:
    """``writeback=on``: what is acknowledged is on this host's disk."""
    return _ours(site, mountpoint, folder / "cache-writeback", "writeback=on")


def ours_for_all(site: Site, mountpoint: Path, folder: Path) -> list[str]:
    """Open to other users than root."""
    return _ours(site, mountpoint, folder / "cache-ours", "allow_other")


def _ours(site: Site, mountpoint: Path, cache: Path, *more: str) -> list[str]:
    options = [
        *(f"endpoint_url={site.url}", f"region={site.region}"),
        *(f"credentials_file={site.credentials}", f"profile={site.profile}"),
        *(f"cache_dir={cache}", *more),
    ]
    return [PROGRAM, "mount", site.bucket, str(mountpoint), "-f", "-o", ",".join(options)]


def s3fs(site: Site, mountpoint: Path, folder: Path) -> list[str]:
    passwords = folder / "passwd-s3fs"
    passwords.touch(mode=0o600)
    passwords.write_text(f"{site.access_key}:{site.secret_key}\n")
    options = [
        *(f"url={site.url}", "use_path_request_style", f"passwd_file={passwords}"),
        *("stat_cache_expire=1", f"endpoint={site.region}"),
    ]
    if site.ca is not None:
        options += ["no_check_certificate", "ssl_verify_hostname=0"]
    return ["s3fs", site.bucket, str(mountpoint), "-f", "-o", ",".join(options)]


def rclone(site: Site, mountpoint: Path, folder: Path) -> list[str]:
    """With its full cache; without a cache of writes it can neither append nor edit."""
    config = folder / "rclone.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"[it]\ntype = s3\nprovider = {site.rclone_provider}\nregion = {site.region}\n"
        f"endpoint = {site.url}\naccess_key_id = {site.access_key}\n"
        f"secret_access_key = {site.secret_key}\n"
    )
    return [
        *("rclone", "mount", f"it:{site.bucket}", str(mountpoint), "--config", str(config)),
        *("--vfs-cache-mode", "full", "--vfs-write-back", "0s", "--dir-cache-time", "1s"),
        *("--attr-timeout", "1s", "--cache-dir", str(folder / "cache-rclone")),
        *(("--no-check-certificate",) if site.ca is not None else ()),
    ]


OURS = Client("s3posixfs", PROGRAM, ours)
WRITEBACK = Client("s3posixfs, writeback", PROGRAM, ours_writeback, "here")
FOR_ALL = Client("s3posixfs", PROGRAM, ours_for_all)
CLIENTS = (
    OURS,
    WRITEBACK,
    Client("s3fs-fuse", "s3fs", s3fs),
    Client("rclone", "rclone", rclone, "here"),
)


def present(client: Client) -> bool:
    """Whether the program is installed."""
    return shutil.which(client.program) is not None


def is_mounted(path: Path) -> bool:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


@contextmanager
def mounted(client: Client, site: Site, folder: Path) -> Iterator[Running]:
    """The client's mount of the site's bucket; its log is in ``folder``."""
    mountpoint = folder / f"mnt-{client.name.replace(', ', '-')}"
    mountpoint.mkdir()
    log = folder / f"{client.name}.log"
    # What is set for other stores is not for this one (rclone fails on AWS_CA_BUNDLE).
    environment = {name: value for name, value in os.environ.items() if name[:4] != "AWS_"}
    if site.ca is not None:
        environment["SSL_CERT_FILE"] = str(site.ca)
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            client.command(site, mountpoint, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    try:
        while not is_mounted(mountpoint):
            if process.poll() is not None or time.perf_counter() - began > _MOUNT_SECONDS:
                raise RuntimeError(f"{client.name} does not mount: {log.read_text()[-2000:]}")
            time.sleep(0.01)
        os.listdir(mountpoint)
        yield Running(client, mountpoint, process.pid, time.perf_counter() - began)
    finally:
        if is_mounted(mountpoint):
            subprocess.run(["umount", str(mountpoint)], check=False, timeout=120)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
