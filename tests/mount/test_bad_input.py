"""What a person gets wrong: one line that says what to do, a non-zero status, no traceback."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.mount.bed import Bed
from tests.mount.mount_process import DaemonProcess, is_mounted
from tests.store_process import StoreProcess

pytestmark = pytest.mark.mount


@dataclass(frozen=True, slots=True)
class Mistake:
    """A way to call ``mount`` wrongly, and what its one line must name.

    BUCKET, FOLDER and ALICE stand for the shared bucket, the test's folder and alice's access key.
    """

    name: str
    says: str
    source: str = "BUCKET"
    options: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


GOOD = '[[identity]]\nname = "alice"\nowner_ids = ["alice"]\nuid = 1001\ngid = 1001\n'
FILE = {"identities": "FOLDER/identities.toml"}
MISTAKES = (
    Mistake("missing bucket", "no-such-bucket", source="no-such-bucket"),
    Mistake("unreachable endpoint", "127.0.0.1:9", options={"endpoint_url": "http://127.0.0.1:9"}),
    Mistake("endpoint that is no URL", "endpoint_url", options={"endpoint_url": "localhost:9000"}),
    Mistake("unknown profile", "nobody", options={"profile": "nobody"}),
    Mistake(
        "unknown key",
        "access key|its key is wrong",
        options={"credentials_file": "FOLDER/credentials"},
        files={
            "credentials": "[admin]\naws_access_key_id = no\naws_secret_access_key = none-at-all"
        },
    ),
    Mistake(
        "wrong secret",
        "secret|its key is wrong",
        options={"credentials_file": "FOLDER/credentials"},
        files={
            "credentials": "[admin]\naws_access_key_id = ALICE\naws_secret_access_key = not hers"
        },
    ),
    Mistake("unknown option", "colour", options={"colour": "red"}),
    Mistake("option that takes a number", "metadata_ttl", options={"metadata_ttl": "soon"}),
    Mistake("option that takes a choice", "access", options={"access": "everyone"}),
    Mistake("a secret as an option", "profile", options={"secret_key": "hush-hush"}),
    Mistake("no identity file", "identities.toml", options=FILE),
    Mistake(
        "identity file, syntax error in line 7",
        "identities.toml.*(line 7|:7)",
        options=FILE,
        files={"identities.toml": GOOD + "\nname : bob\n"},
    ),
    Mistake(
        "identity file, unknown key in line 6",
        "identities.toml.*(line 6|:6).*colour",
        options=FILE,
        files={"identities.toml": GOOD + 'colour = "red"\n'},
    ),
    Mistake(
        "identity file, uid twice",
        "identities.toml.*1001",
        options=FILE,
        files={"identities.toml": GOOD + "\n" + GOOD.replace("alice", "bob")},
    ),
    Mistake(
        "no cache folder can be made", "cache_dir|/dev/null", options={"cache_dir": "/dev/null/x"}
    ),
)


@pytest.mark.parametrize("background", [True, False], ids=["background", "foreground"])
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_mount_says_what_is_wrong(
    bed: Bed, open_folder: Path, mistake: Mistake, background: bool
) -> None:
    source = mistake.source.replace("BUCKET", bed.bucket)
    options = {
        name: value.replace("FOLDER", str(open_folder)) for name, value in mistake.options.items()
    }
    mount = bed.mount(open_folder, source, options)
    for name, text in mistake.files.items():
        (open_folder / name).write_text(text.replace("ALICE", bed.users["alice"].access_key))
    if mistake.name == "no identity file":
        (open_folder / "identities.toml").unlink(missing_ok=True)
    check_refused(mount, mistake.says, *([] if background else ["-f"]))


def check_refused(mount: DaemonProcess, says: str, *more: str) -> None:
    """The mount command fails with one line that matches ``says``, and leaves no mount."""
    mount.mountpoint.mkdir(exist_ok=True)
    before = is_mounted(mount.mountpoint)
    try:
        done = subprocess.run(
            mount.command(*more), capture_output=True, text=True, timeout=60, check=False
        )
        assert is_mounted(mount.mountpoint) is before
    finally:
        if not before:
            mount.free()
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    # In the foreground the daemon's log goes to the same place.
    logged = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ (INFO|WARNING) ")
    lines = [line for line in done.stderr.splitlines() if not ("-f" in more and logged.match(line))]
    assert len(lines) == 1, done.stderr
    assert re.search(says, lines[0]), lines[0]
    assert "Traceback" not in done.stderr
    assert "hush-hush" not in done.stderr


def test_a_mountpoint_in_use(bed: Bed, mount: DaemonProcess, open_folder: Path) -> None:
    second = bed.mount(open_folder)
    second.mountpoint = mount.mountpoint
    check_refused(second, f"{mount.mountpoint}")


def test_a_mountpoint_that_is_not_there(bed: Bed, open_folder: Path) -> None:
    mount = bed.mount(open_folder)
    done = subprocess.run(mount.command(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(mount.mountpoint) in done.stderr


def test_a_cache_folder_that_another_mount_uses(
    bed: Bed, mount: DaemonProcess, open_folder: Path
) -> None:
    second = bed.mount(open_folder, options={"cache_dir": mount.options["cache_dir"]})
    check_refused(second, f"{mount.options['cache_dir']}")


def statement(padding: int) -> str:
    """A policy of exactly 2,048 bytes of compact JSON plus ``padding``."""
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::"}],
    }
    size = len(json.dumps(document, separators=(",", ":")))
    document["Statement"][0]["Resource"] += "x" * (2048 - size + padding)  # type: ignore[index]
    return json.dumps(document, indent=4)


def test_a_policy_of_2048_bytes_and_one_of_2049(store: StoreProcess, open_folder: Path) -> None:
    (open_folder / "fits.json").write_text(statement(0))
    (open_folder / "over.json").write_text(statement(1))
    store.command("policy", "add", "fits", str(open_folder / "fits.json"))
    done = store.command("policy", "add", "over", str(open_folder / "over.json"), check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert re.search("2,?049", done.stderr)
    assert "2,048" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("user", "add", "al"), "al"),
        (("user", "show", "no-such-user"), "no-such-user"),
        (("policy", "attach", "no-such-policy", "alice"), "no-such-policy"),
        (("policy", "add", "mine", "/no/such/file"), "/no/such/file"),
        (("policy", "remove", "readwrite"), "readwrite"),
    ],
)
def test_administration_says_what_is_wrong(
    store: StoreProcess, arguments: tuple[str, ...], says: str
) -> None:
    done = store.command(*arguments, check=False)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
