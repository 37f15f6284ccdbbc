"""Who may do what: every S3 operation times every kind of caller, as a table.

``+`` is done, ``-`` is AccessDenied (403) and leaves no trace. The callers:

- none: a user without a policy
- ro, wo, rw: the predefined policies readonly, writeonly, readwrite
- inside: may do everything, but only below ``mine/``, and list only there
- outside: the same below another prefix
- deny: readwrite, with an explicit Deny of everything on this bucket and its objects
- narrow: a session of a readwrite user whose policy allows to get objects below ``mine/``
- wider: a session of a readonly user whose policy allows everything
- wrong: may do everything in another bucket, and there only
- anon: has not signed

All is asked of the bucket ``photos`` and the key ``mine/there`` in it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.signing import Signer
from s3posixfs.store.operations import OPERATIONS
from tests.store.conformance_kit import md5_of
from tests.store_process import REGION, StoreProcess, User

CALLERS = (
    "none", "ro", "wo", "rw", "inside", "outside", "deny", "narrow", "wider", "wrong", "anon",
)  # fmt: skip
#                                none         inside       deny  wider       anon
#                                 .  ro   wo   rw  .  outside .  narrow .  wrong .
TABLE = """
ListBuckets                       -   +   -   +   -   -   +   -   +   -   -
ListIdentities                    -   -   -   -   -   -   -   -   -   -   -
CreateBucket                      -   -   -   +   -   -   +   -   -   -   -
DeleteBucket                      -   -   -   +   -   -   +   -   -   -   -
HeadBucket                        -   +   -   +   -   -   -   -   +   -   -
ListObjects                       -   +   -   +   +   -   -   -   +   -   -
ListObjectsV2                     -   +   -   +   +   -   -   -   +   -   -
ListObjectsV2 of all              -   +   -   +   -   -   -   -   +   -   -
ListObjectVersions                -   -   -   +   -   -   -   -   -   -   -
DeleteObjects                     -   -   -   +   +   -   -   -   -   -   -
ListMultipartUploads              -   +   -   +   -   -   -   -   +   -   -
GetBucketLocation                 -   +   -   +   -   -   -   -   +   -   -
GetBucketPolicy                   -   +   -   +   -   -   -   -   +   -   -
PutBucketPolicy                   -   -   -   +   -   -   -   -   -   -   -
DeleteBucketPolicy                -   -   -   +   -   -   -   -   -   -   -
GetBucketTagging                  -   +   -   +   -   -   -   -   +   -   -
PutBucketTagging                  -   -   -   +   -   -   -   -   -   -   -
DeleteBucketTagging               -   -   -   +   -   -   -   -   -   -   -
GetBucketCors                     -   -   -   +   -   -   -   -   -   -   -
PutBucketCors                     -   -   -   +   -   -   -   -   -   -   -
DeleteBucketCors                  -   -   -   +   -   -   -   -   -   -   -
GetBucketLifecycleConfiguration   -   -   -   +   -   -   -   -   -   -   -
PutBucketLifecycleConfiguration   -   -   -   +   -   -   -   -   -   -   -
DeleteBucketLifecycle             -   -   -   +   -   -   -   -   -   -   -
GetBucketPolicyStatus             -   -   -   +   -   -   -   -   -   -   -
GetBucketVersioning               -   -   -   +   -   -   -   -   -   -   -
GetBucketAcl                      -   -   -   +   -   -   -   -   -   -   -
GetBucketLogging                  -   -   -   +   -   -   -   -   -   -   -
GetBucketNotificationConfiguration - -   -   +   -   -   -   -   -   -   -
GetBucketAccelerateConfiguration  -   -   -   +   -   -   -   -   -   -   -
GetBucketRequestPayment           -   -   -   +   -   -   -   -   -   -   -
GetBucketEncryption               -   -   -   +   -   -   -   -   -   -   -
GetObjectLockConfiguration        -   -   -   +   -   -   -   -   -   -   -
GetBucketReplication              -   -   -   +   -   -   -   -   -   -   -
GetBucketWebsite                  -   -   -   +   -   -   -   -   -   -   -
GetPublicAccessBlock              -   -   -   +   -   -   -   -   -   -   -
PutPublicAccessBlock              -   -   -   +   -   -   -   -   -   -   -
DeletePublicAccessBlock           -   -   -   +   -   -   -   -   -   -   -
GetBucketOwnershipControls        -   -   -   +   -   -   -   -   -   -   -
PutBucketOwnershipControls        -   -   -   +   -   -   -   -   -   -   -
PutBucketAcl                      -   -   -   +   -   -   -   -   -   -   -
PutBucketVersioning               -   -   -   +   -   -   -   -   -   -   -
GetObject                         -   +   -   +   +   -   -   +   +   -   -
HeadObject                        -   +   -   +   +   -   -   +   +   -   -
GetObjectAttributes               -   -   -   +   +   -   -   -   -   -   -
GetObjectAcl                      -   -   -   +   +   -   -   -   -   -   -
PutObjectAcl                      -   -   -   +   +   -   -   -   -   -   -
GetObjectTagging                  -   -   -   +   +   -   -   -   -   -   -
PutObjectTagging                  -   -   -   +   +   -   -   -   -   -   -
DeleteObjectTagging               -   -   -   +   +   -   -   -   -   -   -
PutObject                         -   -   +   +   +   -   -   -   -   -   -
PutObject with tags               -   -   -   +   +   -   -   -   -   -   -
CopyObject                        -   -   -   +   +   -   -   -   -   -   -
CopyObject from elsewhere         -   -   -   +   -   -   -   -   -   -   -
CopyObject to elsewhere           -   -   -   +   -   -   -   -   -   -   -
RenameObject                      -   -   -   +   +   -   -   -   -   -   -
RenameObject from elsewhere       -   -   -   +   -   -   -   -   -   -   -
RenameFolder                      -   -   -   +   +   -   -   -   -   -   -
RenameFolder from elsewhere       -   -   -   +   -   -   -   -   -   -   -
RenameFolder to elsewhere         -   -   -   +   -   -   -   -   -   -   -
DeleteObject                      -   -   -   +   +   -   -   -   -   -   -
CreateMultipartUpload             -   -   +   +   +   -   -   -   -   -   -
UploadPart                        -   -   +   +   +   -   -   -   -   -   -
UploadPartCopy                    -   -   -   +   +   -   -   -   -   -   -
UploadPartCopy from elsewhere     -   -   -   +   -   -   -   -   -   -   -
ListParts                         -   +   -   +   +   -   -   -   +   -   -
CompleteMultipartUpload           -   -   +   +   +   -   -   -   -   -   -
AbortMultipartUpload              -   -   -   +   +   -   -   -   -   -   -
"""


@dataclass(frozen=True, slots=True)
class Call:
    """How an operation is asked for; ``{upload}`` in the query is a started upload.

    ``nothing`` is the code of "allowed, but there is none", or none can be made here.
    """

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    nothing: str = ""


def copied(source: str) -> tuple[tuple[str, str], ...]:
    return (("x-amz-copy-source", source),)


def renamed(source: str) -> tuple[tuple[str, str], ...]:
    return (("x-amz-rename-source", source),)


FOLDER = "s3posixfs-rename-folder="
THERE = "/photos/mine/there"
PARTS = "/photos/mine/parts"
MINE, ELSEWHERE = "/photos/mine/source", "/photos/elsewhere/source"
UNBLOCKED = b"<PublicAccessBlockConfiguration/>"
TAGS = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
BUCKET_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Deny",
            "Principal": {"AWS": "arn:aws:iam:::user/nobody"},
            "Action": "s3:GetObject",
            "Resource": "arn:aws:s3:::photos/*",
        },
    }
).encode()
COMPLETE = (
    b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"
    + hashlib.md5(b"part", usedforsecurity=False).hexdigest().encode()
    + b"</ETag></Part></CompleteMultipartUpload>"
)
CORS = (
    b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod>"
    b"<AllowedOrigin>http://a</AllowedOrigin></CORSRule></CORSConfiguration>"
)
LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><ID>a</ID><Filter><Prefix>none/</Prefix></Filter>"
    b"<Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>"
    b"</LifecycleConfiguration>"
)
PRIVATE = (("x-amz-acl", "private"),)
ENFORCED = (
    b"<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"
    b"</OwnershipControls>"
)
SUSPENDED = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
CALLS: Mapping[str, Call] = {
    "ListBuckets": Call("GET", "/"),
    "ListIdentities": Call("GET", "/", "s3posixfs-identities="),
    "CreateBucket": Call("PUT", "/made"),
    "DeleteBucket": Call("DELETE", "/unmade"),
    "HeadBucket": Call("HEAD", "/photos"),
    "ListObjects": Call("GET", "/photos", "prefix=mine%2F"),
    "ListObjectsV2": Call("GET", "/photos", "list-type=2&prefix=mine%2F"),
    "ListObjectsV2 of all": Call("GET", "/photos", "list-type=2"),
    "ListObjectVersions": Call("GET", "/photos", "versions=&prefix=mine%2F"),
    "DeleteObjects": Call(
        "POST", "/photos", "delete=", b"<Delete><Object><Key>mine/there</Key></Object></Delete>"
    ),
    "ListMultipartUploads": Call("GET", "/photos", "uploads="),
    "GetBucketLocation": Call("GET", "/photos", "location="),
    "GetBucketPolicy": Call("GET", "/photos", "policy=", nothing="NoSuchBucketPolicy"),
    "PutBucketPolicy": Call("PUT", "/photos", "policy=", BUCKET_POLICY),
    "DeleteBucketPolicy": Call("DELETE", "/photos", "policy="),
    "GetBucketTagging": Call("GET", "/photos", "tagging=", nothing="NoSuchTagSet"),
    "PutBucketTagging": Call("PUT", "/photos", "tagging=", TAGS),
    "DeleteBucketTagging": Call("DELETE", "/photos", "tagging="),
    "GetBucketCors": Call("GET", "/photos", "cors=", nothing="NoSuchCORSConfiguration"),
    "PutBucketCors": Call("PUT", "/photos", "cors=", CORS),
    "DeleteBucketCors": Call("DELETE", "/photos", "cors="),
    "GetBucketLifecycleConfiguration": Call(
        "GET", "/photos", "lifecycle=", nothing="NoSuchLifecycleConfiguration"
    ),
    "PutBucketLifecycleConfiguration": Call("PUT", "/photos", "lifecycle=", LIFECYCLE),
    "DeleteBucketLifecycle": Call("DELETE", "/photos", "lifecycle="),
    "GetBucketPolicyStatus": Call("GET", "/photos", "policyStatus=", nothing="NoSuchBucketPolicy"),
    "GetBucketVersioning": Call("GET", "/photos", "versioning="),
    "GetBucketAcl": Call("GET", "/photos", "acl="),
    "GetBucketLogging": Call("GET", "/photos", "logging="),
    "GetBucketNotificationConfiguration": Call("GET", "/photos", "notification="),
    "GetBucketAccelerateConfiguration": Call("GET", "/photos", "accelerate="),
    "GetBucketRequestPayment": Call("GET", "/photos", "requestPayment="),
    "GetBucketEncryption": Call(
        "GET",
        "/photos",
        "encryption=",
        nothing="ServerSideEncryptionConfigurationNotFoundError",
    ),
    "GetObjectLockConfiguration": Call(
        "GET", "/photos", "object-lock=", nothing="ObjectLockConfigurationNotFoundError"
    ),
    "GetBucketReplication": Call(
        "GET", "/photos", "replication=", nothing="ReplicationConfigurationNotFoundError"
    ),
    "GetBucketWebsite": Call("GET", "/photos", "website=", nothing="NoSuchWebsiteConfiguration"),
    "GetPublicAccessBlock": Call(
        "GET", "/photos", "publicAccessBlock=", nothing="NoSuchPublicAccessBlockConfiguration"
    ),
    "PutPublicAccessBlock": Call("PUT", "/photos", "publicAccessBlock=", UNBLOCKED),
    "DeletePublicAccessBlock": Call("DELETE", "/photos", "publicAccessBlock="),
    "GetBucketOwnershipControls": Call(
        "GET", "/photos", "ownershipControls=", nothing="OwnershipControlsNotFoundError"
    ),
    "PutBucketOwnershipControls": Call("PUT", "/photos", "ownershipControls=", ENFORCED),
    "PutBucketAcl": Call(
        "PUT", "/photos", "acl=", headers=PRIVATE, nothing="AccessControlListNotSupported"
    ),
    "PutBucketVersioning": Call(
        "PUT", "/photos", "versioning=", SUSPENDED, nothing="NotImplemented"
    ),
    "GetObject": Call("GET", THERE),
    "HeadObject": Call("HEAD", THERE),
    "GetObjectAttributes": Call(
        "GET", THERE, "attributes=", headers=(("x-amz-object-attributes", "ETag"),)
    ),
    "GetObjectAcl": Call("GET", THERE, "acl="),
    "PutObjectAcl": Call(
        "PUT", THERE, "acl=", headers=PRIVATE, nothing="AccessControlListNotSupported"
    ),
    "GetObjectTagging": Call("GET", THERE, "tagging="),
    "PutObjectTagging": Call("PUT", THERE, "tagging=", TAGS),
    "DeleteObjectTagging": Call("DELETE", THERE, "tagging="),
    "PutObject": Call("PUT", THERE, body=b"changed"),
    "PutObject with tags": Call("PUT", THERE, body=b"c", headers=(("x-amz-tagging", "a=b"),)),
    "CopyObject": Call("PUT", THERE, headers=copied(MINE)),
    "CopyObject from elsewhere": Call("PUT", THERE, headers=copied(ELSEWHERE)),
    "CopyObject to elsewhere": Call("PUT", "/photos/elsewhere/target", headers=copied(MINE)),
    "RenameObject": Call("PUT", THERE, "renameObject=", headers=renamed("mine/source")),
    "RenameObject from elsewhere": Call(
        "PUT", THERE, "renameObject=", headers=renamed("elsewhere/source")
    ),
    "RenameFolder": Call("PUT", "/photos/mine/new/", FOLDER, headers=renamed("mine/folder/")),
    "RenameFolder from elsewhere": Call(
        "PUT", "/photos/mine/new/", FOLDER, headers=renamed("elsewhere/folder/")
    ),
    "RenameFolder to elsewhere": Call(
        "PUT", "/photos/elsewhere/new/", FOLDER, headers=renamed("mine/folder/")
    ),
    "DeleteObject": Call("DELETE", THERE),
    "CreateMultipartUpload": Call("POST", THERE, "uploads="),
    "UploadPart": Call("PUT", PARTS, "partNumber=1&uploadId={upload}", b"other part"),
    "UploadPartCopy": Call("PUT", PARTS, "partNumber=2&uploadId={upload}", headers=copied(MINE)),
    "UploadPartCopy from elsewhere": Call(
        "PUT", PARTS, "partNumber=2&uploadId={upload}", headers=copied(ELSEWHERE)
    ),
    "ListParts": Call("GET", PARTS, "uploadId={upload}"),
    "CompleteMultipartUpload": Call("POST", PARTS, "uploadId={upload}", COMPLETE),
    "AbortMultipartUpload": Call("DELETE", PARTS, "uploadId={upload}"),
}


def rows() -> dict[str, dict[str, bool]]:
    """What is expected, by call and caller."""
    found = {}
    for line in TABLE.strip().splitlines():
        cells = line.split()
        marks = cells[-len(CALLERS) :]
        assert set(marks) <= {"+", "-"}, line
        name = " ".join(cells[: -len(CALLERS)])
        found[name] = {c: mark == "+" for c, mark in zip(CALLERS, marks, strict=True)}
    return found


EXPECTED = rows()


def policy(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*resources: str, action: str = "s3:*", **more: Any) -> dict[str, Any]:
    names = [name if name == "*" else f"arn:aws:s3:::{name}" for name in resources]
    return {"Effect": "Allow", "Action": action, "Resource": names, **more}


def below(prefix: str) -> str:
    listed = {"StringLike": {"s3:prefix": f"{prefix}*"}}
    return policy(
        allow(f"photos/{prefix}*"), allow("photos", action="s3:ListBucket", Condition=listed)
    )


POLICIES = {
    "inside": below("mine/"),
    "outside": below("theirs/"),
    "deny": policy(allow("*"), {**allow("photos", "photos/*"), "Effect": "Deny"}),
    "wrong": policy(allow("other", "other/*")),
}
SESSIONS = {
    "narrow": ("rw", policy(allow("photos/mine/*", action="s3:GetObject"))),
    "wider": ("ro", policy(allow("*"))),
}


class World:
    """The store, everybody's credentials, and the bucket as each call finds it."""

    def __init__(self, store: StoreProcess) -> None:
        self.store = store
        self.host = f"127.0.0.1:{store.port}"
        self.connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=20)
        self.admin = store.s3(store.admin())
        self.credentials: dict[str, Credentials | None] = {"anon": None}
        for name, attached in (("none", None), ("ro", "readonly"), ("wo", "writeonly")):
            self._add(store.add_user(f"user-{name}", 1001, policy=attached), name)
        self._add(store.add_user("user-rw", 1001, policy="readwrite"), "rw")
        for name, document in POLICIES.items():
            store.add_policy(f"only-{name}", document)
            self._add(store.add_user(f"user-{name}", 1001, policy=f"only-{name}"), name)
        for name, (parent, document) in SESSIONS.items():
            known = self.credentials[parent]
            assert known is not None
            sts = store.sts(User(parent, known.access_key, known.secret_key, 0, 0))
            answer = sts.assume_role(
                RoleArn="arn:aws:iam::000000000000:role/any",
                RoleSessionName=name,
                Policy=document,
            )["Credentials"]
            sts.close()
            self.credentials[name] = Credentials(
                answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"]
            )
        self.upload = ""
        self.restore()

    def _add(self, user: User, name: str) -> None:
        self.credentials[name] = Credentials(user.access_key, user.secret_key)

    def close(self) -> None:
        self.admin.close()
        self.connection.close()

    def restore(self) -> None:
        """Make everything as it was at first."""
        admin = self.admin
        present = {row["Name"] for row in admin.list_buckets()["Buckets"]}
        if "made" in present:
            admin.delete_bucket(Bucket="made")
        for name in {"photos", "unmade"} - present:
            admin.create_bucket(Bucket=name)
        for name in ("policy", "tagging", "cors", "lifecycle", "publicAccessBlock"):
            self.send(self._administrator, Call("DELETE", "/photos", f"{name}="))
        for key in ("mine/new/1", "elsewhere/new/1"):
            admin.delete_object(Bucket="photos", Key=key)
        for key in (
            "mine/there",
            "mine/source",
            "mine/folder/1",
            "elsewhere/source",
            "elsewhere/folder/1",
        ):
            admin.put_object(Bucket="photos", Key=key, Body=key.encode(), Tagging="old=tag")
        admin.delete_object(Bucket="photos", Key="elsewhere/target")
        admin.delete_object(Bucket="photos", Key="mine/parts")
        for row in admin.list_multipart_uploads(Bucket="photos").get("Uploads", []):
            admin.abort_multipart_upload(Bucket="photos", Key=row["Key"], UploadId=row["UploadId"])
        made = admin.create_multipart_upload(Bucket="photos", Key="mine/parts")
        self.upload = made["UploadId"]
        admin.upload_part(
            Bucket="photos", Key="mine/parts", UploadId=self.upload, PartNumber=1, Body=b"part"
        )

    @property
    def _administrator(self) -> Credentials:
        user = self.store.admin()
        return Credentials(user.access_key, user.secret_key)

    def send(self, caller: Credentials | None, call: Call) -> tuple[int, bytes]:
        """Status and body of the answer."""
        query = call.query.replace("{upload}", self.upload)
        headers = [("host", self.host), *call.headers]
        if call.body:
            headers.append(("content-md5", md5_of(call.body)))
        if caller is not None:
            digest = hashlib.sha256(call.body).hexdigest()
            headers += Signer(caller, REGION).sign(
                call.method, call.path, query, headers, digest, time.time()
            )
        target = f"{call.path}?{query}" if query else call.path
        self.connection.request(call.method, target, body=call.body, headers=dict(headers))
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def state(self) -> dict[str, str]:
        """Everything that a call could change, as it is on disk."""
        found = {}
        for path in sorted(self.store.root.rglob("*")):
            if "locks" in path.parts or "tmp" in path.parts:
                continue
            facts = path.lstat()
            content = path.read_bytes().hex()[:200] if path.is_file() else ""
            # A folder's time changes when a temporary file passes through it.
            changed = facts.st_mtime_ns if path.is_file() else 0
            found[str(path)] = f"{facts.st_ino} {changed} {content}"
        return found


@pytest.fixture(scope="module")
def world(module_folder: Path) -> Iterator[World]:
    with StoreProcess(module_folder / "store") as store:
        world = World(store)
        yield world
        world.close()
        assert store.stop() == 0
        assert "Traceback" not in (log := store.log.read_text()), log


@pytest.mark.parametrize("name", EXPECTED)
def test_matrix(world: World, name: str) -> None:
    if name.split(" ", maxsplit=1)[0] not in {operation.name for operation in OPERATIONS}:
        status, body = world.send(world.credentials["rw"], CALLS[name])
        assert (status, b"<Code>NotImplemented<" in body) == (501, True)
        return
    wrong = []
    before = world.state()
    for caller, expected in EXPECTED[name].items():
        status, body = world.send(world.credentials[caller], CALLS[name])
        match = re.search(rb"<Code>(.*?)</Code>", body)
        code = match[1].decode() if match else ""
        if expected:
            right = (status < 300 and not code) or (code != "" and code == CALLS[name].nothing)
            world.restore()
            before = world.state()
        else:
            # Of many keys each is refused by itself, in an answer that is none.
            refused = 200 if name == "DeleteObjects" and caller != "anon" else 403
            told = code == "AccessDenied" or CALLS[name].method == "HEAD"
            right = status == refused and told
            after = world.state()
            if after != before:
                changed = set(before.items()) ^ set(after.items())
                wrong.append(f"{caller}: refused, but something changed: {sorted(changed)}")
                before = after
        if not right:
            wrong.append(f"{caller}: expected {'+-'[not expected]}, got {status} {code}")
    assert not wrong, "\n".join([name, *wrong])


def test_every_operation_is_in_the_table() -> None:
    assert EXPECTED.keys() == CALLS.keys()
    built = {operation.name for operation in OPERATIONS}
    missing = built - {name.split(" ", maxsplit=1)[0] for name in EXPECTED} - NOT_BY_POLICY
    assert not missing, f"add a row to TABLE for {sorted(missing)}"


# What mends a bucket policy: none can keep the role admin from it.
REPAIRS = {"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"}


def test_a_bucket_policy_binds_the_administrator(world: World) -> None:
    user = world.store.admin()
    admin = Credentials(user.access_key, user.secret_key)
    denial = {**allow("photos", "photos/*"), "Effect": "Deny", "Principal": "*"}
    for name, call in CALLS.items():
        operation = name.split(" ", maxsplit=1)[0]
        if not call.path.startswith("/photos") or operation not in {o.name for o in OPERATIONS}:
            continue
        world.admin.put_bucket_policy(Bucket="photos", Policy=policy(denial))
        status, body = world.send(admin, call)
        world.admin.delete_bucket_policy(Bucket="photos")
        # What is done key by key says so of each key.
        refused = status == 403 or b"<Code>AccessDenied</Code>" in body
        assert refused is (operation not in REPAIRS), (name, status, body)
        world.restore()


# Open to all, or authenticated by what is in their own body: tested where they are built.
NOT_BY_POLICY = {"Preflight", "PostObject"}


def test_the_administrator_may_do_all_of_it(world: World) -> None:
    user = world.store.admin()
    for name, call in CALLS.items():
        if name.split(" ", maxsplit=1)[0] not in {operation.name for operation in OPERATIONS}:
            continue
        status, body = world.send(Credentials(user.access_key, user.secret_key), call)
        done = status < 300 and b"<Code>" not in body
        assert done or (call.nothing and call.nothing.encode() in body), (name, status, body)
        world.restore()
