"""``scripts/install`` on a host of its own: mount(8) and umount(8), an upgrade, and its end.

The host has an older version at first, and a mount of it that owes data when the newer one comes.
The commands are those of docs/INSTALL.md, which a person would type.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cuttable_proxy import CuttableProxy
from tests.store_process import StoreProcess
from tests.system.private_host import CHECKOUT, PrivateHost

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(600)]

NEWER = "/root/newer"  # a copy of this checkout, which stays as it is whoever edits this one
INSTALL = f"{NEWER}/scripts/install"
KEYS = "/etc/s3posixfs/credentials"
SECONDS = 400.0  # for an installation on a busy machine
# What an installation leaves, and what the system changes by itself.
DATA = ("/etc/s3posixfs", "/var/lib/s3posixfs", "/var/cache/s3posixfs", "/root", "/srv")
BESIDE = (
    "/etc/fstab",
    "/etc/mtab.fuselock",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/cache",
    "/var/log",
)
# A program that has files open while the store goes and the other version comes.
WRITER = """
cd /srv/m; mkdir d
exec 3>late 4>large 5>d/f 6>after; echo open
read line; echo late >&3; cat /root/random >&4; echo x >&5; exec 3>&- 4>&- 5>&-; echo written
read line; echo after >&6; exec 6>&-
"""


@dataclass
class Site:
    """A host with s3posixfs, and a store beside it."""

    host: PrivateHost
    store: StoreProcess
    said: dict[str, str] = field(default_factory=dict)  # by what was done

    def options(self, *more: str, endpoint: str = "") -> str:
        """As after ``-o``."""
        url = endpoint or self.store.endpoint
        first = f"endpoint_url={url},profile=shared,credentials_file={KEYS}"
        return ",".join([first, *more])

    def mount(self, *more: str, endpoint: str = "", kind: str = "s3posixfs") -> str:
        """mount(8) of the bucket at /srv/m; what it printed."""
        text = self.options(*more, endpoint=endpoint)
        done = self.host.run("mount", "-t", kind, "shared", "/srv/m", "-o", text)
        return done.stdout + done.stderr

    def refused(self, *more: str, status: int, source: str = "shared", endpoint: str = "") -> str:
        """What a mount that must fail says: one line, or mount(8)'s own after it."""
        text = self.options(*more, endpoint=endpoint)
        words = ("mount", "-t", "s3posixfs", source, "/srv/m", "-o", text)
        done = self.host.run(*words, status=status)
        self.host.run("mountpoint", "-q", "/srv/m", status=32)
        assert "Traceback" not in done.stderr
        return done.stderr

    def umount(self) -> str:
        done = self.host.run("umount", "/srv/m", seconds=120)
        return done.stdout + done.stderr

    def flags(self) -> set[str]:
        """The mount's flags, as the kernel has them."""
        return set(self.host.sh("findmnt -no VFS-OPTIONS /srv/m").strip().split(","))

    def objects(self) -> dict[str, str]:
        """SHA-256 of every object, by key: what another client finds."""
        client = self.store.s3(self.store.admin())
        found = {}
        for row in client.list_objects_v2(Bucket="shared").get("Contents", []):
            with client.get_object(Bucket="shared", Key=row["Key"])["Body"] as body:
                found[row["Key"]] = hashlib.sha256(body.read()).hexdigest()
        client.close()
        return found


def documented() -> dict[tuple[str, int], str]:
    """The blocks of commands of docs/INSTALL.md, by their section and their number there."""
    found = {}
    for section in (CHECKOUT / "docs" / "INSTALL.md").read_text().split("\n## ")[1:]:
        blocks = re.findall(r"^```.*\n((?:.*\n)*?)```$", section, re.MULTILINE)
        for number, block in enumerate(blocks, 1):
            found[section.splitlines()[0], number] = block
    return found


def make_checkouts(host: PrivateHost) -> None:
    """This version in /root/newer, and as 0.0.9 in /root/older the first that can be installed.

    Where the history is not at hand that is this version as well, under the other number.
    """
    git = ("git", "-C", str(CHECKOUT), "-c", f"safe.directory={CHECKOUT}")
    needed = ("scripts/install", "s3posixfs/metrics/address.py")  # which came after it
    commits = subprocess.run(
        [*git, "log", "--diff-filter=A", "--format=%H", "--", *needed],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    newer = ["tar", "-C", str(CHECKOUT), "-c"]
    older = [*git, "archive", commits[0]] if commits else newer
    names = ["pyproject.toml", "constraints.txt", "README.md", "LICENSE"]
    names += ["s3posixfs", "scripts", "packaging"]
    for target, pack in {NEWER: newer, "/root/older": older}.items():
        host.run("mkdir", "-p", target)
        with subprocess.Popen([*pack, *names], stdout=subprocess.PIPE) as packing:
            unpack = host.enter("tar", "-x", "-C", target)
            subprocess.run(unpack, stdin=packing.stdout, check=True, timeout=60)
    host.sh('cd /root/older; sed -i \'s/"0.1.0"/"0.0.9"/\' pyproject.toml s3posixfs/__init__.py')


@pytest.fixture(scope="module")
def site(module_folder: Path) -> Iterator[Site]:
    """The older version is installed, and a mount of it owes what the store could not take; then
    this version is."""
    with StoreProcess(module_folder / "store") as store, PrivateHost() as host:
        admin = store.admin()
        client = store.s3(admin)
        client.create_bucket(Bucket="shared")
        client.close()
        site = Site(host, store)
        make_checkouts(host)
        site.said["older"] = host.sh("/root/older/scripts/install", seconds=SECONDS)
        # As docs/INSTALL.md has it, by a file: a secret is on no command line.
        keys = f"[shared]\naws_access_key_id = {admin.access_key}\n"
        keys += f"aws_secret_access_key = {admin.secret_key}\n"
        host.write(KEYS, host.sh(f"cat {KEYS}") + keys, mode=0o600)
        host.sh("mkdir -p /srv/m /srv/shared; head -c 3000000 /dev/urandom >/root/random")
        site.mount("_netdev,writeback=on,drain_timeout=1")
        with host.popen("/bin/bash", "-euc", WRITER) as writer:
            assert writer.stdin is not None
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            store.kill()
            writer.stdin.write("write\n")
            writer.stdin.flush()
            assert writer.stdout.readline() == "written\n"
            site.said["newer"] = host.sh(INSTALL, seconds=SECONDS)
            writer.communicate("write again\n", timeout=60)
        assert writer.returncode == 0
        site.said["status"] = host.sh("s3posixfs status /srv/m")
        site.said["uninstall"] = host.run(INSTALL, "--uninstall", status=1).stderr
        site.said["umount"] = site.umount()
        site.said["down"] = site.refused(status=32)
        store.start()
        yield site


def test_an_upgrade_takes_over_what_is_staged(site: Site) -> None:
    assert "installed s3posixfs 0.0.9" in site.said["older"]
    newer = site.said["newer"]
    assert "installed s3posixfs 0.1.0" in newer
    assert re.search(r"switched from 0\.0\.9-\w+ to 0\.1\.0-\w+", newer)
    # The mount that was there is named, has its environment still, and works.
    assert re.search(r"kept for what still runs from it: .*/versions/0\.0\.9", newer)
    assert re.search(r"process \d+: mount shared /srv/m", newer)
    assert "shared" in site.said["status"]
    assert re.search(r"4 files .* kept in /var/cache/s3posixfs/\S+", site.said["umount"])
    site.mount("writeback=on")
    assert site.umount() == ""
    found = site.objects()
    random = site.host.sh("sha256sum /root/random").split()[0]
    assert found["large"] == random
    for name, content in {"late": b"late\n", "d/f": b"x\n", "after": b"after\n"}.items():
        assert found[name] == hashlib.sha256(content).hexdigest()
    # Nothing runs from the older one any more.
    again = site.host.sh(INSTALL, seconds=SECONDS)
    assert "is there already" in again
    assert "removed the environment 0.0.9" in again
    assert "sample" not in again
    assert site.host.sh("ls /opt/s3posixfs/versions").startswith("0.1.0-")


def test_what_runs_is_named_and_goes_on_when_it_is_to_be_uninstalled(site: Site) -> None:
    assert re.search(r"process \d+: mount shared /srv/m", site.said["uninstall"])
    assert "nothing was removed" in site.said["uninstall"]


def test_what_was_installed_is_found(site: Site) -> None:
    host = site.host
    assert "0.1.0" in host.sh("s3posixfs --version")
    assert host.sh(f"stat -c %a {KEYS}") == "600\n"
    for page in ("s3posixfs", "mount.s3posixfs", "umount.s3posixfs", "s3posixfs-policy"):
        assert "s3posixfs" in host.sh(f"man -w {page} || ls /usr/local/share/man/man*/{page}.*.gz")
    # A shell completes the commands.
    done = host.sh(
        "source /usr/local/share/bash-completion/completions/s3posixfs;"
        "COMP_WORDS=(s3posixfs mo) COMP_CWORD=1; _s3posixfs_completion s3posixfs;"
        'echo "${COMPREPLY[@]}"'
    )
    assert done == "mount\n"


def test_mount_returns_when_it_can_be_used_and_umount_when_all_is_stored(site: Site) -> None:
    site.host.sh("mkdir -p /srv/m")
    for kind in ("s3posixfs", "fuse.s3posixfs"):
        assert site.mount("writeback=on", kind=kind) == ""
        site.host.sh("mkdir -p /srv/m/many; for i in $(seq 30); do echo $i >/srv/m/many/$i; done")
        assert site.umount() == ""
        found = site.objects()
        assert all(f"many/{number}" in found for number in range(1, 31))
        assert site.host.run("pgrep", "-f", "cli.daemon", status=None).stdout == ""
        site.mount()
        site.host.sh("rm -r /srv/m/many")
        site.umount()


def test_options_of_all_filesystems_and_remount(site: Site) -> None:
    host = site.host
    site.mount("ro,noexec,nodev,nosuid,noatime")
    assert {"ro", "noexec", "nodev", "nosuid", "noatime"} <= site.flags()
    assert "Read-only file system" in host.run("touch", "/srv/m/x", status=1).stderr
    refused = host.run("mount", "-o", "remount,rw", "/srv/m", status=32).stderr
    assert "was mounted with ro" in refused
    assert "mount it anew" in refused
    site.umount()
    site.mount()
    assert {"nosuid", "nodev"} <= site.flags()
    host.sh("mount -o remount,suid,dev /srv/m")
    assert not {"ro", "noexec", "nodev", "nosuid", "noatime"} & site.flags()
    host.sh("printf '#!/bin/sh\\necho ran\\n' >/srv/m/program; chmod 755 /srv/m/program")
    assert host.sh("/srv/m/program") == "ran\n"
    host.sh("mount -o remount,ro,noexec,nosuid,nodev,noatime /srv/m")
    assert {"ro", "noexec", "nodev", "nosuid", "noatime"} <= site.flags()
    assert host.run("/srv/m/program", status=None).returncode == 126
    host.sh("mount -o remount,rw,exec /srv/m; echo more >>/srv/m/program")
    assert not {"ro", "noexec"} & site.flags()
    # Files that are open for writing forbid it.
    with host.popen("/bin/sh", "-c", "exec >>/srv/m/program; read line") as holding:
        host.sh("until fuser -s /srv/m/program; do sleep 0.1; done")
        said = host.run("mount", "-o", "remount,ro", "/srv/m", status=32).stderr
        assert "is busy" in said
        assert "fuser -vm" in said
        busy = host.run("umount", "/srv/m", status=32).stderr
        assert "is busy" in busy
        assert "fuser -vm" in busy
        host.run("mountpoint", "-q", "/srv/m")
        holding.communicate("\n", timeout=30)
    host.sh("rm /srv/m/program")
    site.umount()


def test_what_a_remount_cannot_change_is_refused_by_name(site: Site) -> None:
    host = site.host
    line = site.options("trusted_owners=alice:bob", "metadata_ttl=2")
    host.write("/etc/fstab", f"shared /srv/m s3posixfs {line} 0 0\n")
    host.sh("mount /srv/m")

    def remount(options: str, status: int) -> str:
        return host.run("mount", "-o", f"remount,{options}", "/srv/m", status=status).stderr

    # mount(8) hands on what fstab has as well, which is as it was.
    assert remount("noatime", 0) == ""
    assert "noatime" in site.flags()
    said = remount("metadata_ttl=7,writeback,noexec", 32)
    assert "other values of metadata_ttl, writeback;" in said
    assert "unmount it and mount it anew" in said
    assert "unknown option 'colour'" in remount("colour=red,noexec", 32)
    host.sh("sed -i s/alice:bob/alice/ /etc/fstab")
    assert "other values of trusted_owners;" in remount("noexec", 32)
    assert "noexec" not in site.flags()
    site.umount()
    host.sh("rm /etc/fstab")


def test_what_is_refused_is_named(site: Site) -> None:
    assert "unknown option 'colour'" in site.refused("colour=red", status=1)
    said = site.refused("aws_secret_access_key=hunter2222", status=1)
    assert "aws_secret_access_key is a secret" in said
    assert "profile" in said
    assert "hunter2222" not in said
    assert "sync" in site.refused("sync,writeback=on", status=1)
    missing = site.refused(status=32, source="nosuchbucket")
    assert "nosuchbucket" in missing
    away = site.refused(status=32, endpoint="http://127.0.0.1:9")
    assert "127.0.0.1:9" in away
    assert "cannot reach" in site.said["down"]
    # mount -s leaves out what nobody knows, mount -f tries nothing.
    host = site.host
    options = site.options("colour=red")
    host.run("mount", "-f", "-t", "s3posixfs", "shared", "/srv/m", "-o", site.options())
    host.run("mountpoint", "-q", "/srv/m", status=32)
    host.run("mount", "-s", "-t", "s3posixfs", "shared", "/srv/m", "-o", options)
    site.umount()


def test_fstab(site: Site) -> None:
    host = site.host
    line = f"_netdev,nofail,x-systemd.automount,noatime,{site.options()}"
    host.write(
        "/etc/fstab", f"shared /srv/m s3posixfs {line} 0 0\n/ /srv/all s3posixfs {line} 0 0\n"
    )
    host.sh("mkdir -p /srv/all")
    assert "0 parse errors, 0 errors" in host.sh("findmnt --verify")
    assert host.sh("mount -a; mount -a; findmnt -no SOURCE,FSTYPE /srv/m").split() == [
        "shared",
        "fuse.s3posixfs",
    ]
    assert host.sh("ls /srv/all") == "shared\n"
    assert "noatime" in site.flags()
    host.sh("umount -a -t fuse.s3posixfs; ! mountpoint -q /srv/m; ! mountpoint -q /srv/all")
    host.sh("rm /etc/fstab; rmdir /srv/all")


def test_a_user_whom_fstab_lets_mount(site: Site) -> None:
    host = site.host
    host.sh("install -d -o games -g games /srv/own /srv/own/m /srv/own/cache")
    host.sh(f"install -m 600 -o games {KEYS} /srv/own/keys")
    options = site.options("noauto,user,cache_dir=/srv/own/cache").replace(KEYS, "/srv/own/keys")
    host.write("/etc/fstab", f"shared /srv/own/m s3posixfs {options} 0 0\n")
    host.sh("setpriv --reuid games --regid games --clear-groups -- mount /srv/own/m")
    found = host.sh("findmnt -no FSTYPE,VFS-OPTIONS /srv/own/m")
    assert "fuse.s3posixfs" in found
    assert {"nosuid", "nodev", "noexec"} <= set(found.split()[1].split(","))
    host.sh("setpriv --reuid games --regid games --clear-groups -- sh -c 'echo x >/srv/own/m/u'")
    said = host.run(
        *("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"),
        *("umount", "/srv/own/m"),
        status=None,
    )
    assert said.returncode != 0
    host.sh("setpriv --reuid games --regid games --clear-groups -- umount /srv/own/m")
    assert "u" in site.objects()
    host.sh("rm -r /etc/fstab /srv/own")


def test_umount_shows_a_person_what_it_waits_for(site: Site) -> None:
    with CuttableProxy(site.store.port) as proxy:
        site.mount("writeback=on", endpoint=proxy.url)
        opened = "exec 3>/srv/m/slow; echo open; read line; echo x >&3; exec 3>&-; echo closed"
        with site.host.popen("/bin/bash", "-euc", opened) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            proxy.hang()
            assert writer.communicate("write\n", timeout=60)[0] == "closed\n"
        # Only standard error is the terminal.
        shows = "umount /srv/m >/root/said"
        with site.host.popen("script", "-qec", shows, "/dev/null") as waiting:
            assert waiting.stdout is not None
            shown = ""
            while "bytes left" not in shown:
                read = waiting.stdout.read(1)
                assert read, shown
                shown += read
            # Still there. (To look at it would wait for the store.)
            site.host.sh("grep -q ' /srv/m ' /proc/self/mountinfo")
            proxy.mend()
            waiting.communicate(timeout=120)
        assert waiting.returncode == 0
        site.host.run("mountpoint", "-q", "/srv/m", status=32)
        assert site.host.sh("cat /root/said") == ""
    assert site.objects()["slow"] == hashlib.sha256(b"x\n").hexdigest()


def test_umount_refuses_while_data_cannot_be_stored(site: Site) -> None:
    """Without write-back what is not in S3 is nowhere else that a later mount would look."""
    with CuttableProxy(site.store.port) as proxy:
        site.mount(endpoint=proxy.url)
        opened = "import sys; file = open('/srv/m/unstored', 'wb', 0); file.write(b'kept\\n'); "
        opened += "print('written', flush=True); sys.stdin.readline(); file.close()"
        with site.host.popen("python3", "-c", opened) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "written\n"
            proxy.refuse()
            said = site.host.run("umount", "/srv/m", status=32, seconds=120)
            assert said.stdout == ""
            assert "not unmounted, data is still staged: cannot upload unstored;" in said.stderr
            assert "mend it and try again" in said.stderr
            assert "Traceback" not in said.stderr
            site.host.sh("grep -q ' /srv/m ' /proc/self/mountinfo")
            proxy.mend()
            writer.communicate("close\n", timeout=120)
        assert writer.returncode == 0
        assert site.umount() == ""
    assert site.objects()["unstored"] == hashlib.sha256(b"kept\n").hexdigest()


def test_umount_by_force_waits_for_nothing(site: Site) -> None:
    site.mount()
    with site.host.popen("/bin/sh", "-c", "cd /srv/m; echo there; read line") as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "there\n"
        site.host.run("umount", "/srv/m", status=32)
        site.host.run("umount", "-l", "/srv/m")
        site.host.run("mountpoint", "-q", "/srv/m", status=32)
        holding.communicate("\n", timeout=30)
    # The daemon ends when nobody uses it any more.
    site.host.sh("while pgrep -f [c]li.daemon; do sleep 0.1; done", seconds=60)


def test_the_commands_of_the_document(site: Site) -> None:
    blocks = documented()
    host, admin = site.host, site.store.admin()
    host.sh(f"rm -rf {KEYS} /srv/shared; {INSTALL} >/dev/null", seconds=SECONDS)
    keys = f"ACCESS_KEY={admin.access_key} SECRET_KEY={admin.secret_key}\n"

    def run(section: str, number: int, before: str = "") -> str:
        block = blocks.pop((section, number))
        block = block.replace("http://127.0.0.1:9000", site.store.endpoint)
        # No systemd runs here to start what is enabled; scripts/vm-test tries the units.
        block = block.replace("enable --now", "enable")
        return host.sh(f"cd {NEWER}\n{before}{block}", seconds=SECONDS)

    assert "installed s3posixfs" in run("From a checkout", 1)
    run("Mounting", 1, keys)
    line = blocks.pop(("Mounting", 2)).replace("http://127.0.0.1:9000", site.store.endpoint)
    host.write("/etc/fstab", line)
    assert "fuse.s3posixfs" in run("Mounting", 3)
    run("Mounting", 4)
    host.run("mountpoint", "-q", "/srv/shared", status=32)
    for number in (1, 2):
        assert "Created symlink" in run("Units of systemd", number, "export SYSTEMD_OFFLINE=1\n")
    host.sh("mount /srv/shared")
    run("Upgrading", 1)
    host.run("mountpoint", "-q", "/srv/shared")
    run("Removing", 1)
    assert "what stays" in run("Removing", 3)
    assert host.sh("find /etc/systemd -name 's3posixfs*'") == ""
    # The others are of the package.
    package = (CHECKOUT / "scripts" / "test-deb").read_text()
    for section, number in blocks.keys() - {("The Debian package", 1)}:
        heading = f"'{section}'" if " " in section else section
        assert f"documented {heading} {number}" in package


def test_nothing_stays_but_data_and_configuration(site: Site) -> None:
    host = site.host
    host.run(INSTALL, "--uninstall", status=None)

    def strange() -> set[str]:
        """What is there and not on this host; a folder counts as changed when files come and go."""
        return {path for path in host.changed(but=(*DATA, *BESIDE)) if not Path(path).is_dir()}

    for path in strange():  # the older version did not note which folders it made
        host.sh(f"rm -rf {path}")
    host.sh(INSTALL, seconds=SECONDS)
    assert "/opt/s3posixfs/current" in strange()
    host.write("/etc/s3posixfs/shared.conf", "SOURCE=shared\n")
    assert "what stays: /etc/s3posixfs" in host.sh(f"{INSTALL} --uninstall")
    assert strange() == set()
    host.run("s3posixfs", "--version", status=127)
    assert "nothing is installed" in host.run(INSTALL, "--uninstall", status=1).stderr
    assert "aws_access_key_id" in host.sh(f"cat {KEYS} /etc/s3posixfs/shared.conf")
