"""What the documents tell people to type is typed here, word for word, on a host of its own.

Each fenced block of the documents, and each example of the man pages, is executed, or stands below
with the reason why it is not. Namespaces of their own hold what is mounted, listened on and
written: /srv, /etc, /var/lib, /var/cache and /run are the test's.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3posixfs.cli.mount_options import parse_options
from s3posixfs.identity.map import parse_identities

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]
CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
PAGES = sorted((CHECKOUT / "packaging" / "man").glob("*.[1-8]"))

# Documents whose commands another test executes, or that show none.
ELSEWHERE = {
    "docs/INSTALL.md": "tests/system/test_installation.py and scripts/test-deb do",
    "docs/VM-TESTS.md": "they are what starts the virtual machines",
    "docs/PERFORMANCE.md": "measuring takes hours; tests/system/test_benchmarks.py runs them small",
}
# Blocks that are no commands for this host, by document and first line.
NOT_EXECUTED = {
    ("README.md", "sudo scripts/run"): "tests/system/test_run_script.py does",
    ("README.md", "[  0 s] making .venv"): "an output",
    ("README.md", "s3posixfs mount shared /srv/shared -o endpoint_url=http://rgw"):
        "needs Ceph RGW",
    ("README.md", "aws s3api list-buckets"): "needs AWS",
    ("README.md", "aws s3api list-objects-v2"): "needs MinIO",
    ("README.md", "shared  /srv/shared  "): "a line of fstab",
    ("docs/CONFIGURATION.md", "s3posixfs mount SOURCE"): "a synopsis",
    ("docs/CONFIGURATION.md", "s3posixfs serve --root DIR"): "a synopsis",
    ("docs/CONFIGURATION.md", "shared  /srv/shared  "): "a line of fstab",
    ("docs/CONFIGURATION.md", "radosgw-admin user list"): "needs Ceph RGW: tests/rgw imports",
    ("docs/MONITORING.md", "scrape_configs:"): "a part of Prometheus's configuration",
    ("docs/MONITORING.md", "journalctl "): "needs systemd's journal",
    ("docs/S3-API.md", "PUT /BUCKET/NEW/"): "a request: tests/store sends it",
    ("docs/STORES.md", "radosgw-admin user create"): "needs Ceph RGW: tests/rgw imports",
    ("docs/STORES.md", "s3posixfs mount my-bucket /srv/shared -o endpoint_url=http://rgw"):
        "needs Ceph RGW",
    ("docs/STORES.md", "aws s3api list-buckets"): "needs AWS",
    ("docs/STORES.md", "mc admin policy create"): "needs MinIO",
    ("docs/STORES.md", "aws s3api list-objects-v2"): "needs MinIO",
    ("packaging/man/mount.s3posixfs.8", "shared /srv/shared s3posixfs"): "a line of fstab",
    ("packaging/man/s3posixfs-identities.5", "[[identity]]"): "TOML, parsed below",
    ("packaging/man/s3posixfs-policy.5", "{"): "JSON, added by the block after it",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document, or an example of a man page."""

    document: str
    language: str
    text: str

    @property
    def first(self) -> str:
        return self.text.strip().splitlines()[0].strip()


def blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        name = str(path.relative_to(CHECKOUT))
        if name not in ELSEWHERE:
            for found in re.finditer(r"^```(\w*)\n(.*?)^```", path.read_text(), re.M | re.S):
                yield Block(name, found.group(1), found.group(2))
    for path in PAGES:
        for text in re.findall(r"^\.EX\n(.*?)^\.EE", path.read_text(), re.M | re.S):
            plain = text.replace("\\-", "-").replace("\\e", "\\")
            yield Block(str(path.relative_to(CHECKOUT)), "", plain)


def to_execute(document: str) -> list[Block]:
    """The blocks of a document that are commands, in their order."""
    return [
        block
        for block in blocks()
        if block.document == document and not block.language and reason(block) is None
    ]


def reason(block: Block) -> str | None:
    for (document, first), why in NOT_EXECUTED.items():
        if document == block.document and block.first.startswith(first):
            return why
    return None


# A host of its own: what the documents name is empty, and the network is its loopback alone.
ALONE = """
set -e
ip link set lo up
# Mounts of other tests, whose daemons are not here, are not looked at.
awk '$3 ~ /^fuse/ { print $2 }' /proc/mounts | tac | while read -r top; do umount -l "$top"; done
for folder in /srv /var/lib /var/cache /run; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir -p /srv/upper /srv/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/srv/upper,workdir=/srv/work /etc
mkdir -p /srv/home /srv/shared /etc/s3posixfs
cd /srv/home
eval "$1"
"""


def alone(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script of bash on a host of its own, which ends with it; with all its processes."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/srv/home",
        "LC_ALL": "C.UTF-8",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        [
            *("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("/bin/bash", "-c", ALONE, "alone", script),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        timeout=280,
        check=False,
    )


# What a reader puts in place of the documents' own words.
STEP_IN = {
    " DIR ": " /srv/objects ",
    "kill -USR2 PID": "kill -USR2 $(pid)",
    "kill -USR1 PID": "kill -USR1 $(pid)",
}
HELPERS = r"""
pid() { s3posixfs status /srv/shared --json | sed -n 's/^  "pid": \([0-9]*\),$/\1/p'; }
nobody() { s3posixfs user remove alice >/dev/null; }
# The bucket `shared`, and a mount of it, as other documents have it.
shared() {
    mkdir -p /srv/s3/shared
    s3posixfs mount shared /srv/shared -o endpoint_url=http://127.0.0.1:9000,profile=admin \
        -o credentials_file=/var/lib/s3posixfs/admin-credentials,identities=auto,allow_other
}
"""


def typed(block: Block) -> str:
    """The block as it is typed: every line must succeed, but for what ends by itself only."""
    text = block.text
    for word, instead in STEP_IN.items():
        text = text.replace(word, instead)
    lines = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        command = line.strip()
        if "--watch" in command:
            line = f"timeout 2 {command.partition('#')[0]} || [ $? = 124 ]"
        elif command == "s3posixfs doctor":  # says with 1 that no store is named yet
            line = f"{command} || [ $? = 1 ]"
        lines.append(line)
    return "\n".join(lines) + "\n"


def script_of(*parts: str | list[Block]) -> str:
    """Blocks, and what is between them, each announced before it runs."""
    texts = [HELPERS]
    for part in parts:
        for one in [part] if isinstance(part, str) else part:
            text = one if isinstance(one, str) else typed(one)
            texts.append(f"echo '== '{shlex.quote(text.strip().splitlines()[0])}\n{text}")
    return "set -e\n" + "\n".join(texts) + "\necho ALL-DONE\n"


def run(*parts: str | list[Block]) -> str:
    done = alone(script_of(*parts))
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.endswith("ALL-DONE\n")
    return done.stdout


def test_every_block_is_executed_or_has_its_reason() -> None:
    found = list(blocks())
    for block in found:
        if block.language == "toml" or block.first == "[[identity]]":
            assert parse_identities(block.text, block.document).identities
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        else:
            assert block.language == "", f"{block.document}: {block.first}"
            executed = block.document in EXECUTED and reason(block) is None
            assert executed or reason(block), f"{block.document}: {block.first}"
    for document, first in NOT_EXECUTED:
        assert any(b.document == document and b.first.startswith(first) for b in found), first


def test_every_mount_that_is_shown_has_options_that_there_are() -> None:
    shown = 0
    for block in blocks():
        text = re.sub(r"\\\n\s*", "", block.text)
        for line in re.findall(r"^ *s3posixfs mount [^S].*$", text, re.M):
            words = shlex.split(line, comments=True)
            lists = [words[n + 1] for n, word in enumerate(words) if word == "-o"]
            # The file need not be on this host.
            lists = [re.sub(r"credentials_file=[^,]*,?", "", one).strip(",") for one in lists]
            parse_options(lists, {})
            shown += 1
        for line in re.findall(r"^\S+ +/srv/shared +\S*s3posixfs +(\S+) +0 0$", text, re.M):
            parse_options([re.sub(r"credentials_file=[^,]*,?", "", line).strip(",")], {})
            shown += 1
    assert shown >= 9


EXECUTED = {
    "README.md", "docs/CONFIGURATION.md", "docs/IAM.md", "docs/MONITORING.md", "docs/STORES.md",
    "docs/TROUBLESHOOTING.md", "packaging/man/s3posixfs.1", "packaging/man/s3posixfs-policy.5",
}  # fmt: skip


def test_the_readme_and_what_follows_it() -> None:
    """One host on which the documents are followed one after the other."""
    stores = (CHECKOUT / "docs" / "STORES.md").read_text()
    policy = re.findall(r"<!-- policy: read-write -->\n```json\n(.*?)```", stores, re.S)
    (own,) = (b.text for b in blocks() if b.document.endswith("policy.5") and b.first == "{")
    said = run(
        to_execute("README.md"),
        "shared; echo report > /srv/shared/report",
        # All but those that unmount.
        [block for block in to_execute("docs/TROUBLESHOOTING.md") if "umount" not in block.text],
        "unset ${!AWS_*}",
        to_execute("docs/MONITORING.md"),
        f"printf %s {shlex.quote(policy[0])} > policy.json",
        to_execute("docs/STORES.md")[1:],
        f"printf %s {shlex.quote(own)} > own-folder.json",
        to_execute("packaging/man/s3posixfs-policy.5"),
        "nobody",
        to_execute("docs/CONFIGURATION.md"),
        "nobody",
        to_execute("docs/IAM.md"),
        "test -d /srv/s3/team; unset ${!AWS_*}; rm /srv/shared/report",
    )
    assert "denied" in said.lower()  # bob's folder, to alice


def test_the_manual_and_the_ends() -> None:
    store, *_ = to_execute("docs/STORES.md")
    assert store.text == "s3posixfs serve --root /srv/objects &\n"
    umounts = [one for one in to_execute("docs/TROUBLESHOOTING.md") if "umount" in one.text]
    assert len(umounts) == 2
    run(
        to_execute("packaging/man/s3posixfs.1"),
        "s3posixfs mount / /srv/s3 -o endpoint_url=http://127.0.0.1:9000,profile=admin "
        "-o credentials_file=/var/lib/s3posixfs/admin-credentials",
        "shared",
        umounts,
    )
