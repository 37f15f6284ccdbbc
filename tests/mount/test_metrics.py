"""A real mount and a real store of two workers, scraped, signalled and read as Prometheus does."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.mount.mount_process import MountProcess
from tests.store_process import PROGRAM, StoreProcess

pytestmark = pytest.mark.mount
DOCS = Path(__file__).parents[2] / "docs"


@dataclass
class Bed:
    """Both daemons, and where they are scraped."""

    store: StoreProcess
    mount: MountProcess
    port: int  # of the mount
    socket: Path  # of the store


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=20)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))


def ask(connection: http.client.HTTPConnection, target: str = "/metrics") -> tuple[int, str]:
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def text_of(where: int | Path) -> str:
    connection = (
        UnixConnection(where)
        if isinstance(where, Path)
        else http.client.HTTPConnection("127.0.0.1", where, timeout=20)
    )
    status, text = ask(connection)
    assert status == 200
    return text


def values(where: int | Path) -> dict[str, float]:
    """Each sample's value by its name and labels, as in ``name{a="b"}``."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text_of(where)):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def eventually(what: Callable[[], bool], log: Callable[[], str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, log()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def bed(module_folder: Path) -> Iterator[Bed]:
    """A mount and a store, used by alice through the one and by boto3 through the other."""
    where = module_folder / "store.metrics"
    arguments = ("--workers", "2", "--metrics", str(where), "--log-format", "json")
    with StoreProcess(module_folder / "store", arguments=arguments) as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        store.s3(alice).create_bucket(Bucket="shared")
        port = free_port()
        options = {"metrics": f"127.0.0.1:{port}"}
        with MountProcess(store, module_folder, "shared", options) as mount:
            mount.sh("echo secret-name > private-report; cat private-report", uid=1001)
            mount.sh("cat private-report; cat missing || true; ls -l", uid=1001)
            yield Bed(store, mount, port, where)


def test_what_a_mount_does_is_counted(bed: Bed) -> None:
    now = values(bed.port)
    assert now['s3posixfs_mount_operations_total{operation="write",result="ok"}'] >= 1
    assert now['s3posixfs_mount_operations_total{operation="lookup",result="ENOENT"}'] >= 1
    assert now['s3posixfs_mount_s3_requests_total{api="PutObject",result="200"}'] >= 1
    assert now["s3posixfs_mount_written_bytes_total"] == len("secret-name\n")
    assert now["s3posixfs_mount_dirty_files"] == 0
    assert now["s3posixfs_mount_resident_memory_bytes"] > 1_000_000
    last = 's3posixfs_mount_s3_requests_duration_seconds_bucket{api="PutObject",le="+Inf"}'
    total = 's3posixfs_mount_s3_requests_duration_seconds_count{api="PutObject"}'
    assert now[last] == now[total] >= 1
    bed.mount.sh("echo more > second", uid=1001)
    after = values(bed.port)
    written = "s3posixfs_mount_written_bytes_total"
    assert after[written] == now[written] + len("more\n")


def test_credentials_tell_when_they_end_by_identity(bed: Bed) -> None:
    now = values(bed.port)
    left = now['s3posixfs_mount_credentials_expiry_seconds{identity="alice"}']
    assert 0 < left <= 3600
    assert now['s3posixfs_mount_credentials_failing{identity="alice"}'] == 0


def test_the_workers_of_a_store_are_added_up(bed: Bed) -> None:
    counted = 's3posixfs_store_requests_total{api="HeadBucket",result="200"}'
    before = values(bed.socket).get(counted, 0)
    for _ in range(12):
        # A connection each, so that either worker may get it.
        bed.store.s3(bed.store.admin()).head_bucket(Bucket="shared")
    eventually(lambda: values(bed.socket)[counted] == before + 12, bed.store.log_tail)
    now = values(bed.socket)
    assert now["s3posixfs_store_workers"] == 2
    assert {values(bed.socket)[counted] for _ in range(8)} == {before + 12}


def test_what_a_worker_has_counted_outlives_it(bed: Bed) -> None:
    counted = 's3posixfs_store_requests_total{api="ListBuckets",result="200"}'
    bed.store.s3(bed.store.admin()).list_buckets()
    eventually(lambda: values(bed.socket).get(counted, 0) >= 1, bed.store.log_tail)
    before = values(bed.socket)[counted]
    children = Path(f"/proc/{bed.store.pid}/task/{bed.store.pid}/children")
    victim = int(children.read_text().split()[0])
    os.kill(victim, signal.SIGKILL)
    eventually(
        lambda: str(victim) not in children.read_text() and len(children.read_text().split()) == 2,
        bed.store.log_tail,
    )
    assert values(bed.socket)[counted] >= before


@pytest.mark.parametrize("door", ["mount", "store"])
def test_no_secret_no_path_and_no_key_is_told(bed: Bed, door: str) -> None:
    text = text_of(bed.port if door == "mount" else bed.socket)
    for secret in ("private-report", "secret", str(bed.store.admin().access_key), "shared"):
        assert secret not in text
    for family in text_string_to_metric_families(text):
        assert family.documentation
        names = {name for sample in family.samples for name in sample.labels}
        allowed = {"operation", "api", "result", "code", "identity", "where", "version", "le"}
        assert names <= allowed
        if family.type == "counter":
            assert all(one.name.endswith("_total") for one in family.samples)


def test_what_is_no_scrape_is_refused(bed: Bed) -> None:
    assert bed.socket.stat().st_mode & 0o777 == 0o600
    assert ask(http.client.HTTPConnection("127.0.0.1", bed.port, timeout=20), "/")[0] == 404
    with socket.create_connection(("127.0.0.1", bed.port), timeout=20) as rude:
        rude.sendall(b"no http at all\r\n\r\n")
        assert rude.recv(100).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", bed.port), timeout=20) as long:
        long.sendall(b"GET /metrics HTTP/1.1\r\nx: " + b"a" * 100_000)
        assert long.recv(100).startswith(b"HTTP/1.1 400")


def test_a_port_that_is_taken_is_said(bed: Bed, open_folder: Path) -> None:
    done = subprocess.run(
        [
            *(
                PROGRAM,
                "serve",
                "--root",
                str(open_folder / "r"),
                "--state",
                str(open_folder / "s"),
            ),
            *("--listen", "127.0.0.1:0", "--metrics", f"127.0.0.1:{bed.port}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "choose another port" in done.stderr


def test_status_says_the_same_to_people(bed: Bed) -> None:
    status = bed.mount.status()
    assert status["client"]["requests_by_api"]["PutObject"]["results"]["200"] >= 1
    assert status["filesystem"]["operations"]["write"]["count"] >= 1
    assert status["cache"]["limit_bytes"] > 0
    assert status["loop_stalls"]["longer_than_ms"] == 5.0
    done = subprocess.run(
        [PROGRAM, "status", str(bed.mount.mountpoint)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    for word in ("PutObject", "write", "alice", "cache", "MiB", "stalls"):
        assert word in done.stdout


def test_sigusr1_says_where_tasks_and_threads_are(bed: Bed) -> None:
    os.kill(bed.mount.pid, signal.SIGUSR1)

    def log() -> str:
        return bed.mount.log_tail(100_000)

    eventually(lambda: "s3posixfs.fs.saving.Saver.keep_trying" in log(), log)
    assert "Current thread" in log()
    os.kill(bed.store.pid, signal.SIGUSR1)
    text = bed.store.log.read_text
    eventually(lambda: text().count("all tasks, as asked by SIGUSR1") == 2, bed.store.log_tail)
    lines = [line for line in text().splitlines() if line.startswith("{")]
    assert any("audit" in json.loads(line)["message"] for line in lines)


def test_the_level_changes_while_it_runs(bed: Bed) -> None:
    def level(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "log-level", str(bed.mount.mountpoint), name],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert "debug, info before" in level("debug").stdout
    bed.mount.sh("cat missing-too || true", uid=1001)
    eventually(lambda: " DEBUG " in bed.mount.log_tail(), bed.mount.log_tail)
    assert "info, debug before" in level("info").stdout
    assert level("much").returncode == 2
    os.kill(bed.store.pid, signal.SIGUSR2)
    text = bed.store.log.read_text
    eventually(lambda: text().count("the log level is debug now") == 2, bed.store.log_tail)
    os.kill(bed.store.pid, signal.SIGUSR2)
    eventually(lambda: text().count("the log level is info now") == 2, bed.store.log_tail)


def metric_names(bed: Bed) -> set[str]:
    found: set[str] = set()
    for text in (text_of(bed.port), text_of(bed.socket)):
        for family in text_string_to_metric_families(text):
            found.add(f"{family.name}_total" if family.type == "counter" else family.name)
            if family.type == "histogram":
                found.update(f"{family.name}_{part}" for part in ("bucket", "sum", "count"))
    return found


@pytest.mark.parametrize("document", ["grafana-dashboard.json", "alerts.yml", "MONITORING.md"])
def test_every_metric_that_a_document_names_exists(bed: Bed, document: str) -> None:
    text = (DOCS / document).read_text()
    named = set(re.findall(r"\bs3posixfs_(?:mount|store)_[a-z0-9_]+", text))
    assert named
    assert named <= metric_names(bed)


def test_every_metric_is_documented(bed: Bed) -> None:
    text = (DOCS / "MONITORING.md").read_text()
    for name in metric_names(bed):
        assert re.sub("_(bucket|sum|count)$", "", name) in text


def test_every_query_of_the_dashboard_is_one_panels(bed: Bed) -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            assert target["expr"].count("(") == target["expr"].count(")")
