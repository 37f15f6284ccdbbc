"""Each policy in docs/STORES.md lets its way of mounting do all that it is for, and no action of it
is one too many: without it something breaks."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from s3posixfs.identity.map import parse_identities
from s3posixfs.identity.policy import parse_policy
from tests.mount.mount_process import MountProcess
from tests.store_process import StoreProcess, User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.mount, pytest.mark.slow, pytest.mark.timeout(300)]
DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "STORES.md").read_text()
BUCKET = "my-bucket"
# As AWS does it: copies, where the embedded store would rename in one request.
COPIES = "rename:no"
MIB = 1024 * 1024
PART = 5 * MIB

Step = Callable[["Trial"], bool]
Policy = dict[str, Any]


def blocks(kind: str) -> dict[str, str]:
    """The JSON blocks under a comment of this kind, by the name that it gives."""
    found = re.findall(rf"<!-- {kind}:? ?([\w-]*) -->\n```json\n(.*?)```", DOCUMENT, re.DOTALL)
    return dict(found)


POLICIES: dict[str, Policy] = {name: json.loads(text) for name, text in blocks("policy").items()}


class Trial:
    """One mount, by one identity with one policy, which may change while it is mounted."""

    def __init__(self, store: StoreProcess, folder: Path, user: User) -> None:
        self.store = store
        self.admin: S3Client = store.s3(store.admin())
        self.user = user
        self.folder = folder
        self.number = 0
        self.mount: MountProcess | None = None
        self.source = BUCKET
        self.options: dict[str, str | None] = {}
        self.said = ""  # by the last script

    def allow(self, policy: Policy) -> None:
        """The identity has this policy from now on."""
        path = self.folder / "policy.json"
        path.write_text(json.dumps(policy))
        name = f"of-{self.user.name}"
        self.store.command("policy", "add", name, str(path), "--replace")
        self.store.command("policy", "attach", name, self.user.name)

    def mounted(self) -> MountProcess:
        keys = self.folder / "keys"
        keys.write_text(
            f"[mounter]\naws_access_key_id = {self.user.access_key}\n"
            f"aws_secret_access_key = {self.user.secret_key}\n"
        )
        options = {
            "credentials_file": str(keys),
            "profile": "mounter",
            "identities": str(self.identities()),
            "sign_as": "daemon",
            "trusted_owners": self.user.name,
            "capabilities": COPIES,
            "metadata_ttl": "0",
            "access_ttl": "0",
            "part_size": str(PART),
        }
        return MountProcess(self.store, self.folder, self.source, {**options, **self.options})

    def identities(self) -> Path:
        path = self.folder / "identities.toml"
        if not path.exists():
            path.write_text("")
        return path

    def mounts(self) -> bool:
        """Whether a mount can be made at all."""
        again = self.mounted()
        again.mountpoint = self.folder / "again"
        again.options["cache_dir"] = str(self.folder / "again-cache")
        try:
            again.start()
        except AssertionError:
            return False
        again.free()
        return True

    @property
    def prefix(self) -> str:
        rest = self.source.partition("/")[2]
        return f"{rest}/" if rest else ""

    def put(self, *, tags: str = "") -> str:
        """A new file that the mount has never seen, put there by S3; its name."""
        self.number += 1
        name = f"given-{self.user.name}-{self.number}"
        key = f"{self.prefix}{name}"
        self.admin.put_object(Bucket=BUCKET, Key=key, Body=b"x")
        if tags:
            self.admin.put_object_tagging(
                Bucket=BUCKET, Key=key, Tagging={"TagSet": [{"Key": "colour", "Value": tags}]}
            )
        return name

    def fresh(self) -> str:
        """A name that there is not yet."""
        self.number += 1
        return f"made-{self.user.name}-{self.number}"

    def does(self, script: str, uid: int = 0) -> bool:
        """Whether a shell script succeeds in the mount's top folder, or that of the bucket."""
        assert self.mount is not None
        where = "" if self.source != "/" else f"cd {BUCKET}; "
        done = self.mount.run("/bin/sh", "-euxc", where + script, uid=uid)
        self.said = done.stderr
        return done.returncode == 0


def mounts(trial: Trial) -> bool:
    return trial.mounts()


def lists(trial: Trial) -> bool:
    name = trial.put()
    return trial.does(f"ls | grep -qx {name}")


def reads(trial: Trial) -> bool:
    return trial.does(f"cat {trial.put()} >/dev/null")


def writes(trial: Trial) -> bool:
    name = trial.fresh()
    return trial.does(
        f"mkdir {name}; echo x > {name}/a; echo y >> {name}/a; touch -d 2020-01-01 {name}/a"
    )


def writes_much(trial: Trial) -> bool:
    return trial.does(f"head -c 12000000 /dev/zero > {trial.fresh()}")


def changes_modes(trial: Trial) -> bool:
    return trial.does(f"chmod 600 {trial.put()}")


def removes(trial: Trial) -> bool:
    return trial.does(f"rm {trial.put()}")


def renames(trial: Trial) -> bool:
    name, other = trial.put(), trial.fresh()
    return trial.does(
        f"mv {name} {other}; mkdir {other}-d; mv {other} {other}-d; mv {other}-d {other}-e"
    )


def renames_tagged(trial: Trial) -> bool:
    return trial.does(f"mv {trial.put(tags='red')} {trial.fresh()}")


def tidies_up(trial: Trial) -> bool:
    """An upload that is begun and comes to nothing leaves no parts."""
    name = trial.fresh()
    assert trial.mount is not None
    top = trial.mount.mountpoint
    path = (top / BUCKET if trial.source == "/" else top) / name

    def uploads() -> int:
        return len(trial.admin.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []))

    with path.open("wb", buffering=0) as file:
        for _ in range(60):
            file.write(bytes(MIB))
            if uploads():
                break
        else:
            return False
        path.unlink()
    left = trial.admin.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    for upload in left:
        trial.admin.abort_multipart_upload(
            Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    return not left


def makes_buckets(trial: Trial) -> bool:
    assert trial.mount is not None
    trial.number += 1
    name = f"bucket-{trial.number}"
    return trial.mount.run("/bin/sh", "-euc", f"mkdir {name}; rmdir {name}").returncode == 0


READ: Sequence[Step] = (mounts, lists, reads)
WRITE: Sequence[Step] = (
    *READ, writes, writes_much, changes_modes, removes, renames, tidies_up,
)  # fmt: skip
MODES: dict[str, tuple[str, dict[str, str | None], Sequence[Step]]] = {
    "read-only": (BUCKET, {"ro": "on"}, READ),
    "read-write": (BUCKET, {}, (*WRITE, renames_tagged)),
    "one-folder": (f"{BUCKET}/home", {}, (*READ, writes, removes, renames, tidies_up)),
    "all-buckets": ("/", {}, (*READ, writes, removes, tidies_up, makes_buckets)),
}


# What does not work without an action.
BREAKS: dict[tuple[str, str], Step] = {
    ("", "s3:ListBucket"): mounts,
    ("all-buckets", "s3:ListBucket"): lists,
    ("", "s3:ListAllMyBuckets"): mounts,
    ("", "s3:CreateBucket"): makes_buckets,
    ("", "s3:DeleteBucket"): makes_buckets,
    ("", "s3:GetObject"): reads,
    ("", "s3:PutObject"): writes,
    ("", "s3:DeleteObject"): removes,
    ("", "s3:AbortMultipartUpload"): tidies_up,
    ("", "s3:GetObjectTagging"): renames_tagged,
    ("", "s3:PutObjectTagging"): renames_tagged,
}


def without(policy: Policy, statement: int, action: str) -> Policy:
    """The policy with one action less."""
    less = copy.deepcopy(policy)
    actions = less["Statement"][statement]["Action"]
    if isinstance(actions, str) or len(actions) == 1:
        del less["Statement"][statement]
    else:
        actions.remove(action)
    return less


def actions_of(policy: Policy) -> Iterator[tuple[int, str]]:
    for number, statement in enumerate(policy["Statement"]):
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            yield number, action


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store") as store:
        admin = store.s3(store.admin())
        admin.create_bucket(Bucket=BUCKET)
        admin.close()
        yield store


@pytest.fixture
def trial(
    store: StoreProcess, open_folder: Path, request: pytest.FixtureRequest
) -> Iterator[Trial]:
    name = re.sub(r"\W+", "-", request.node.name)
    trial = Trial(store, open_folder, store.add_user(name))
    yield trial
    trial.admin.close()


def test_every_policy_is_tried() -> None:
    assert POLICIES.keys() == {*MODES, "mount-for-users", "user"}
    for policy in POLICIES.values():
        parse_policy(json.dumps(policy))
    assert len(blocks("bucket policy")) == len(blocks("trust policy")) == 1
    assert DOCUMENT.count("```json") == len(POLICIES) + 2


@pytest.mark.parametrize("mode", MODES)
def test_the_policy_of_a_mode_is_what_it_takes(trial: Trial, mode: str) -> None:
    trial.source, trial.options, steps = MODES[mode]
    policy = POLICIES[mode]
    trial.allow(policy)
    with trial.mounted() as trial.mount:
        for step in steps:
            assert step(trial), f"{step.__name__}: {trial.said}"
        for number, action in actions_of(policy):
            trial.allow(without(policy, number, action))
            broken = BREAKS.get((mode, action)) or BREAKS["", action]
            assert not broken(trial), f"{mode} does without {action}"
        trial.allow(policy)


def test_a_listing_limited_to_the_folder_is_not_enough(trial: Trial) -> None:
    policy = copy.deepcopy(POLICIES["one-folder"])
    policy["Statement"][0]["Condition"] = {"StringLike": {"s3:prefix": "home/*"}}
    trial.source = f"{BUCKET}/home"
    trial.allow(policy)
    assert not trial.mounts()


def test_write_back_takes_the_same_policy(trial: Trial) -> None:
    trial.options = {"writeback": "on"}
    trial.allow(POLICIES["read-write"])
    with trial.mounted() as trial.mount:
        name = trial.fresh()
        assert trial.does(
            f"mkdir {name}; echo x > {name}/a; mv {name}/a {name}/b; chmod 600 {name}/b"
        )
        assert trial.does(f"head -c 12000000 /dev/zero > {name}/large; mv {name} {name}-2")
        trial.mount.wait_until_stored()
        trial.mount.umount()
    kept = trial.admin.get_object(Bucket=BUCKET, Key=f"{name}-2/b")
    assert kept["Body"].read() == b"x\n"


def test_users_are_become(trial: Trial) -> None:
    """The mount's policy and a user's, with the mount acting as alice."""
    store = trial.store
    alice = store.add_user("alice", 1001)
    trial.identities().write_text(
        '[[identity]]\nname = "alice"\nowner_ids = ["alice"]\nuid = 1001\ngid = 1001\n'
        'role_arn = "arn:aws:iam:::user/alice"\n'
    )
    trial.options = {"sign_as": "caller"}
    own, users = POLICIES["mount-for-users"], POLICIES["user"]
    trial.allow(own)
    mounter, trial.user = trial.user, alice
    trial.allow(users)
    given = trial.put()
    trial.admin.put_object(Bucket=BUCKET, Key="alice/", Body=b"")

    def works() -> dict[str, bool]:
        name = trial.fresh()
        return {
            "reads": trial.does(f"cat {trial.put()} >/dev/null; ls | grep -q {given}", 1001),
            "writes": trial.does(f"echo x > alice/{name}", 1001),
            "renames": trial.does(f"mv alice/{name} alice/{name}-2", 1001),
            "removes": trial.does(f"rm alice/{name}-2", 1001),
            "elsewhere": trial.does(f"echo x > {name}", 1001),
        }

    well = {"reads": True, "writes": True, "renames": True, "removes": True, "elsewhere": False}
    trial.user = mounter
    with trial.mounted() as trial.mount:
        assert works() == well
        trial.user = alice
        for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"):
            number = next(number for number, one in actions_of(users) if one == action)
            trial.allow(without(users, number, action))
            assert works() != well, action
        trial.allow(users)
        assert works() == well
    trial.user = mounter
    number = next(number for number, one in actions_of(own) if one == "sts:AssumeRole")
    trial.allow(without(own, number, "sts:AssumeRole"))
    with trial.mounted() as trial.mount:
        assert not works()["reads"]


def test_the_bucket_policy_lets_its_principals_in(trial: Trial) -> None:
    (text,) = blocks("bucket policy").values()
    for name in ("mount", "alice"):
        if trial.store.command("user", "show", name, check=False).returncode:
            trial.store.add_user(name, 1002)
    keys = trial.store.command("user", "keys", "mount", "--add", "--json").stdout
    made = json.loads(keys)
    client = trial.store.s3(User("mount", made["access_key"], made["secret_key"], 1002, 1002))
    key = trial.put()
    with pytest.raises(client.exceptions.ClientError):
        client.get_object(Bucket=BUCKET, Key=key)
    trial.admin.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(json.loads(text)))
    assert client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"
    trial.admin.delete_bucket_policy(Bucket=BUCKET)
    client.close()


def test_the_trust_policy_and_the_identity_go_together() -> None:
    (text,) = blocks("trust policy").values()
    (statement,) = json.loads(text)["Statement"]
    assert statement["Action"] == "sts:AssumeRole"
    account = statement["Principal"]["AWS"].split(":")[4]
    (toml,) = re.findall(r"```toml\n(.*?)```", DOCUMENT, re.DOTALL)
    (identity,) = parse_identities(toml, "STORES.md").identities
    assert identity.role_arn is not None
    assert identity.role_arn.startswith(f"arn:aws:iam::{account}:role/s3posixfs-")
    assert f"arn:aws:iam::{account}:role/s3posixfs-*" in DOCUMENT
    assert tomllib.loads(toml)["identity"][0]["role_arn"] == identity.role_arn


def test_policies_are_also_what_the_command_takes(trial: Trial, open_folder: Path) -> None:
    path = open_folder / "p.json"
    path.write_text(blocks("policy")["read-write"])
    name = trial.user.name
    for words in (
        ["policy", "add", "my-policy", str(path)],
        ["policy", "attach", "my-policy", name],
        ["policy", "explain", name, "s3:PutObject", "my-bucket/report"],
    ):
        done: subprocess.CompletedProcess[str] = trial.store.command(*words)
        assert done.returncode == 0
