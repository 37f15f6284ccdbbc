"""A Ceph cluster of one node with an S3 and STS gateway, for tests and benchmarks.

``scripts/rgw-up`` and ``scripts/rgw-down`` call this. Everything lives in one folder and listens on
127.0.0.1. Four daemons make the cluster: a monitor, a manager, an object store daemon on a sparse
file, and the gateway. Each runs as a child that was started here and is known by its number and
start time; nothing else is ever signalled. The first start makes four users (an admin, alice, bob,
carol) and two roles that they may assume; later ones find what is there.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 60.0  # seconds for any one step
GIB = 1024**3
PACKAGES = ("ceph-mon", "ceph-mgr", "ceph-osd", "radosgw", "ceph-common")
STS_KEY = "sixteen-byte-key"  # of AES-128: RGW takes no other length


class ClusterError(Exception):
    """One line for the person who ran the script."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the gateway with fixed keys: it is reached from this host only."""

    name: str
    access_key: str
    secret_key: str
    caps: str = ""


PEOPLE = (
    Person(
        "admin",
        "RGWADMIN00000000001",
        "admin-secret-of-the-test-gateway-0000001",
        "users=*;roles=*",
    ),
    Person("alice", "RGWALICE00000000001", "alice-secret-of-the-test-gateway-0000001"),
    Person("bob", "RGWBOB0000000000001", "bob-secret-of-the-test-gateway-000000001"),
    Person("carol", "RGWCAROL00000000001", "carol-secret-of-the-test-gateway-0000001"),
)
ROLES = {"full": ["s3:*"], "read": ["s3:Get*", "s3:List*"]}


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that was started: its number, and the start time that tells it from a later one."""

    pid: int
    start_time: str

    def alive(self) -> bool:
        return start_time(self.pid) == self.start_time


def start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat; None for a process that is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is fixed when the folder is made."""

    port: int
    monitor_port: int
    first_port: int  # of 40 for the manager and the object store daemon
    size_gib: int
    cluster_id: str


def configuration(folder: Path, settings: Settings) -> str:
    """ceph.conf: one copy of everything, no placement over hosts, one object store on a file."""
    sections: dict[str, dict[str, object]] = {
        "global": {
            "fsid": settings.cluster_id,
            "mon host": f"[v2:127.0.0.1:{settings.monitor_port}/0]",
            "public addr": "127.0.0.1",
            "cluster addr": "127.0.0.1",
            "ms bind msgr1": False,
            "ms bind ipv6": False,
            "ms bind port min": settings.first_port,
            "ms bind port max": settings.first_port + 39,
            "auth cluster required": "cephx",
            "auth service required": "cephx",
            "auth client required": "cephx",
            "auth allow insecure global id reclaim": False,
            "keyring": folder / "keyring",
            "run dir": folder / "run",
            "crash dir": folder / "crash",
            "admin socket": "",
            "log file": folder / "log" / "$name.log",
            "log to stderr": False,
            "osd pool default size": 1,
            "osd pool default min size": 1,
            "osd pool default pg num": 4,
            "osd pool default pgp num": 4,
            "osd pool default pg autoscale mode": "off",
            "osd crush chooseleaf type": 0,
        },
        "mon": {
            "mon data": folder / "mon",
            "mon cluster log file": folder / "log" / "cluster.log",
            "mon allow pool size one": True,
            "mon warn on pool no redundancy": False,
            "mon max pg per osd": 1000,
            "mon data avail crit": 1,
            "mon data avail warn": 2,
        },
        "mgr": {"mgr data": folder / "mgr", "mgr initial modules": "iostat"},
        "osd": {
            "osd data": folder / "osd",
            "osd objectstore": "bluestore",
            "osd memory target": GIB,
            "osd class update on start": False,
            "bluestore block size": settings.size_gib * GIB,
            "bluestore block create": True,
        },
        "client.rgw": {
            "rgw data": folder / "rgw",
            "rgw frontends": f"beast endpoint=127.0.0.1:{settings.port} tcp_nodelay=1",
            "rgw thread pool size": 64,
            "rgw rados pool pg num min": 4,
            "rgw s3 auth use sts": True,
            "rgw sts key": STS_KEY,
            "rgw sts min session duration": 1,
        },
    }
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        for name, value in values.items():
            lines.append(f"{name} = {str(value).lower() if isinstance(value, bool) else value}")
        lines.append("")
    return "\n".join(lines)


class Cluster:
    """One cluster in one folder. Callers hold :meth:`locked` while they change it."""

    ORDER = ("mon", "mgr", "osd", "rgw")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings_file = folder / "settings.json"
        self._daemons_file = folder / "daemons.json"
        self._ready_file = folder / "ready"
        self._conf = folder / "ceph.conf"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against another rgw-up or rgw-down; ClusterError after a minute."""
        with (self.folder / "lock").open("a") as lock:
            await_true("the folder's lock", lambda: _try_lock(lock.fileno()))
            yield

    @property
    def settings(self) -> Settings:
        return Settings(**json.loads(self._settings_file.read_text()))

    def daemons(self) -> dict[str, Daemon]:
        """Those that were started and still run."""
        if not self._daemons_file.exists():
            return {}
        known = json.loads(self._daemons_file.read_text())
        found = {name: Daemon(**values) for name, values in known.items()}
        return {name: daemon for name, daemon in found.items() if daemon.alive()}

    def _record(self, daemons: dict[str, Daemon]) -> None:
        text = json.dumps({name: asdict(daemon) for name, daemon in daemons.items()})
        new = self._daemons_file.with_suffix(".new")
        new.write_text(text)
        new.replace(self._daemons_file)

    # tools

    def _run(self, *command: str) -> str:
        """Output of a set-up command; ClusterError with the last line it complained in."""
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise ClusterError(
                f"{command[0]} is missing: apt-get install {' '.join(PACKAGES)}"
            ) from None
        except subprocess.TimeoutExpired:
            raise ClusterError(f"{command[0]} hangs; logs are in {self.folder / 'log'}") from None
        if done.returncode:
            reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
            raise ClusterError(f"{' '.join(command[:3])}: {reason[-1]}")
        return done.stdout

    def ceph(self, *arguments: str) -> str:
        return self._run("ceph", "-c", str(self._conf), "--connect-timeout", "10", *arguments)

    def admin(self, *arguments: str) -> str:
        return self._run("radosgw-admin", "-c", str(self._conf), *arguments)

    # laying out

    def lay_out(self, settings: Settings) -> None:
        """Keys, the monitor's first map and its store: what must exist before any daemon runs."""
        for name in ("mon", "mgr", "osd", "rgw", "run", "log", "crash"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()
        keyring = self.folder / "keyring"
        keyring.unlink(missing_ok=True)
        self._settings_file.write_text(json.dumps(asdict(settings)))
        self._conf.write_text(configuration(self.folder, settings))
        keys = {
            "mon.": {"mon": "allow *"},
            "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
            "mgr.x": {"mon": "allow profile mgr", "osd": "allow *"},
            "osd.0": {
                "mon": "allow profile osd",
                "mgr": "allow profile osd",
                "osd": "allow *",
            },
            "client.rgw": {"mon": "allow rw", "osd": "allow rwx", "mgr": "allow rw"},
        }
        self._run("ceph-authtool", str(keyring), "--create-keyring")
        for name, caps in keys.items():
            words = [word for kind, cap in caps.items() for word in ("--cap", kind, cap)]
            self._run("ceph-authtool", str(keyring), "--gen-key", "-n", name, *words)
        first_map = str(self.folder / "monmap")
        address = f"[v2:127.0.0.1:{settings.monitor_port}/0]"
        self._run(
            *("monmaptool", "--create", "--clobber", "--fsid", settings.cluster_id),
            *("--addv", "a", address, first_map),
        )
        self._run(
            *("ceph-mon", "-c", str(self._conf), "--mkfs", "-i", "a"),
            *("--monmap", first_map, "--keyring", str(keyring)),
        )

    # starting

    def up(self) -> None:
        """Start what does not run yet; on failure stop what this call started."""
        running = self.daemons()
        before = set(running)
        settings = self.settings
        commands = {
            "mon": ("ceph-mon", "-f", "-i", "a"),
            "mgr": ("ceph-mgr", "-f", "-i", "x"),
            "osd": ("ceph-osd", "-f", "-i", "0"),
            "rgw": ("radosgw", "-f", "-n", "client.rgw"),
        }
        for name, port in (("mon", settings.monitor_port), ("rgw", settings.port)):
            if name not in running and listening(port):
                raise ClusterError(f"port {port} is in use: choose others (--help)")
        try:
            for name in self.ORDER:
                if name not in running:
                    running[name] = self._start(*commands[name])
                    self._record(running)
                self._await(name, running[name], settings)
            if not self._ready_file.exists():
                self._make_people()
                self._ready_file.touch()
        except BaseException:
            self.down(set(running) - before)
            raise

    def _start(self, program: str, *arguments: str) -> Daemon:
        with (self.folder / "log" / f"{program}.out").open("ab") as log:
            try:
                process = subprocess.Popen(
                    [program, *arguments, "-c", str(self._conf)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise ClusterError(
                    f"{program} is missing: apt-get install {' '.join(PACKAGES)}"
                ) from None
        began = start_time(process.pid)
        if began is None:
            raise ClusterError(f"{program} ended at once; logs are in {self.folder / 'log'}")
        return Daemon(process.pid, began)

    def _await(self, name: str, daemon: Daemon, settings: Settings) -> None:
        def answers() -> bool:
            if not daemon.alive():
                raise ClusterError(f"{name} ended; logs are in {self.folder / 'log'}")
            if name == "mon":
                return listening(settings.monitor_port) and bool(self.ceph("mon", "stat"))
            if name == "osd":
                return bool(json.loads(self.ceph("osd", "stat", "-f", "json"))["num_up_osds"])
            return name == "mgr" or listening(settings.port)

        await_true(name, answers)
        if name == "mon" and not (self.folder / "osd" / "type").exists():
            number = str(uuid.uuid4())
            self.ceph("osd", "new", number, "0")
            self._run("ceph-osd", "-c", str(self._conf), "-i", "0", "--mkfs", "--osd-uuid", number)

    def _make_people(self) -> None:
        for person in PEOPLE:
            words = [
                *("user", "create", f"--uid={person.name}", f"--display-name={person.name}"),
                *(f"--access-key={person.access_key}", f"--secret-key={person.secret_key}"),
            ]
            self.admin(*words, *([f"--caps={person.caps}"] if person.caps else []))
        everyone = [f"arn:aws:iam:::user/{person.name}" for person in PEOPLE]
        trust = policy(Principal={"AWS": everyone}, Action=["sts:AssumeRole"])
        for role, actions in ROLES.items():
            self.admin(
                *("role", "create", f"--role-name={role}", "--path=/"),
                f"--assume-role-policy-doc={trust}",
            )
            allowed = policy(Action=actions, Resource=["arn:aws:s3:::*"])
            self.admin(
                *("role-policy", "put", f"--role-name={role}", "--policy-name=allowed"),
                f"--policy-doc={allowed}",
            )

    # stopping

    def down(self, names: set[str] | None = None) -> None:
        """Stop these daemons (all, by default), the gateway first and the monitor last."""
        running = self.daemons()
        for name in reversed(self.ORDER):
            daemon = running.get(name)
            if daemon is None or (names is not None and name not in names):
                continue
            for sig, seconds in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 10.0)):
                if daemon.alive():
                    os.kill(daemon.pid, sig)
                    end = time.monotonic() + seconds
                    while daemon.alive() and time.monotonic() < end:
                        time.sleep(0.05)
            if daemon.alive():
                raise ClusterError(f"{name} (process {daemon.pid}) does not end")
        self._record(self.daemons())

    def exports(self) -> str:
        """What a shell evaluates to reach the gateway."""
        values = {
            "RGW_ENDPOINT_URL": f"http://127.0.0.1:{self.settings.port}",
            "RGW_REGION": "default",
        }
        for person in PEOPLE:
            values[f"RGW_{person.name.upper()}_ACCESS_KEY"] = person.access_key
            values[f"RGW_{person.name.upper()}_SECRET_KEY"] = person.secret_key
        for role in ROLES:
            values[f"RGW_ROLE_{role.upper()}_ARN"] = f"arn:aws:iam:::role/{role}"
        return "\n".join(f"export {name}={value}" for name, value in values.items())


def policy(**statement: object) -> str:
    """Compact JSON of a policy that allows this: RGW takes no spaces."""
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}
    return json.dumps(document, separators=(",", ":"))


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def await_true(what: str, condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise ClusterError(f"{what}: nothing within {PATIENCE:.0f} s")
        time.sleep(0.1)


def bring_up(folder: Path, options: argparse.Namespace) -> None:
    marker = folder / "settings.json"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise ClusterError(f"{folder} holds other things: choose an empty folder with --dir")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster = Cluster(folder)
    with cluster.locked():
        if not (folder / "ready").exists():
            cluster.down()
            cluster.lay_out(
                Settings(
                    options.port,
                    options.monitor_port,
                    options.first_port,
                    options.size,
                    str(uuid.uuid4()),
                )
            )
        cluster.up()
        print(cluster.exports())


def bring_down(folder: Path, *, wipe: bool) -> None:
    if not (folder / "settings.json").exists():
        return
    cluster = Cluster(folder)
    with cluster.locked():
        cluster.down()
        if wipe:
            shutil.rmtree(folder)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"scripts/rgw-{arguments[0] if arguments else 'up'}")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, print exports for a shell")
    down = commands.add_parser("down", help="stop it")
    for command in (up, down):
        command.add_argument("--dir", type=Path, default=CHECKOUT / "build" / "rgw")
    up.add_argument("--port", type=int, default=7480, help="of S3 and STS (7480)")
    up.add_argument("--monitor-port", type=int, default=6790)
    up.add_argument("--first-port", type=int, default=6800, help="of 40 for the daemons (6800)")
    up.add_argument("--size", type=int, default=20, metavar="GIB", help="of a sparse file (20)")
    down.add_argument("--wipe", action="store_true", help="and remove what it holds")
    options = parser.parse_args(arguments)
    folder = options.dir.resolve()
    try:
        if options.command == "up":
            bring_up(folder, options)
        else:
            bring_down(folder, wipe=options.wipe)
    except (ClusterError, OSError) as error:
        print(f"scripts/rgw-{options.command}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
