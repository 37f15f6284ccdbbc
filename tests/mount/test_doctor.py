"""``s3posixfs doctor`` finds each thing that is broken here, and what it says to do mends it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3posixfs.cli.doctor import examine
from s3posixfs.cli.doctor_host import _kernel, units
from s3posixfs.cli.findings import Finding, clock
from tests.mount.mount_process import MountProcess, is_mounted
from tests.store.certificates import make_certificates
from tests.store_process import PROGRAM, StoreProcess, secret_of

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]

Findings = dict[str, Finding]


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store", arguments=("--region", "here-1")) as store:
        admin = store.s3(store.admin())
        admin.create_bucket(Bucket="shared")
        admin.close()
        store.add_user("carol", 1003)
        yield store


class Doctor:
    """Asks the doctor about one store, with options that are well unless a test says otherwise."""

    def __init__(self, store: StoreProcess, folder: Path) -> None:
        self.options: dict[str, str | None] = {
            "endpoint_url": store.endpoint,
            "region": "here-1",
            "credentials_file": str(store.credentials_file),
            "profile": "admin",
            "identities": "auto",
            "cache_dir": str(folder / "cache"),
        }

    def text(self, **options: str | None) -> str:
        """The options as ``-o`` takes them; ``None`` takes one of them away."""
        given = {**self.options, **options}
        return ",".join(f"{name}={value}" for name, value in given.items() if value is not None)

    def __call__(self, source: str | None = "shared", **options: str | None) -> Findings:
        rows = examine(source, [self.text(**options)])
        for row in rows:
            assert (row.verdict in ("warning", "failed")) == bool(row.remedy), row
        return {row.subject: row for row in rows}


def ask(*words: str) -> subprocess.CompletedProcess[str]:
    """The program itself."""
    return subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def doctor(store: StoreProcess, open_folder: Path) -> Doctor:
    return Doctor(store, open_folder)


def verdicts(findings: Findings, verdict: str) -> list[str]:
    """The subjects with this verdict, without mounts, which are other tests' too."""
    return [
        name
        for name, row in findings.items()
        if row.verdict == verdict and not name.startswith("mount /")
    ]


def test_all_is_well(doctor: Doctor, store: StoreProcess) -> None:
    found = doctor()
    assert verdicts(found, "failed") == verdicts(found, "warning") == []
    assert {
        "/dev/fuse", "kernel", "fusermount3", "user_allow_other", "Python", "pyfuse3", "open files",
        "identities", "credentials", "endpoint", "TLS", "clock", "region", "bucket shared",
        "abilities", f"cache_dir {doctor.options['cache_dir']}", "mounts", "systemd",
    } <= set(found)  # fmt: skip
    assert found["abilities"].found.startswith("conditional_put yes, rename_object yes")
    assert "shared-credentials-file" in found["credentials"].found
    # What the probe wrote is gone.
    admin = store.s3(store.admin())
    assert admin.list_objects_v2(Bucket="shared")["KeyCount"] == 0
    admin.close()


def test_people_read_a_line_for_each_and_programs_json(doctor: Doctor, open_folder: Path) -> None:
    text = f"endpoint_url=http://127.0.0.1:1,identities={open_folder}/none"
    done = ask(PROGRAM, "doctor", "-o", text)
    assert done.returncode == 1
    lines = done.stdout.splitlines()[1:]
    assert all(line.split()[0] in ("OK", "NOTE", "WARN", "FAIL") for line in lines), done.stdout
    assert [" → " in line for line in lines] == [line[:4] in ("WARN", "FAIL") for line in lines]
    assert "No such file" in next(line for line in lines if " identities " in line)
    assert "failed, " in done.stderr
    done = ask("prlimit", "--nofile=512", "--", PROGRAM, "doctor", "-o", doctor.text(), "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == int(any(row["verdict"] == "failed" for row in rows))
    few = next(row for row in rows if row["subject"] == "open files")
    assert few["verdict"] == "warning"
    assert "LimitNOFILE" in few["remedy"]


def test_the_store_is_asked(doctor: Doctor, store: StoreProcess, open_folder: Path) -> None:
    assert doctor("nosuch")["bucket nosuch"].verdict == "failed"
    assert (
        "s3:ListBucket"
        in doctor(**_as_carol(open_folder, secret_of("carol")))["bucket shared"].remedy
    )
    assert doctor(region="there-1")["region"].remedy == "give region=here-1"
    down = doctor(endpoint_url="http://127.0.0.1:1")
    assert down["endpoint"].verdict == "failed"
    assert "check the port" in down["endpoint"].remedy
    assert doctor(profile="nobody")["credentials"].verdict == "failed"
    assert doctor(None)["abilities"].verdict == "note"


def _as_carol(folder: Path, key: str) -> dict[str, str]:
    path = folder / "keys"
    path.write_text(f"[carol]\naws_access_key_id = carol\naws_secret_access_key = {key}\n")
    return {"profile": "carol", "credentials_file": str(path)}


def test_credentials_are_looked_at(doctor: Doctor, open_folder: Path) -> None:
    options = _as_carol(open_folder, "wrong-secret")
    found = doctor(**options)
    assert "secret key is wrong" in found["credentials"].found
    path = options["credentials_file"]
    assert found[f"file {path}"].remedy == f"chmod 600 {path}"
    Path(path).chmod(0o600)
    assert f"file {path}" not in doctor(**options)


def test_files_are_looked_at(doctor: Doctor, open_folder: Path) -> None:
    identities, config = open_folder / "who.toml", open_folder / "mount.toml"
    one = '[[identity]]\nname = "{}"\nuid = {}\ngid = 1\nowner_ids = ["x"]\n'
    identities.write_text(one.format("a", 1) + one.format("b", 2))
    config.write_text(f'identities = "{identities}"\n')
    config.chmod(0o666)
    found = doctor(config=str(config), identities=None)
    assert found[f"config {config}"].verdict == "failed"
    assert "owner_ids 'x' is given to 'a'" in found["identities"].found
    config.chmod(0o644)
    identities.write_text(one.format("a", '"no-such-user"'))
    found = doctor(config=str(config), identities=None)
    assert found[f"config {config}"].verdict == "ok"
    assert "no user named 'no-such-user'" in found["identities"].found
    identities.write_text(one.format("a", 1))
    identities.chmod(0o666)
    unsafe = examine(None, [doctor.text(identities=str(identities))])
    assert f"chmod go-w {identities}" in [row.remedy for row in unsafe]
    config.write_text("colour = 1\n")
    assert "unknown option 'colour'" in doctor(config=str(config))["options"].found


def test_tls_is_looked_at(doctor: Doctor, module_folder: Path, open_folder: Path) -> None:
    authority, certificate, key = make_certificates(open_folder)
    arguments = ("--tls-cert", str(certificate), "--tls-key", str(key))
    with StoreProcess(open_folder / "tls", arguments=arguments) as secure:
        options = {
            "endpoint_url": secure.endpoint,
            "region": None,
            "credentials_file": str(secure.credentials_file),
        }
        assert "ca_file" in doctor(None, **options)["TLS"].remedy
        found = doctor(None, **options, ca_file=str(authority))
        # It is made for a day.
        assert found["TLS"].verdict == "warning"
        assert "ends in 1 days" in found["TLS"].found


def test_the_cache_and_the_mount(doctor: Doctor, store: StoreProcess, open_folder: Path) -> None:
    """A mount is killed with a file that S3 has not got; what the doctor says brings it there."""
    cache = Path(str(doctor.options["cache_dir"]))
    subject = f"cache_dir {cache}"
    cache.mkdir(mode=0o700)
    cache.chmod(0o777)
    assert doctor()[subject].remedy == f"chmod 700 {cache}"
    cache.chmod(0o700)
    options = {"region": "here-1", "writeback": "on"}
    with MountProcess(store, open_folder, "shared", options) as mount:
        note = doctor(writeback="on", writeback_limit="1M")[subject]
        assert (note.verdict, str(mount.pid) in note.found) == ("note", True)
        # Opened while the store is there, closed when it is not.
        script = "exec 3>kept; echo open; read x; echo precious >&3; exec 3>&-; echo closed"
        with subprocess.Popen(
            ["/bin/sh", "-euc", script],
            cwd=mount.mountpoint,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdin is not None
            assert writer.stdout.readline() == "open\n"
            store.stop()
            writer.stdin.write("go\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "closed\n"
        mount.kill()
        store.start()
        found = doctor()
        stale = found[f"mount {mount.mountpoint}"]
        assert stale.verdict == "failed"
        assert found[subject].verdict == "warning"
        assert "1 files in its journal" in found[subject].found
        command = stale.remedy.partition(",")[0].split()
        subprocess.run([PROGRAM, *command[1:]], check=True, timeout=60, capture_output=True)
        assert not is_mounted(mount.mountpoint)
        mount.start()
        mount.wait_until_stored()
        mount.umount()
    found = doctor()
    assert found[subject].verdict == "ok"
    assert f"mount {mount.mountpoint}" not in found
    admin = store.s3(store.admin())
    assert admin.get_object(Bucket="shared", Key="kept")["Body"].read() == b"precious\n"
    admin.delete_object(Bucket="shared", Key="kept")
    admin.close()


@pytest.mark.parametrize(("off", "verdict"), [(3.0, "ok"), (-120.0, "warning"), (1000, "failed")])
def test_a_clock(off: float, verdict: str) -> None:
    assert clock(off).verdict == verdict


@pytest.mark.parametrize(
    ("release", "verdict"), [("5.2.9-rc1", "failed"), ("5.3", "ok"), ("6.1.0-13-amd64", "ok")]
)
def test_a_kernel(release: str, verdict: str) -> None:
    assert _kernel(release).verdict == verdict


def test_units() -> None:
    found = list(
        units(
            "s3posixfs@home.service loaded failed failed s3posixfs mount home\n"
            "s3posixfs-store.service loaded active running s3posixfs store\n"
            "s3posixfs@new.service loaded activating start s3posixfs mount new\n"
        )
    )
    assert [one.verdict for one in found] == ["failed", "ok", "warning"]
    assert "journalctl -u s3posixfs@home.service" in found[0].remedy
    assert [one.verdict for one in units("")] == ["note"]
