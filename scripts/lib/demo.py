"""The store, three users and a mount in one folder: what ``scripts/run`` starts and stops.

The folder holds ``objects`` (the store's files), ``state`` (its users and policies), ``aws``
(config and credentials of the three users), ``cache``, ``mnt``, the two logs, and ``run.json``,
the processes that were started. Stopping goes by that file, and only after ``/proc`` has
confirmed that the process with that number is still the one that was started.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_s3 import S3Client

CHECKOUT = Path(__file__).resolve().parent.parent.parent
PROGRAM = str(Path(sys.executable).with_name("s3posixfs"))
BUCKET = "shared"
REGION = "us-east-1"


class DemoError(Exception):
    """One line for the person who ran the script."""


@dataclass(frozen=True, slots=True)
class Person:
    """An S3 user of the demo, and the files of the checkout that they upload."""

    name: str
    uid: int
    policy: str | None
    uploads: tuple[str, ...] = ()


PEOPLE = (
    Person("alice", 1001, "readwrite", ("README.md", "s3posixfs/core/*.py")),
    Person("bob", 1002, "readwrite", ("pyproject.toml", "s3posixfs/sigv4/*.py")),
    Person("carol", 1003, None),
)


@dataclass(frozen=True, slots=True)
class Started:
    """A process that was started: its number, and the start time that /proc tells it apart by."""

    pid: int
    start_time: str
    boot: str

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return self.boot == _boot_id() and _start_time(self.pid) == self.start_time


@dataclass(frozen=True, slots=True)
class Record:
    """What ``run.json`` says."""

    port: int
    store: Started | None
    mount: Started | None

    @property
    def processes(self) -> list[Started]:
        return [process for process in (self.mount, self.store) if process is not None]


@dataclass(frozen=True, slots=True)
class Demo:
    """The folder of one demo."""

    folder: Path
    port: int
    began: float

    @property
    def mountpoint(self) -> Path:
        return self.folder / "mnt"

    @property
    def record_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def aws(self) -> dict[str, str]:
        return {
            "AWS_CONFIG_FILE": str(self.folder / "aws" / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "aws" / "credentials"),
        }

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.began:3.0f} s] {text}", flush=True)


# processes


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, or None for a process that is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _started(pid: int) -> Started:
    start_time = _start_time(pid)
    if start_time is None:
        raise DemoError(f"process {pid} ended at once: see the logs")
    return Started(pid, start_time, _boot_id())


def read_record(demo: Demo) -> Record | None:
    if not demo.record_file.exists():
        return None
    data = json.loads(demo.record_file.read_text())

    def started(name: str) -> Started | None:
        return Started(**data[name]) if data[name] else None

    return Record(data["port"], started("store"), started("mount"))


def write_record(demo: Demo, record: Record) -> None:
    new = demo.record_file.with_suffix(".new")
    new.write_text(json.dumps(asdict(record), indent=2) + "\n")
    new.replace(demo.record_file)


def end(process: Started, seconds: float) -> bool:
    """SIGTERM a process that was started here; whether it was gone within ``seconds``."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if process.alive():  # the descriptor pins the process that was looked at
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            return bool(select.select([descriptor], [], [], seconds)[0])
        return True
    finally:
        os.close(descriptor)


def gone(process: Started, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while process.alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def log_tail(path: Path, lines: int = 5) -> str:
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


# starting


def check_folder(demo: Demo) -> None:
    """Make the folder; say so when other users will not be able to reach the mount in it."""
    if demo.folder.exists() and not demo.folder.is_dir():
        raise DemoError(f"{demo.folder} is not a folder: choose another with --dir")
    ours = ("run.json", "state", "objects")
    if (
        demo.folder.exists()
        and any(demo.folder.iterdir())
        and not any((demo.folder / name).exists() for name in ours)
    ):
        raise DemoError(f"{demo.folder} holds other things: choose an empty folder with --dir")
    demo.folder.mkdir(parents=True, exist_ok=True)
    demo.folder.chmod(0o755)
    for parent in demo.folder.parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            demo.say(
                f"note: {parent} is closed to other users (mode {mode:04o}), so only root will "
                f"reach {demo.mountpoint}; use --dir for a place that all can reach"
            )


def port_is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def start_store(demo: Demo) -> Started:
    if port_is_taken(demo.port):
        raise DemoError(f"port {demo.port} is in use: choose another with --port")
    log_path = demo.folder / "serve.log"
    output = demo.folder / "serve.out"
    with log_path.open("ab") as log, output.open("wb") as out:
        process = subprocess.Popen(
            [
                PROGRAM,
                "serve",
                "--root",
                str(demo.folder / "objects"),
                "--state",
                str(demo.folder / "state"),
                "--listen",
                f"127.0.0.1:{demo.port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    started = _started(process.pid)
    deadline = time.monotonic() + 30
    while not output.read_text().startswith("ready:"):
        if process.poll() is not None or time.monotonic() > deadline:
            end(started, 5)
            raise DemoError(f"the store did not start:\n{log_tail(log_path)}")
        time.sleep(0.05)
    return started


def start_mount(demo: Demo) -> Started:
    demo.mountpoint.mkdir(exist_ok=True)
    log_path = demo.folder / "mount.log"
    options = {
        "endpoint_url": demo.endpoint,
        "region": REGION,
        "profile": "admin",
        "identities": "auto",
        "cache_dir": str(demo.folder / "cache"),
    }
    text = ",".join(["allow_other", *(f"{name}={value}" for name, value in options.items())])
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [PROGRAM, "mount", "/", str(demo.mountpoint), "-f", "-o", text],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, **demo.aws},
            start_new_session=True,
        )
    started = _started(process.pid)
    deadline = time.monotonic() + 30
    while not demo.mountpoint.is_mount():
        if process.poll() is not None or time.monotonic() > deadline:
            end(started, 5)
            raise DemoError(f"the mount did not start:\n{log_tail(log_path)}")
        time.sleep(0.05)
    return started


def administer(demo: Demo, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *arguments, "--state", str(demo.folder / "state")],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def make_people(demo: Demo) -> None:
    """The three users, and AWS profiles for them and for the store's admin, in ``aws``."""
    folder = demo.folder / "aws"
    folder.mkdir(mode=0o700, exist_ok=True)
    credentials = folder / "credentials"
    have = credentials.read_text() if credentials.exists() else ""
    profiles = [(demo.folder / "state" / "admin-credentials").read_text().strip()]
    for person in PEOPLE:
        if f"[{person.name}]" in have:
            start = have.index(f"[{person.name}]")
            profiles.append(have[start:].split("\n[", 1)[0].strip())
            continue
        secret = secrets.token_urlsafe(30)
        ids = ("--posix-uid", str(person.uid), "--posix-gid", str(person.uid))
        done = administer(
            demo, "user", "add", person.name, *ids, "--secret-key-file", "-", text=secret + "\n"
        )
        if done.returncode == 0 and person.policy:
            done = administer(demo, "policy", "attach", person.policy, person.name)
        if done.returncode:
            raise DemoError(f"could not make the user {person.name}: {done.stderr.strip()}")
        profiles.append(
            f"[{person.name}]\naws_access_key_id = {person.name}\naws_secret_access_key = {secret}"
        )
    with open(os.open(credentials, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write("\n\n".join(profiles) + "\n")
    config = [f"[services demo]\ns3 =\n  endpoint_url = {demo.endpoint}\n"]
    config.append(f"sts =\n  endpoint_url = {demo.endpoint}\n")
    for name in ("admin", *(person.name for person in PEOPLE)):
        config.append(f"[profile {name}]\nregion = {REGION}\nservices = demo\n")
    (folder / "config").write_text("".join(config))


def client(demo: Demo, name: str) -> S3Client:
    import boto3  # only what starts a demo needs it; what stops one runs without
    from botocore.config import Config

    session = boto3.Session(profile_name=name)
    return session.client("s3", config=Config(retries={"total_max_attempts": 2}))


def upload(demo: Demo) -> None:
    """Each person's files from the checkout, through S3, as that person."""
    alice = client(demo, "alice")
    if BUCKET not in [found["Name"] for found in alice.list_buckets()["Buckets"]]:
        alice.create_bucket(Bucket=BUCKET)
    for person in PEOPLE:
        if not person.uploads:
            continue
        s3 = client(demo, person.name)
        paths = sorted(path for pattern in person.uploads for path in CHECKOUT.glob(pattern))
        for path in paths:
            key = str(path.relative_to(CHECKOUT)).removeprefix("s3posixfs/")
            s3.upload_file(str(path), BUCKET, key)
        demo.say(f"{person.name} uploaded {len(paths)} files with boto3 to s3://{BUCKET}")


def as_uid(demo: Demo, uid: int, command: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command as ``uid`` in the bucket's folder of the mount."""
    ids = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.run(
        [*ids, "/bin/sh", "-c", command],
        cwd=demo.mountpoint / BUCKET,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def show(demo: Demo) -> None:
    """The same files through both doors, and the person whom both refuse."""
    from botocore.exceptions import ClientError

    print("\n$ ls -lnR mnt", flush=True)
    subprocess.run(["ls", "-lnR", "mnt"], cwd=demo.folder, check=True, timeout=120)

    print(f"\n$ the same through S3: s3://{BUCKET} with owners")
    rows = client(demo, "alice").list_objects_v2(Bucket=BUCKET, FetchOwner=True)["Contents"]
    for row in rows:
        print(f"{row['Owner']['ID']:<8}{row['Size']:>9}  {row['Key']}")

    print("\n$ carol has no policy: S3 refuses her …")
    try:
        client(demo, "carol").list_objects_v2(Bucket=BUCKET)
    except ClientError as error:
        print(f"s3://{BUCKET} as carol: {error.response['Error']['Code']}")
    else:
        raise DemoError("carol could list the bucket: that must not be")
    refused = as_uid(demo, 1003, "cat README.md")
    print("$ … and so does the mount, as uid 1003")
    print(refused.stderr.strip())
    if refused.returncode == 0:
        raise DemoError("uid 1003 could read a file through the mount: that must not be")


def near(path: Path) -> str:
    """``path`` as one would type it here: relative when it is below this folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def hints(demo: Demo) -> None:
    folder, program = near(demo.folder), near(Path(PROGRAM))
    stop = f"{near(CHECKOUT / 'scripts' / 'run')} --stop"
    if folder != "demo":
        stop += f" --dir {folder}"
    print(
        f"""
The store answers at {demo.endpoint}, its mount is at {folder}/mnt. To look further, as root:

  stat -c '%u:%g %n' {folder}/mnt/{BUCKET}/*
  setpriv --reuid 1001 --regid 1001 --clear-groups sh -c 'echo hi > {folder}/mnt/{BUCKET}/hello'
  {program} status {folder}/mnt
  {program} policy explain carol s3:GetObject \\
      arn:aws:s3:::{BUCKET}/README.md --state {folder}/state

and as an S3 user, with any S3 program:

  export AWS_CONFIG_FILE={demo.aws["AWS_CONFIG_FILE"]}
  export AWS_SHARED_CREDENTIALS_FILE={demo.aws["AWS_SHARED_CREDENTIALS_FILE"]}
  aws --profile bob s3 ls s3://{BUCKET}

To stop it: {stop}""",
        flush=True,
    )


def start(demo: Demo) -> None:
    record = read_record(demo)
    if record is not None:
        alive = [process for process in record.processes if process.alive()]
        if len(alive) == 2:
            print(f"It is running already: http://127.0.0.1:{record.port}, {demo.mountpoint}")
            return
        if alive or demo.mountpoint.is_mount():
            raise DemoError(f"half of the demo in {demo.folder} still runs: use --stop first")
    check_folder(demo)
    os.environ.update(demo.aws)
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        os.environ.pop(name, None)
    store = start_store(demo)
    write_record(demo, Record(demo.port, store, None))
    try:
        bring_up(demo, store)
    except BaseException:
        demo.say("that failed; stopping what was started")
        stop(demo)
        raise
    show(demo)
    hints(demo)


def bring_up(demo: Demo, store: Started) -> None:
    """Users, uploads and the mount, on a store that has just been started."""
    demo.say(f"the store is up at {demo.endpoint}")
    make_people(demo)
    demo.say("users: alice 1001 and bob 1002 with policy readwrite, carol 1003 with none")
    upload(demo)
    mount = start_mount(demo)
    write_record(demo, Record(demo.port, store, mount))
    demo.say(f"all buckets are mounted at {demo.mountpoint}")
    text = "echo 'written through the mount by uid 1001' > from-alice"
    written = as_uid(demo, 1001, text)
    if written.returncode:
        raise DemoError(f"uid 1001 could not write through the mount: {written.stderr.strip()}")
    demo.say(f"uid 1001 wrote {BUCKET}/from-alice through the mount")


# stopping


def unmount(demo: Demo, mount: Started) -> None:
    for _ in range(3):
        if not _listed_as_mounted(demo.mountpoint):
            break
        done = subprocess.run(
            ["umount", str(demo.mountpoint)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        if done.returncode and mount.alive():
            raise DemoError(
                f"{done.stderr.strip()}; leave that folder (`fuser -vm {demo.mountpoint}` tells "
                "who is in it) and call this again"
            )
    if not gone(mount, 300):
        raise DemoError(f"the mount (process {mount.pid}) is still uploading; call this again")


def _listed_as_mounted(path: Path) -> bool:
    """Like ismount, but also true of a mount whose daemon died (stat fails there)."""
    name = str(path).replace("\\", "\\134").replace(" ", "\\040")
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(
        line.split()[4] == name and " - fuse" in line for line in lines if len(line.split()) > 4
    )


def stop(demo: Demo) -> None:
    record = read_record(demo)
    if record is None:
        print(f"Nothing is running in {demo.folder}")
        return
    if record.mount is not None:
        unmount(demo, record.mount)
        demo.say(f"{demo.mountpoint} is unmounted, everything written is in S3")
    write_record(demo, Record(record.port, record.store, None))
    if record.store is not None:
        if not end(record.store, 60):
            raise DemoError(f"the store (process {record.store.pid}) does not end")
        demo.say("the store has ended")
    demo.record_file.unlink()
    print(f"Stopped. The files stay in {demo.folder}; starting again goes on with them.")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/run", allow_abbrev=False)
    parser.add_argument("--dir", type=Path, default=Path("demo"), help="where (default ./demo)")
    parser.add_argument("--port", type=int, default=9000, help="of the store (default 9000)")
    parser.add_argument("--stop", action="store_true", help="end what was started in DIR")
    parser.add_argument("--elapsed", type=float, default=0.0, help=argparse.SUPPRESS)
    options: Any = parser.parse_args(arguments)
    if not 0 < options.port < 65536:
        parser.error("--port is a number from 1 to 65535")
    result: argparse.Namespace = options
    return result


def main() -> int:
    options = parse(sys.argv[1:])
    demo = Demo(options.dir.resolve(), options.port, time.monotonic() - options.elapsed)
    try:
        stop(demo) if options.stop else start(demo)
    except (DemoError, OSError, subprocess.SubprocessError) as error:
        print(f"scripts/run: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
