"""Machines that commands are run on by ssh, and those among them that QEMU makes here."""

from __future__ import annotations

import fcntl
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vm_image import Image, VmError, link_address

# ioctl(2) of /dev/kvm: KVM_CREATE_VM of machine type 0 (linux/kvm.h).
_KVM_CREATE_VM = 0xAE01
# Seconds within which a kernel says its first word under KVM; it takes one of them.
_FIRST_WORD = 20.0
# How much longer than a real machine one may take that is emulated in software.
SLOWER = 8.0
# Machines within machines may not set what the flag promises.
_CPU = {"kvm": "host,-arch-capabilities", "tcg": "max"}
_SSH = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR"),
    *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=30"),
)


class CommandFailedError(Exception):
    """A command on a machine ended with another status than 0, or not in time."""


@dataclass
class Machine:
    """A host that takes root's ssh by the section ``name`` of the file ``ssh_config``."""

    name: str
    ssh_config: Path
    log: Path
    seconds: float = 1.0  # how much slower than a real machine it is: a factor of every deadline

    def run(
        self,
        command: str,
        *,
        user: str = "root",
        text: str | bytes = b"",
        timeout: float = 120,
        check: bool = True,
        shared: bool = True,
    ) -> str:
        """What the shell command prints on standard output; ``text`` is its standard input.

        As root, or as ``user`` who logs in. CommandFailedError, unless ``check`` is false.
        """
        words = ["ssh", "-F", str(self.ssh_config), *_SSH, "-l", user]
        if shared:  # one login for many commands: what software emulates is slow at keys
            path = self.log.parent / "%r-%n.ssh"
            words += ["-o", "ControlMaster=auto", "-o", f"ControlPath={path}"]
            words += ["-o", "ControlPersist=900"]
        began = time.monotonic()
        try:
            done = subprocess.run(
                [*words, self.name, command],
                input=text.encode() if isinstance(text, str) else text,
                capture_output=True,
                timeout=timeout * self.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailedError(f"{self.name}: no end after {timeout} s: {command}") from None
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        with self.log.open("a") as log:
            took = time.monotonic() - began
            log.write(
                f"\n{self.name}/{user}$ {command}\n{out}{err}# {done.returncode}, {took:.1f} s\n"
            )
        if check and done.returncode:
            tail = " / ".join((out + err).strip().splitlines()[-4:])
            raise CommandFailedError(
                f"{self.name}: status {done.returncode} of `{command}`: {tail}"
            )
        return out

    def status(self, command: str, *, user: str = "root", timeout: float = 120) -> int:
        """The exit status of a shell command."""
        answer = self.run(f"({command}) >&2; echo $?", user=user, timeout=timeout)
        return int(answer.split()[-1])

    def boot_id(self) -> str:
        """Changes with each boot; empty while the machine does not answer."""
        try:
            return self.run(
                "cat /proc/sys/kernel/random/boot_id", timeout=30, check=False, shared=False
            ).strip()
        except CommandFailedError:
            return ""

    def wait_for_boot(self, before: str = "", timeout: float = 240) -> float:
        """Seconds until it answers, with another boot than ``before``, and systemd is done."""
        began = time.monotonic()
        while time.monotonic() - began < timeout * self.seconds:
            if self.boot_id() not in ("", before):
                self.run("systemctl is-system-running --wait", timeout=timeout, check=False)
                return time.monotonic() - began
            time.sleep(0.5)
        raise CommandFailedError(f"{self.name} did not boot within {timeout * self.seconds:.0f} s")

    def forget_logins(self) -> None:
        """End the connections that commands share; those to a machine that is gone would hang."""
        for path in self.log.parent.glob(f"*-{self.name}.ssh"):
            user = path.name.removesuffix(f"-{self.name}.ssh")
            words = ["ssh", "-F", str(self.ssh_config), "-o", f"ControlPath={path}", "-l", user]
            subprocess.run(
                [*words, "-O", "exit", self.name], capture_output=True, timeout=30, check=False
            )
            path.unlink(missing_ok=True)

    def reboot(self, *, crash: bool = False) -> tuple[float, float]:
        """Seconds until it is down, and from there until it is up.

        With ``crash`` at once: nothing is ended, nothing written to the disk.
        """
        before = self.boot_id()
        began = time.monotonic()
        how = "echo b >/proc/sysrq-trigger" if crash else "systemctl reboot"
        # The connection dies with the machine, and what ssh makes of that is no news.
        self.run(f"systemd-run --quiet --on-active=0.2 sh -c {shlex.quote(how)}", check=False)
        self.forget_logins()
        while self.boot_id() == before:
            if time.monotonic() - began > 300 * self.seconds:
                raise CommandFailedError(f"{self.name} did not go down within 300 s")
            time.sleep(0.3)
        down = time.monotonic() - began
        return down, self.wait_for_boot(before)


def why_no_kvm(image: Image) -> str:
    """Empty where KVM makes machines here that start Debian's kernel, else why it does not.

    There are hypervisors whose /dev/kvm makes machines for kernels that know of them alone (PVM):
    so the kernel is started, until it says a word.
    """
    try:
        descriptor = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/kvm: {error.strerror}"
    try:
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return f"/dev/kvm makes no machine: {error.strerror}"
    finally:
        os.close(descriptor)
    words = [
        *("qemu-system-x86_64", "-accel", "kvm", "-cpu", _CPU["kvm"], "-m", "256", "-nodefaults"),
        *("-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(image.kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"),
    ]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_FIRST_WORD, check=False
        )
        said = done.stdout + done.stderr
    except subprocess.TimeoutExpired as stopped:
        said = (stopped.stdout or b"") + (stopped.stderr or b"")
    if b"Linux version" in said:
        return ""
    return "/dev/kvm makes machines, but Debian's kernel does not start in them"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass
class Qemu:
    """A machine of two cards: this host's ssh comes by one, the other machine by the other.

    Nothing leads from it to any other network. It begins with what the image has, and
    has the file ``handed`` as ``/dev/vdb``.
    """

    name: str
    folder: Path
    image: Image
    accelerator: str
    peer: str
    handed: Path
    memory_mib: int = 1024
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def ssh_section(self) -> str:
        return (
            f"Host {self.name}\n  HostName 127.0.0.1\n  Port {self.port}\n  User root\n"
            "  KexAlgorithms curve25519-sha256\n"
            f"  IdentitiesOnly yes\n  IdentityFile {self.image.key}\n"
        )

    @property
    def _disk(self) -> Path:
        return self.folder / f"{self.name}.qcow2"

    @property
    def pid(self) -> int:
        return self.process.pid if self.process is not None else 0

    def _words(self) -> list[str]:
        here, there = (self.folder / f"{name}.link" for name in (self.name, self.peer))
        cpu = _CPU[self.accelerator]
        # Emulated processors that wait for each other cost more than a second one brings.
        count = "2" if self.accelerator == "kvm" else "1"
        return [
            *("qemu-system-x86_64", "-name", self.name, "-accel", self.accelerator, "-cpu", cpu),
            *("-smp", count, "-m", str(self.memory_mib), "-nodefaults", "-no-user-config"),
            *("-display", "none", "-kernel", str(self.image.kernel)),
            *("-initrd", str(self.image.initrd), "-append"),
            f"root=/dev/vda rw console=ttyS0 systemd.hostname={self.name} quiet",
            *("-serial", f"file:{self.folder / self.name}.console"),
            *("-drive", f"file={self._disk},if=virtio,format=qcow2,discard=unmap,cache=unsafe"),
            *("-drive", f"file={self.handed},if=virtio,format=raw,readonly=on"),
            *("-device", "virtio-rng-pci"),
            *("-netdev", f"user,id=host,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22"),
            *("-device", f"virtio-net-pci,netdev=host,mac={link_address(self.name, 0)}"),
            "-netdev",
            f"dgram,id=link,local.type=unix,local.path={here},remote.type=unix,remote.path={there}",
            *("-device", f"virtio-net-pci,netdev=link,mac={link_address(self.name, 1)}"),
        ]

    def start(self) -> None:
        """Make its disk and start it; it is not up yet then. VmError."""
        words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b"]
        words.append(str(self.image.disk.resolve()))
        subprocess.run([*words, str(self._disk)], check=True)
        with (self.folder / f"{self.name}.qemu").open("wb") as log:
            self.process = subprocess.Popen(
                self._words(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def why_ended(self) -> str:
        """What QEMU said where it has ended; empty where it runs."""
        if self.process is None or self.process.poll() is None:
            return ""
        said = (self.folder / f"{self.name}.qemu").read_text(errors="replace").strip()
        return said or f"it ended with status {self.process.returncode}"

    def stop(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)


def start_machines(
    folder: Path,
    image: Image,
    accelerator: str,
    names: Sequence[str],
    log: Path,
    handed: Path,
) -> tuple[list[Qemu], dict[str, Machine], dict[str, float]]:
    """One or two machines that answer, by name, and the seconds that it took them.

    ``handed`` is what they get as a second disk. VmError.
    """
    config = folder / "ssh_config"
    qemus = [
        Qemu(
            name,
            folder,
            image,
            accelerator,
            peer=names[-1 - index],
            handed=handed,
        )
        for index, name in enumerate(names)
    ]
    config.write_text("\n".join(qemu.ssh_section for qemu in qemus))
    factor = 1.0 if accelerator == "kvm" else SLOWER
    machines = {name: Machine(name, config, log, factor) for name in names}
    began = time.monotonic()
    took: dict[str, float] = {}
    try:
        for qemu in qemus:
            qemu.start()
        while len(took) < len(names):
            for qemu in qemus:
                ended = qemu.why_ended()
                if ended:
                    raise VmError(f"the machine {qemu.name} does not start: {ended}")
                if qemu.name not in took and machines[qemu.name].boot_id():
                    took[qemu.name] = time.monotonic() - began
            if time.monotonic() - began > 120 * factor:
                raise VmError(
                    f"no answer from {', '.join(set(names) - set(took))} after "
                    f"{120 * factor:.0f} s; its console: {folder}"
                )
            time.sleep(0.2)
    except BaseException:
        for qemu in qemus:
            qemu.stop()
        raise
    return qemus, machines, took
