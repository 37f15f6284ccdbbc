"""What scripts/vm-test looks at: a host that mounts by fstab and by a unit, and what befalls it.

Each case is a function of a `Bed` that raises AssertionError or CommandFailedError where something
is not as it should be, and returns what is worth a place in the report. They leave the machines
as they found them, except for the last.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vm_machine import Machine

FSTAB, UNIT = "/srv/shared", "/srv/team"
SERVICE = "s3posixfs@team.service"
OBJECTS = "/srv/s3posixfs"
_KINDS = ("mount", "automount")
PEOPLE = {"alice": 1001, "bob": 1002}


@dataclass
class Bed:
    """The two machines, and the address that the client has the store by."""

    store: Machine
    client: Machine
    url: str
    names: int = 0

    def new(self, word: str) -> str:
        """A name that no file has yet."""
        self.names += 1
        return f"{word}-{self.names}-{time.time_ns() // 1_000_000}"

    def objects(self, *paths: str) -> dict[str, tuple[int, int]]:
        """Uid and size of those of the store's files that are there, by ``bucket/key``."""
        words = " ".join(shlex.quote(path) for path in paths)
        text = self.store.run(f"cd {OBJECTS} && stat -c '%n %u %s' {words}", check=False)
        rows = [line.rsplit(" ", 2) for line in text.splitlines()]
        return {name: (int(uid), int(size)) for name, uid, size in rows}

    def sums(self, machine: Machine, folder: str) -> str:
        """SHA-256 of all files of a folder."""
        return machine.run(f"cd {folder} && sha256sum -- * | sort -k2", timeout=300)


def until(what: str, is_it: Callable[[], bool], machine: Machine, timeout: float = 120) -> float:
    """Seconds that it took until it was so. AssertionError where it is not in time."""
    began = time.monotonic()
    while not is_it():
        assert time.monotonic() - began < timeout * machine.seconds, f"never: {what}"
        time.sleep(0.2)
    return time.monotonic() - began


def main_pid(client: Machine) -> str:
    return client.run(f"systemctl show -P MainPID {SERVICE}").strip()


def _daemon_of(client: Machine, mountpoint: str) -> str:
    text = client.run(f"s3posixfs status --json {mountpoint}")
    found = re.search(r'"pid": (\d+)', text)
    assert found, f"status names no process: {text[:200]}"
    return found[1]


def write_and_read(bed: Bed, mountpoints: tuple[str, ...] = (FSTAB, UNIT)) -> None:
    """Both users write a file of their own in each mount; the other reads it; S3 has its owner."""
    wanted: dict[str, tuple[int, int]] = {}
    for name, uid in PEOPLE.items():
        other = next(one for one in PEOPLE if one != name)
        for mountpoint in mountpoints:
            file = bed.new(name)
            bed.client.run(f"echo 'by {name}' >{mountpoint}/{file}", user=name)
            read = bed.client.run(
                f"cat {mountpoint}/{file}; stat -c %u {mountpoint}/{file}", user=other
            )
            assert read.split() == ["by", name, str(uid)], f"{other} sees {read!r} in {file}"
            wanted[f"{mountpoint.removeprefix('/srv/')}/{file}"] = (uid, len(name) + 4)
    until(
        f"the store has {', '.join(wanted)} with their owners",
        lambda: bed.objects(*wanted) == wanted,
        bed.store,
    )


@dataclass(frozen=True, slots=True)
class Written:
    """A folder of alice's in the write-back mount, the sums of its files, and how many waited."""

    folder: str
    sums: str
    waiting: int


def write_and(bed: Bed, count: int, kib: int, then: str = "true") -> Written:
    """Alice copies that many files to a new folder, and at last one of 8 MiB, whose upload takes
    longer than to look what waits; at once after it root does ``then``."""
    folder = bed.new("folder")
    bed.client.run(
        f"mkdir /tmp/{folder} && cd /tmp/{folder} && for n in $(seq {count}); do "
        f"head -c {kib * 1024} /dev/urandom >$n || exit 1; done; head -c 8M /dev/urandom >last && "
        f"ls {UNIT}/ >/dev/null",
        user="alice",
        timeout=300,
    )
    sums = bed.sums(bed.client, f"/tmp/{folder}")  # noqa: S108
    copy = f"cp $(seq {count}) last {UNIT}/{folder}/"
    text = bed.client.run(
        f"su alice -c 'mkdir {UNIT}/{folder} && cd /tmp/{folder} && {copy}' && "
        f"find /var/cache/s3posixfs/team-*/ -type f -size +{kib // 2}k | wc -l && {then}",
        timeout=400,
    )
    bed.client.run(f"rm -r /tmp/{folder}")
    return Written(folder, sums, int(text.split()[0]))


def _all_stored(bed: Bed, written: Written) -> None:
    until(
        f"all of {written.folder} is in the store as it was written",
        lambda: bed.sums(bed.store, f"{OBJECTS}/team/{written.folder}") == written.sums,
        bed.store,
        240,
    )


def units(bed: Bed) -> str:
    """systemd finds no fault with the units and with what it makes of fstab; its score of them."""
    wanted = (
        (bed.store, ("s3posixfs-store.service",)),
        # What is made of fstab is not looked for by name.
        (bed.client, (SERVICE, *(f"/run/systemd/generator/srv-shared.{kind}" for kind in _KINDS))),
    )
    for machine, names in wanted:
        said = machine.run(f"systemd-analyze verify --man=yes {' '.join(names)} 2>&1", timeout=300)
        assert not said.strip(), f"systemd-analyze verify: {said.strip()}"
    scores = []
    for machine, name in ((bed.store, "s3posixfs-store.service"), (bed.client, SERVICE)):
        text = machine.run(f"systemd-analyze security --no-pager {name}")
        found = re.search(r"exposure level for \S+: (\S+ \S+)", text)
        assert found, f"no score of {name}"
        scores.append(f"{name} {found[1]}")
    return "exposure " + ", ".join(scores)


def users(bed: Bed) -> str:
    """Two users log in; what each writes is theirs on both sides, and closed to the other."""
    write_and_read(bed)
    for mountpoint, bucket in ((FSTAB, "shared"), (UNIT, "team")):
        file = bed.new("private")
        bed.client.run(f"umask 077; echo secret >{mountpoint}/{file}", user="alice")
        for command in (f"cat {mountpoint}/{file}", f"echo x >>{mountpoint}/{file}"):
            assert bed.client.status(command, user="bob") != 0, f"bob may: {command}"
        bed.client.run(f"s3posixfs status {mountpoint}")
        until("it is stored", lambda: bool(bed.objects(f"{bucket}/{file}")), bed.store)  # noqa: B023
        # Not by the file's uid, but by what S3 answers.
        owner = bed.store.run(
            "AWS_SHARED_CREDENTIALS_FILE=/var/lib/s3posixfs/admin-credentials AWS_PROFILE=admin "
            "AWS_DEFAULT_REGION=us-east-1 /opt/s3posixfs/current/bin/python -I -c '"
            'import boto3, sys; s3 = boto3.client("s3", endpoint_url=sys.argv[1]); '
            "rows = s3.list_objects_v2(Bucket=sys.argv[2], Prefix=sys.argv[3], FetchOwner=True); "
            f'print(rows["Contents"][0]["Owner"]["ID"])\' {bed.url} {bucket} {file}'
        ).strip()
        assert owner == "alice", f"S3 says that {bucket}/{file} is {owner}'s"
    return "owners by uid and by S3, alice by keys, bob by an assumed role"


def kill(bed: Bed) -> str:
    """kill -9 with data staged: the unit comes back and stores it; the fstab mount is freed."""
    before = main_pid(bed.client)
    written = write_and(bed, 30, 512, f"kill -9 {before}")
    assert written.waiting, "all was uploaded before the kill: it proved nothing"
    back = until(
        "the unit's mount answers again",
        lambda: (
            bed.client.status(f"mountpoint -q {UNIT} && timeout 20 ls {UNIT}/") == 0
            and main_pid(bed.client) not in ("0", before)
        ),
        bed.client,
    )
    there = bed.sums(bed.client, f"{UNIT}/{written.folder}")
    assert there == written.sums, "after kill -9 it reads otherwise"
    _all_stored(bed, written)
    bed.client.run(f"kill -9 {_daemon_of(bed.client, FSTAB)}")
    said = bed.client.run(f"LC_ALL=C ls {FSTAB}/ 2>&1", check=False)
    dead = "not connected" in said
    began = time.monotonic()
    bed.client.run("systemctl restart srv-shared.mount")
    mended = time.monotonic() - began
    write_and_read(bed)
    how = "was dead and is mounted again" if dead else "was freed at once, and is mounted again"
    return (
        f"the unit answers {back:.1f} s after, {written.waiting} waiting files are stored; the "
        f"fstab mount {how} by restart in {mended:.1f} s"
    )


def watchdog(bed: Bed) -> str:
    """A daemon that hangs is ended by systemd's watchdog, and starts anew."""
    before = main_pid(bed.client)
    bed.client.run(f"kill -STOP {before}")
    took = until(
        "another process serves the mount",
        lambda: main_pid(bed.client) not in ("0", before),
        bed.client,
        180,
    )
    until(
        "the unit is active",
        lambda: bed.client.status(f"systemctl is-active {SERVICE}") == 0,
        bed.client,
    )
    write_and_read(bed, (UNIT,))
    return f"replaced after {took:.0f} s (WatchdogSec=60)"


# In the background, as alice: files one after the other, and the names of those that were closed.
_WRITER = (
    "cd {mount}/{folder} && rm -f /tmp/{folder}.end && n=0; until [ -e /tmp/{folder}.end ]; do "
    "n=$((n+1)); head -c 20000 /dev/urandom >/tmp/{folder}.part && "
    "timeout 100 cp /tmp/{folder}.part $n && "
    "sha256sum </tmp/{folder}.part | sed s/-/$n/ >>/tmp/{folder}.done; sleep 0.2; done"
)


@contextmanager
def _writer(bed: Bed, mountpoint: str) -> Iterator[str]:
    """Alice writes files while the body runs; what `cp` said is there must be stored."""
    folder = bed.new("written")
    bed.client.run(f"mkdir {mountpoint}/{folder}", user="alice")
    script = _WRITER.format(mount=mountpoint, folder=folder)
    unit = f"--unit=writer-{folder}"
    bed.client.run(f"systemd-run --quiet --uid=alice {unit} bash -c {shlex.quote(script)}")
    until(
        "the writer writes",
        lambda: bed.client.status(f"test -s /tmp/{folder}.done") == 0,
        bed.client,
    )
    try:
        yield folder
    finally:
        bed.client.run(f"touch /tmp/{folder}.end; chown alice /tmp/{folder}.end")
        until(
            "the writer ends",
            lambda: bed.client.status(f"systemctl is-active --quiet writer-{folder}") != 0,
            bed.client,
            150,
        )
    done = sorted(bed.client.run(f"cat /tmp/{folder}.done").splitlines())

    def stored() -> bool:
        there = bed.sums(bed.store, f"{OBJECTS}/{mountpoint.removeprefix('/srv/')}/{folder}")
        return set(done) <= set(there.splitlines())

    until(f"{len(done)} files that were closed are in the store", stored, bed.store)


def _cut(bed: Bed) -> str:
    """The command that has the client's packets to the store vanish."""
    host = bed.url.split("/")[2].split(":")[0]
    return (
        "nft add table inet cut && nft add chain inet cut out "
        "'{ type filter hook output priority 0; }' && "
        f"nft add rule inet cut out ip daddr {host} tcp dport 9000 drop"
    )


MEND = "nft delete table inet cut"


def write_while_cut(bed: Bed) -> dict[str, tuple[int, int]]:
    """Alice opens three files, then the store is cut off, then she writes and closes them.

    The cut stays. Returns what the store is to have of them one day.
    """
    name = bed.new("cut")
    program = (
        f"exec 3>{UNIT}/{name}-1 4>{UNIT}/{name}-2 5>{UNIT}/{name}-3; touch /tmp/{name}; "
        f"while [ -e /tmp/{name} ]; do sleep 0.1; done; "
        "echo 1 >&3 && echo 2 >&4 && echo 3 >&5 && exec 3>&- 4>&- 5>&- && echo closed"
    )
    said = bed.client.run(
        f"su alice -c '{program}' & until [ -e /tmp/{name} ]; do sleep 0.1; done; "
        f"{_cut(bed)} && rm /tmp/{name} && wait"
    )
    assert "closed" in said, "write-back cannot close what was open when the store went away"
    return {f"team/{name}-{n}": (PEOPLE["alice"], 2) for n in (1, 2, 3)}


def network(bed: Bed) -> str:
    """The store is out of reach for 20 s, without a word: what was closed is there."""
    took = {}
    for mountpoint in (FSTAB, UNIT):
        with _writer(bed, mountpoint) as folder:
            bed.client.run(_cut(bed))
            try:
                time.sleep(20)
                others = bed.client.status("timeout 20 ls / /home >/dev/null")
                assert others == 0, "the host hangs with the mount"
            finally:
                bed.client.run(MEND)
            file = bed.new("after")
            took[mountpoint] = until(
                "a new file is stored",
                lambda: bed.client.status(
                    f"timeout 60 bash -c 'echo x >{mountpoint}/{folder}/{file}'", user="alice"  # noqa: B023
                ) == 0,
                bed.client,
            )  # fmt: skip
    write_and_read(bed)
    return ", ".join(f"{name} writes {seconds:.1f} s after" for name, seconds in took.items())


def clock(bed: Bed) -> str:
    """The clocks jump by hours, forward and back, on either machine: all goes on, sessions too."""
    jumps = [(bed.client, 3), (bed.client, -6), (bed.client, 3)]
    if bed.store.name != bed.client.name:
        jumps += [(bed.store, 2), (bed.store, -2)]
    took = []
    for machine, hours in jumps:
        machine.run(f"date -s @$(($(date +%s) + {hours} * 3600))")
        began = time.monotonic()
        write_and_read(bed)
        took.append(f"{machine.name} {hours:+d} h {time.monotonic() - began:.1f} s")
    failed = bed.client.run("systemctl --failed --no-legend --plain").strip()
    assert not failed, f"failed units: {failed}"
    return "eight files written, read and stored after each: " + ", ".join(took)


def store(bed: Bed) -> str:
    """The store restarts while alice writes: what was closed is there."""
    for mountpoint in (FSTAB, UNIT):
        with _writer(bed, mountpoint):
            began = time.monotonic()
            bed.store.run("systemctl restart s3posixfs-store")
            took = time.monotonic() - began
            time.sleep(3)
            bed.store.run("systemctl kill --signal=KILL --kill-whom=main s3posixfs-store")
            until(
                "the killed store is back",
                lambda: bed.store.status("systemctl is-active --quiet s3posixfs-store") == 0,
                bed.store,
            )
    write_and_read(bed)
    return f"restarted in {took:.1f} s, and after kill -9 by itself"


def refresh(bed: Bed) -> str:
    """`systemctl reload` takes a new identity, and credentials that are new in their file."""
    made = bed.new("reload")
    bed.client.run(
        "cd /etc/s3posixfs && cp -p team.conf identities.toml credentials /root/ && "
        "sed -i '/^OPTIONS=/s|$|,credentials_file=/etc/s3posixfs/credentials|' team.conf && "
        f"systemctl restart {SERVICE} && (id carol >/dev/null 2>&1 || useradd -m -u 1003 carol)"
    )
    pid = main_pid(bed.client)
    try:
        # carol is new to all; her secret goes by standard input alone.
        secret = secrets.token_hex(20)
        bed.store.run("s3posixfs user remove carol", check=False)
        bed.store.run(
            "s3posixfs user add carol --posix-uid 1003 --posix-gid 1003 --secret-key-file - && "
            "s3posixfs policy attach readwrite carol",
            text=secret,
        )
        section = f"[carol]\naws_access_key_id = carol\naws_secret_access_key = {secret}\n"
        bed.client.run("cat >>/etc/s3posixfs/credentials", text=section)
        bed.client.run(
            "cat >>/etc/s3posixfs/identities.toml",
            text='\n[[identity]]\nname = "carol"\nowner_ids = ["carol"]\nuid = 1003\ngid = 1003\n'
            'profile = "carol"\n',
        )
        began = time.monotonic()
        bed.client.run(f"systemctl reload {SERVICE}")
        took = time.monotonic() - began
        bed.client.run(f"su carol -c 'echo c >{UNIT}/{made}'")
        wanted = {f"team/{made}": (1003, 2)}
        until("carol's file is hers", lambda: bed.objects(*wanted) == wanted, bed.store)
        assert main_pid(bed.client) == pid, "a reload must not restart the mount"
    finally:
        bed.client.run(
            "cd /root && mv team.conf identities.toml credentials /etc/s3posixfs/ && "
            f"systemctl restart {SERVICE}"
        )
    return (
        f"reload in {took:.1f} s, same process; a new identity with new credentials acts as itself"
    )
