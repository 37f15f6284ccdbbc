"""What the real radosgw-admin prints becomes an identity file that its own gateway confirms."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.rgw.gateway import Gateway
from tests.store_process import PROGRAM

pytestmark = [pytest.mark.rgw]

PASSWD = "alice:x:1001:1001::/:/bin/sh\nbob:x:1002:1002::/:/bin/sh\n"


def radosgw_admin(gateway: Gateway, *arguments: str) -> str:
    return subprocess.run(
        ["radosgw-admin", "-c", str(gateway.folder / "ceph.conf"), *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


def test_import_and_check(gateway: Gateway, tmp_path: Path) -> None:
    passwd, target = tmp_path / "passwd", tmp_path / "identities.toml"
    passwd.write_text(PASSWD)
    names = radosgw_admin(gateway, "user", "list")
    records = "".join(
        radosgw_admin(gateway, "user", "info", f"--uid={name}") for name in ("alice", "bob")
    )

    def program(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PROGRAM, "identities", *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    arguments = ("import", "--from", "radosgw-admin", "-", "--passwd", passwd, "--output", target)
    refused = program(*arguments, text=names)
    assert refused.returncode == 1
    assert "these are names only" in refused.stderr
    done = program(*arguments, "--profiles", text=records)
    assert done.returncode == 0, done.stderr
    assert gateway.users["alice"].secret_key not in target.read_text() + done.stdout + done.stderr
    asked = (
        *("--endpoint-url", gateway.endpoint, "--region", gateway.region, "--profile", "admin"),
        *("--credentials-file", gateway.credentials_file(tmp_path)),
    )
    done = program("check", target, *asked, "--json")
    assert done.returncode == 0, done.stdout
    found = {row["subject"]: row["found"] for row in json.loads(done.stdout)}
    assert found["identity alice"] == "uid 1001 acts as S3 owner 'alice'"
    assert found["identity bob"] == "uid 1002 acts as S3 owner 'bob'"
    target.write_text(target.read_text().replace('profile = "bob"', 'profile = "alice"'))
    done = program("check", target, *asked, "--json")
    assert done.returncode == 1
