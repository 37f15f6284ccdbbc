"""The disk that scripts/vm-test starts its machines from: Debian made of packages, and the wheels.

Both are kept in a folder between runs, under names that change with what they are made of, so that
a machine needs neither the network nor more than a few seconds to be there. No machine writes to
them: each works on a copy-on-write disk of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
RELEASE = "bookworm"
PYTHON = "python3.11"  # of that release: wheels with compiled parts are for this one

PACKAGES = (
    *("linux-image-cloud-amd64", "initramfs-tools", "kmod"),
    *("systemd", "systemd-sysv", "udev", "dbus", "libpam-systemd", "openssh-server"),
    *("ca-certificates", "iproute2", "nftables", "procps", "psmisc", "sudo", "less", "man-db"),
    # What scripts/install asks for.
    *("fuse3", "libfuse3-dev", "pkg-config", "gcc", "libc6-dev"),
    *("python3", "python3-dev", "python3-venv"),
)
DISK_BYTES = 8 * 1024**3
ADDRESSES = {"store": "10.77.0.1", "client": "10.77.0.2"}


class VmError(Exception):
    """One line for the person who ran the script."""


def link_address(name: str, network: int) -> str:
    """MAC address of a machine's card: 0 leads to this host, 1 to the other machine."""
    return f"52:54:00:77:{network:02x}:{list(ADDRESSES).index(name) + 1:02x}"


def _files(public_key: str) -> dict[str, str]:
    """What the machines have beside their packages. Either disk can be either machine."""
    files = {
        "etc/hosts": "127.0.0.1 localhost\n"
        + "".join(f"{address} {name}\n" for name, address in ADDRESSES.items()),
        "etc/fstab": "# The root filesystem is named on the kernel's command line.\n",
        "root/.ssh/authorized_keys": public_key,
        "etc/systemd/network/90-host.network": "[Match]\nMACAddress="
        + " ".join(link_address(name, 0) for name in ADDRESSES)
        + "\n\n[Network]\nDHCP=ipv4\n",
        # Logs of the machine before its reboot are part of what is looked at.
        "etc/systemd/journald.conf.d/kept.conf": "[Journal]\n"
        "Storage=persistent\nSystemMaxUse=100M\n",
    }
    for name, address in ADDRESSES.items():
        files[f"etc/systemd/network/10-{name}.network"] = (
            f"[Match]\nMACAddress={link_address(name, 1)}\n\n[Network]\nAddress={address}/24\n"
        )
    return files


@dataclass(frozen=True, slots=True)
class Image:
    """A disk with its kernel beside it, and the key of its root."""

    disk: Path
    kernel: Path
    initrd: Path
    key: Path


def _run(words: list[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
    with log.open("a") as out:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise VmError(f"{words[0]} failed, see {log}:\n{tail}")


def _key(cache: Path) -> Path:
    key = cache / "key"
    if not key.exists():
        _run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], cache / "image.log")
    return key


def make_image(cache: Path, say: Callable[[str], None]) -> Image:
    """The one that is there, or a new one of Debian's packages of today. VmError."""
    key = _key(cache)
    files = _files(key.with_suffix(".pub").read_text())
    made_of = repr((RELEASE, PACKAGES, DISK_BYTES, sorted(files.items()))).encode()
    place = cache / f"debian-{RELEASE}-{hashlib.sha256(made_of).hexdigest()[:10]}"
    image = Image(place / "disk.ext4", place / "vmlinuz", place / "initrd", key)
    if place.exists():
        say(f"the image of Debian is there: {place}")
        return image
    say("making an image of Debian from its packages (once)")
    work = Path(tempfile.mkdtemp(dir=cache, prefix="making-"))
    try:
        root, new = work / "root", work / "new"
        new.mkdir()
        words = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE]
        _run([*words, str(root)], cache / "image.log")
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(mode=0o700 if ".ssh" in name else 0o755, parents=True, exist_ok=True)
            path.write_text(text)
        (root / "etc" / "machine-id").write_text("")
        for unit in ("systemd-networkd", "systemd-networkd-wait-online", "ssh"):
            _run(["systemctl", f"--root={root}", "enable", unit], cache / "image.log")
        for pattern, target in (("vmlinuz-*", "vmlinuz"), ("initrd.img-*", "initrd")):
            found = sorted((root / "boot").glob(pattern))
            if not found:
                raise VmError(f"the image has no {pattern} in /boot")
            shutil.copy(found[-1], new / target)
        disk = new / "disk.ext4"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk)], cache / "image.log")
        new.rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    say(f"the image is made: {place}")
    return image


def make_wheels(cache: Path, say: Callable[[str], None]) -> Path:
    """A folder with all that pip needs to install the checkout without a network. VmError."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    wanted = [*project["build-system"]["requires"], "wheel", *project["project"]["dependencies"]]
    made_of = f"{PYTHON} {wanted} {(CHECKOUT / 'constraints.txt').read_text()}".encode()
    place = cache / f"wheels-{hashlib.sha256(made_of).hexdigest()[:10]}"
    if place.exists():
        return place
    python = shutil.which(PYTHON, path=f"/usr/bin{os.pathsep}{os.environ.get('PATH', '')}")
    if python is None:
        raise VmError(f"{PYTHON} with venv is needed, as Debian {RELEASE} has it, to build wheels")
    say("building the wheels that the machines install from (once)")
    work = Path(tempfile.mkdtemp(dir=cache, prefix="making-"))
    try:
        _run([python, "-m", "venv", str(work / "venv")], cache / "wheels.log")
        pip = [str(work / "venv" / "bin" / "python"), "-m", "pip", "wheel", "--quiet"]
        pip += ["-c", str(CHECKOUT / "constraints.txt"), "--wheel-dir", str(work / "wheels")]
        _run([*pip, *wanted], cache / "wheels.log")
        (work / "wheels").rename(place)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return place


def install_into(image: Image, folder: Path, archive: Path, wheels: Path) -> Image:
    """A copy of the image in ``folder`` with the checkout of ``archive`` installed in it. VmError.

    By `scripts/install --root`, which does here in half a minute what an emulated machine takes
    eight for; what is left of scripts/provision, the machine does. Needs root, and a loop device.
    """
    disk, root, log = folder / "disk.ext4", folder / "root", folder / "install.log"
    _run(["cp", "--sparse=always", str(image.disk), str(disk)], log)
    _run(["tar", "-x", "-C", str(folder), "-f", str(archive), "checkout"], log)
    root.mkdir()
    _run(["mount", "-o", "loop", str(disk), str(root)], log)
    try:
        listing = f"cd {root} && find usr opt etc var/lib srv -xdev | sed s,^,/, | sort"
        _run(["sh", "-c", f"{listing} >root/files-before"], log)
        environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
        script = folder / "checkout" / "scripts" / "install"
        _run([str(script), "--root", str(root)], log, environment)
    finally:
        _run(["umount", str(root)], log)
        shutil.rmtree(folder / "checkout")
        root.rmdir()
    return replace(image, disk=disk)
