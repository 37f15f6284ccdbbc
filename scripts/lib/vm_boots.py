"""The cases of scripts/vm-test in which the unit is stopped, or the machine, or both started."""

from __future__ import annotations

import time

from vm_cases import (
    FSTAB,
    OBJECTS,
    SERVICE,
    UNIT,
    Bed,
    until,
    write_and,
    write_and_read,
    write_while_cut,
)


def boot(bed: Bed) -> str:
    """After a boot the unit is up, the line of fstab mounts when it is used, and both work."""
    _down, up = bed.client.reboot()
    active = bed.client.run(f"systemctl is-active {SERVICE} srv-shared.automount").split()
    assert active == ["active", "active"], f"after the boot: {active}"
    state = bed.client.run("systemctl is-system-running", check=False).strip()
    failed = bed.client.run("systemctl --failed --no-legend --plain").strip()
    assert state == "running", f"the system is {state}: {failed}"
    assert bed.client.status("systemctl is-active --quiet srv-shared.mount") != 0, "mounted unused"
    began = time.monotonic()
    bed.client.run(f"ls {FSTAB}/ >/dev/null", user="alice")
    first = time.monotonic() - began
    took = bed.client.run("systemd-analyze time").split(" = ")[-1].split()[0:2]
    stamps = bed.client.run(
        "systemctl show -P ActiveEnterTimestampMonotonic -P InactiveExitTimestampMonotonic "
        f"{SERVICE}"
    ).split()
    unit = (max(map(int, stamps)) - min(map(int, stamps))) / 1e6
    write_and_read(bed)
    return (
        f"up {up:.0f} s after it was down (systemd: {' '.join(took).strip('.')}), the unit mounts "
        f"in {unit:.1f} s, first use of the automount {first:.1f} s"
    )


def stop(bed: Bed) -> str:
    """`systemctl stop` with much to upload: it returns in time, and all is in the store."""
    then = f"date +%s.%N >/root/stop && systemctl stop {SERVICE} && date +%s.%N >>/root/stop"
    written = write_and(bed, 40, 512, then)
    assert written.waiting, "all was uploaded before the stop: it proved nothing"
    began, ended = map(float, bed.client.run("cat /root/stop").split())
    there = bed.sums(bed.store, f"{OBJECTS}/team/{written.folder}")
    assert there == written.sums, "not all was uploaded at its end"
    result = bed.client.run(f"systemctl show -P Result {SERVICE}").strip()
    assert result == "success", f"the unit ended with {result}"
    limit = bed.client.run(f"systemctl show -P TimeoutStopUSec {SERVICE}").strip()
    assert bed.client.status(f"mountpoint -q {UNIT}") != 0, "still mounted"
    bed.client.run(f"systemctl start {SERVICE}")
    write_and_read(bed, (UNIT,))
    return (
        f"stopped in {ended - began:.1f} s (TimeoutStopSec {limit}), {written.waiting} of 41 files "
        "uploaded meanwhile"
    )


def reboot(bed: Bed) -> str:
    """An orderly reboot, then a crash, with data in flight: all that was closed is in the store."""
    written = write_and(bed, 40, 512)
    down, up = bed.client.reboot()
    there = bed.sums(bed.store, f"{OBJECTS}/team/{written.folder}")
    assert there == written.sums, "not uploaded while it went down"
    # Nothing can be uploaded any more when the machine dies; the cut is gone when it is up again.
    wanted = write_while_cut(bed)
    _, crash_up = bed.client.reboot(crash=True)
    took = until(
        f"after the crash the store has {', '.join(wanted)}",
        lambda: bed.objects(*wanted) == wanted,
        bed.store,
        240,
    )
    until(
        "the unit is up",
        lambda: bed.client.status(f"systemctl is-active {SERVICE}") == 0,
        bed.client,
    )
    write_and_read(bed)
    return (
        f"orderly: down in {down:.0f} s, {written.waiting} waiting files uploaded, up "
        f"in {up:.0f} s; crash: up in {crash_up:.0f} s, {len(wanted)} waiting files stored "
        f"{took:.1f} s later"
    )
