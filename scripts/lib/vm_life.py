"""The cases of scripts/vm-test in which the program itself is installed, changed and removed."""

from __future__ import annotations

import re
import time

from vm_cases import (
    FSTAB,
    MEND,
    OBJECTS,
    SERVICE,
    UNIT,
    Bed,
    main_pid,
    until,
    write_and_read,
    write_while_cut,
)
from vm_machine import Machine

CHECKOUT = "/usr/local/src/s3posixfs"
_FILES = "find /usr /opt /etc /var/lib /srv -xdev"
# What a person has to decide about, and what is of the hosts' users and not of the program.
_STAYS = ("/etc/s3posixfs", "/etc/credstore", "/var/lib/s3posixfs", "/srv/", CHECKOUT)


def note_files(bed: Bed) -> None:
    """Keep the names of what is there before anything is installed."""
    for machine in {id(one): one for one in (bed.store, bed.client)}.values():
        machine.run(f"test -e /root/files-before || {_FILES} | sort >/root/files-before")


def again(bed: Bed) -> str:
    """scripts/provision, called again, changes nothing."""
    began = time.monotonic()
    if bed.store is bed.client:
        calls = [(bed.store, "store mount")]
    else:
        calls = [(bed.store, "store"), (bed.client, "mount")]
    for machine, roles in calls:
        pid = machine.run("pgrep -of s3posixfs")
        said = machine.run(f"{CHECKOUT}/scripts/provision {roles} --store {bed.url}", timeout=900)
        changed = re.findall(r"\] ((?:wrote|made|gave) .*)", said)
        assert not changed, f"{machine.name}: {'; '.join(changed)}"
        assert machine.run("pgrep -of s3posixfs") == pid, "what ran was restarted"
    return f"nothing written, made or restarted, in {time.monotonic() - began:.0f} s"


def _version(client: Machine) -> str:
    """The environment that the commands lead to."""
    return client.run("basename $(readlink -f /opt/s3posixfs/current)").strip()


def upgrade(bed: Bed) -> str:
    """A newer checkout is installed while data waits: the new version's process stores it."""
    client = bed.client
    newer = "/root/newer"
    client.run(
        f'rm -rf {newer} && cp -R {CHECKOUT} {newer} && sed -i \'s/^version = "\\(.*\\)"/version = '
        f'"\\1.post1"/\' {newer}/pyproject.toml'
    )
    old = _version(client)
    wanted = write_while_cut(bed)
    try:
        before = main_pid(client)
        began = time.monotonic()
        client.run(f"{newer}/scripts/install", timeout=900)
        took = time.monotonic() - began
        new = _version(client)
        assert ".post1-" in new, f"installed is {new}, which was {old}"
        assert main_pid(client) == before, "the upgrade ended a mount that ran"
        # The harder way to go over to it: what waits is only in the journal then.
        client.run(f"kill -9 {before}")
    finally:
        client.run(MEND)
    until("what waited is in the store", lambda: bed.objects(*wanted) == wanted, bed.store, 240)
    program = client.run(f"tr '\\0' ' ' </proc/{main_pid(client)}/cmdline")
    assert ".post1" in program, f"the mount runs the old version: {program}"
    write_and_read(bed, (UNIT,))
    client.run(f"{CHECKOUT}/scripts/install && systemctl restart {SERVICE}", timeout=900)
    assert _version(client) == old, "no way back to the old version"
    write_and_read(bed, (UNIT,))
    return f"{old} to {new} in {took:.0f} s; the new one stored what the old had waiting"


def uninstall(bed: Bed) -> str:
    """Nothing is left but data and configuration; installed again, all is there as before."""
    client, store = bed.client, bed.store
    name = bed.new("kept")
    client.run(f"echo kept >{UNIT}/{name}", user="alice")
    refused = client.status(f"{CHECKOUT}/scripts/install --uninstall")
    assert refused != 0, "it was uninstalled under a mount that runs"
    client.run(
        f"systemctl disable --now --quiet {SERVICE}; "
        "systemctl stop srv-shared.automount srv-shared.mount"
    )
    if store is not client:
        client.run(f"{CHECKOUT}/scripts/install --uninstall")
    store.run("systemctl disable --now --quiet s3posixfs-store")
    store.run(f"{CHECKOUT}/scripts/install --uninstall")
    machines = [client] if store is client else [client, store]
    for machine in machines:
        left = machine.run(
            f"{_FILES} | sort | comm -13 /root/files-before - | "
            "grep -e s3posixfs -e ^/opt -e ^/usr",
            check=False,
        )
        found = [
            path
            for path in left.splitlines()
            if not path.startswith(_STAYS) and "__pycache__" not in path
        ]
        assert not found, f"{machine.name} keeps {', '.join(found[:8])}"
        assert machine.status("systemctl list-unit-files --no-legend | grep s3posixfs") != 0, (
            "units left"
        )
    kept = store.run(f"cat {OBJECTS}/team/{name}").strip()
    assert kept == "kept", "an object is gone"
    client.run("test -s /etc/s3posixfs/team.conf -a -s /etc/s3posixfs/credentials")
    calls = [(store, "store mount")] if store is client else [(store, "store"), (client, "mount")]
    for machine, roles in calls:
        machine.run(f"{CHECKOUT}/scripts/provision {roles} --store {bed.url}", timeout=900)
    assert client.run(f"cat {UNIT}/{name}", user="alice").strip() == "kept"
    client.run(f"ls {FSTAB}/ >/dev/null")
    return "all gone but objects, state and configuration, with which it works when installed again"
