"""Two virtual machines, a store and a client of it, and what befalls them: see scripts/vm-test."""

from __future__ import annotations

import argparse
import os
import re
import secrets
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import vm_boots
import vm_cases
import vm_life
from vm_cases import PEOPLE, Bed
from vm_image import ADDRESSES, CHECKOUT, Image, VmError, install_into, make_image, make_wheels
from vm_machine import (
    SLOWER,
    CommandFailedError,
    Machine,
    Qemu,
    start_machines,
    why_no_kvm,
)

# In this order, the last takes everything away and puts it back.
CASES: dict[str, Callable[[Bed], str]] = {
    case.__name__: case
    for case in (
        *(vm_life.again, vm_cases.units, vm_cases.users, vm_boots.boot, vm_cases.kill),
        *(vm_cases.watchdog, vm_cases.network, vm_cases.store, vm_cases.clock, vm_cases.refresh),
        *(vm_boots.stop, vm_boots.reboot, vm_life.upgrade, vm_life.uninstall),
    )
}
_HANDED = "/var/tmp/handed"  # noqa: S108 - of root alone, in a machine of our own
_BEGAN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _BEGAN:4.0f} s] {text}", flush=True)


def _arguments() -> argparse.Namespace:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "s3posixfs-vm"
    parser = argparse.ArgumentParser(
        prog="scripts/vm-test", description="Run the committed checkout in virtual machines."
    )
    add = parser.add_argument
    add("--only", action="append", choices=list(CASES), metavar="CASE", help=", ".join(CASES))
    add("--keep", action="store_true", help="leave the machines running, and say how to enter")
    add(
        "--single",
        action="store_true",
        help="one machine for store and mounts: cheaper, shows less",
    )
    add("--accel", choices=("auto", "kvm", "tcg"), default="auto", help="tcg: software emulation")
    add("--cache", type=Path, default=cache, metavar="DIR", help=f"kept between runs: {cache}")
    add("--ssh-config", type=Path, metavar="FILE",
        help="take the hosts `store` and `client` of this file, which are provisioned, instead of "
        "making machines: that of `vagrant ssh-config`")  # fmt: skip
    return parser.parse_args()


def _commit() -> str:
    words = ["git", "-C", str(CHECKOUT), "-c", f"safe.directory={CHECKOUT}"]
    done = subprocess.run(
        [*words, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise VmError(f"{CHECKOUT} is no git checkout: {done.stderr.strip()}")
    changes = subprocess.run(
        [*words, "status", "--porcelain"], capture_output=True, text=True, check=False
    )
    if changes.stdout.strip():
        say("note: what is not committed is not in the machines")
    return done.stdout.strip()


def _handed(cache: Path, folder: Path, commit: str) -> Path:
    """The checkout and the wheels as an archive, which a machine reads like a disk."""
    archive = folder / "handed.tar"
    words = ["git", "-C", str(CHECKOUT), "-c", f"safe.directory={CHECKOUT}", "archive"]
    subprocess.run([*words, "--prefix=checkout/", "-o", str(archive), commit], check=True)
    with tarfile.open(archive, "a") as tar:
        tar.add(make_wheels(cache, say), "wheels")
    return archive


def _accelerator(wanted: str, image: Image) -> str:
    why = "it was asked for" if wanted == "tcg" else why_no_kvm(image)
    if not why:
        say("machines by KVM")
        return "kvm"
    if wanted == "kvm":
        raise VmError(f"no KVM: {why}")
    say(f"machines by software emulation (tcg): {why}; each deadline is eight times as long")
    return "tcg"


def _provision(machines: dict[str, Machine], url: str, log: Path) -> None:
    """What Vagrant does, too: scripts/provision in each of the machines."""
    profiles = "".join(
        f"[{name}]\naws_access_key_id = {name}\naws_secret_access_key = {secrets.token_hex(20)}\n"
        for name in ("mount", *PEOPLE)
    )
    for name, machine in machines.items():
        roles = "store mount" if len(machines) == 1 else {"store": "store", "client": "mount"}[name]
        began = time.monotonic()
        vm_life.note_files(Bed(machine, machine, url))
        machine.run(
            f"mkdir -p -m 700 {_HANDED} {vm_life.CHECKOUT} && tar -x -f /dev/vdb -C {_HANDED} && "
            f"cp -R {_HANDED}/checkout/. {vm_life.CHECKOUT}/ && "
            f"printf '[global]\\nno-index = true\\nfind-links = {_HANDED}/wheels\\n' "
            ">/etc/pip.conf",
            timeout=300,
        )
        machine.run("umask 077 && cat >/root/credentials", text=profiles)
        machine.run(
            f"{vm_life.CHECKOUT}/scripts/provision {roles} --store {url} "
            "--credentials /root/credentials && rm /root/credentials && sync",
            timeout=900,
        )
        say(f"provisioned {name} ({roles}) in {time.monotonic() - began:.0f} s")
    # Nobody's output may tell a secret.
    told = [line for line in profiles.splitlines() if "secret" in line]
    text = log.read_text(errors="replace")
    if any(line.split(" = ")[1] in text for line in told):
        raise VmError(f"scripts/provision tells a secret: see {log}")


def _run_cases(names: list[str], bed: Bed) -> int:
    failed = 0
    for name in names:
        began = time.monotonic()
        try:
            found, verdict = CASES[name](bed), "passed"
        except (AssertionError, CommandFailedError) as error:
            found, verdict = str(error), "FAILED"
            failed += 1
            for machine in (bed.store, bed.client):  # into the log
                for command in (
                    "journalctl -b --no-pager -n 150",
                    "systemctl status --no-pager -n 0 s3posixfs-store srv-shared.mount "
                    f"{vm_cases.SERVICE}",
                ):
                    try:
                        machine.run(command, check=False)
                    except CommandFailedError:
                        continue
        say(f"{verdict} {name:<10} {time.monotonic() - began:6.1f} s  {found}")
    return failed


def _machines(arguments: argparse.Namespace, folder: Path, log: Path) -> tuple[list[Qemu], Bed]:
    cache = arguments.cache
    image = make_image(cache, say)
    commit = _commit()
    accelerator = _accelerator(arguments.accel, image)
    names = ["store"] if arguments.single else list(ADDRESSES)
    url = f"http://{ADDRESSES['store']}:9000"
    handed = _handed(cache, folder, commit)
    if accelerator == "tcg":
        image = install_into(image, folder, handed, make_wheels(cache, say))
        say("installed by scripts/install --root, which takes eight minutes where it is emulated")
    qemus, machines, took = start_machines(folder, image, accelerator, names, log, handed)
    try:
        for name, seconds in took.items():
            systemd = machines[name].wait_for_boot()
            say(f"booted {name}: answers after {seconds:.0f} s, all is up {systemd:.0f} s later")
        _provision(machines, url, log)
    except BaseException:
        for qemu in qemus:
            qemu.stop()
        raise
    return qemus, Bed(machines["store"], machines[names[-1]], url)


def _given_hosts(config: Path, log: Path) -> Bed:
    hosts = re.findall(r"^Host\s+(\S+)", config.read_text(), re.MULTILINE)
    store = Machine("store", config, log)
    client = Machine("client", config, log) if "client" in hosts else store
    text = client.run("cat /etc/s3posixfs/team.conf")
    found = re.search(r"endpoint_url=([^,\s]+)", text)
    if found is None:
        raise VmError("the client is not provisioned: call scripts/provision there")
    for machine in (store, client):
        if machine.run("systemd-detect-virt", check=False).strip() == "qemu":
            machine.seconds = SLOWER
    return Bed(store, client, found[1])


def _let_users_in(client: Machine) -> None:
    """alice and bob log in with root's key."""
    for user in PEOPLE:
        own = f"-o {user} -g {user}"
        client.run(
            f"install -d -m 700 {own} ~{user}/.ssh && "
            f"install -m 600 {own} /root/.ssh/authorized_keys ~{user}/.ssh/"
        )


def main() -> int:
    arguments = _arguments()
    arguments.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = arguments.cache / time.strftime("run-%Y%m%d-%H%M%S")
    folder.mkdir(mode=0o700)
    log = folder / "log"
    log.touch(mode=0o600)
    say(f"every command and its output: {log}")
    qemus: list[Qemu] = []
    if arguments.ssh_config is not None:
        bed = _given_hosts(arguments.ssh_config, log)
    else:
        qemus, bed = _machines(arguments, folder, log)
    try:
        _let_users_in(bed.client)
        names = [name for name in CASES if name in (arguments.only or CASES)]
        failed = _run_cases(names, bed)
        say(f"{len(names) - failed} of {len(names)} cases passed; log: {log}")
    finally:
        bed.store.forget_logins()
        bed.client.forget_logins()
        if arguments.keep:
            for qemu in qemus:
                say(f"{qemu.name}: ssh -F {folder}/ssh_config {qemu.name}; end it: kill {qemu.pid}")
        else:
            for qemu in qemus:
                qemu.stop()
            for disk in folder.glob("*.qcow2"):
                disk.unlink()
            for name in ("handed.tar", "disk.ext4"):
                (folder / name).unlink(missing_ok=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (VmError, CommandFailedError) as error:
        print(f"vm-test: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
