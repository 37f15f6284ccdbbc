"""What is always the same of a bucket: owners enforced, no ACLs, one version of each object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from s3posixfs.store.policy_status import is_public
from tests.store.conftest import Refusal
from tests.store.test_policies import DENIED, allow, policy, somebody
from tests.store_process import StoreProcess

BUCKET = {"Bucket": "photos"}
NO_ACLS = ("AccessControlListNotSupported", 400)


def test_acls(client: Any, refusal: Refusal) -> None:
    there = {**BUCKET, "Key": "owned"}
    client.put_object(**there, Body=b"x", ACL="bucket-owner-full-control")
    for grants in (client.get_bucket_acl(**BUCKET), client.get_object_acl(**there)):
        assert grants["Owner"]["ID"] == "alice"
        assert [(g["Grantee"]["ID"], g["Permission"]) for g in grants["Grants"]] == [
            ("alice", "FULL_CONTROL")
        ]
    assert refusal(client.put_bucket_acl, **BUCKET, ACL="public-read") == NO_ACLS
    assert refusal(client.put_object_acl, **there, ACL="public-read") == NO_ACLS
    assert refusal(client.put_object, **there, Body=b"y", ACL="public-read") == NO_ACLS
    grant = refusal(client.put_object, **there, Body=b"y", GrantRead="id=somebody")
    assert grant == NO_ACLS
    # What is so already can be said again, as tools do that copy an object with its ACL.
    grants = {name: client.get_object_acl(**there)[name] for name in ("Owner", "Grants")}
    client.put_object_acl(**there, AccessControlPolicy=grants)
    client.put_bucket_acl(**BUCKET, AccessControlPolicy=grants)
    client.put_object_acl(**there, ACL="bucket-owner-full-control")
    (own,) = grants["Grants"]
    bob = {"Grantee": {**own["Grantee"], "ID": "bob"}, "Permission": "READ"}
    everybody = {
        "Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"},
        "Permission": "FULL_CONTROL",
    }
    for other in ([own, bob], [{**own, "Permission": "READ"}], [everybody], [own, everybody], []):
        wider = {**grants, "Grants": other}
        assert refusal(client.put_object_acl, **there, AccessControlPolicy=wider) == NO_ACLS
        assert refusal(client.put_bucket_acl, **BUCKET, AccessControlPolicy=wider) == NO_ACLS
    absent = {**BUCKET, "Key": "absent"}
    assert refusal(client.put_object_acl, **absent, ACL="private") == ("NoSuchKey", 404)
    assert client.get_object(**there)["Body"].read() == b"x"


def test_ownership(client: Any, refusal: Refusal) -> None:
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert client.get_bucket_ownership_controls(**BUCKET)["OwnershipControls"] == enforced
    client.put_bucket_ownership_controls(**BUCKET, OwnershipControls=enforced)
    for other in ("ObjectWriter", "BucketOwnerPreferred"):
        controls = {"Rules": [{"ObjectOwnership": other}]}
        answer = refusal(client.put_bucket_ownership_controls, **BUCKET, OwnershipControls=controls)
        assert answer == ("NotImplemented", 501)
        made = refusal(client.create_bucket, Bucket="owned-otherwise", ObjectOwnership=other)
        assert made == ("NotImplemented", 501)
    client.create_bucket(Bucket="owned", ObjectOwnership="BucketOwnerEnforced")
    client.delete_bucket(Bucket="owned")


def test_what_was_never_set(client: Any, refusal: Refusal) -> None:
    for method, code in (
        (client.get_public_access_block, "NoSuchPublicAccessBlockConfiguration"),
        (client.get_bucket_policy_status, "NoSuchBucketPolicy"),
        (client.get_bucket_website, "NoSuchWebsiteConfiguration"),
        (client.get_bucket_replication, "ReplicationConfigurationNotFoundError"),
        (client.get_bucket_encryption, "ServerSideEncryptionConfigurationNotFoundError"),
        (client.get_object_lock_configuration, "ObjectLockConfigurationNotFoundError"),
    ):
        assert refusal(method, **BUCKET) == (code, 404)
        assert refusal(method, Bucket="no-such-bucket") == ("NoSuchBucket", 404)


PUBLIC = allow("s3:GetObject", resource="arn:aws:s3:::photos/*", Principal="*")
ADDRESS = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}


@pytest.mark.parametrize(
    ("statement", "public"),
    [
        (PUBLIC, True),
        ({**PUBLIC, "Principal": {"AWS": "*"}}, True),
        ({**PUBLIC, "Principal": {"AWS": ["arn:aws:iam:::user/bob", "*"]}}, True),
        ({**PUBLIC, "Principal": {"AWS": "arn:aws:iam:::user/bob"}}, False),
        ({**PUBLIC, "Effect": "Deny"}, False),
        ({**PUBLIC, "Condition": ADDRESS}, False),
        ({**PUBLIC, "Condition": {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}}, True),
        ({**PUBLIC, "Condition": {"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::/0"]}}}, True),
        ({**PUBLIC, "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}, False),
        ({**PUBLIC, "Condition": {"NotIpAddress": {"aws:SourceIp": "203.0.113.0/24"}}}, True),
        ({**PUBLIC, "Condition": {"StringEquals": {"aws:username": "bob"}}}, False),
        ({**PUBLIC, "Condition": {"StringLike": {"aws:username": "b*"}}}, True),
        ({**PUBLIC, "Condition": {"StringEqualsIfExists": {"aws:username": "bob"}}}, True),
        ({**PUBLIC, "Condition": {"StringEquals": {"aws:UserAgent": "mine"}}}, True),
        ({**PUBLIC, "Condition": {"Bool": {"aws:SecureTransport": "true"}}}, True),
    ],
)
def test_what_is_public(statement: dict[str, Any], public: bool) -> None:
    private = allow("s3:*", Principal={"AWS": "arn:aws:iam:::user/alice"})
    assert is_public(policy(private, statement)) is public


def test_policy_status(client: Any) -> None:
    try:
        for statement, public in ((PUBLIC, True), ({**PUBLIC, "Condition": ADDRESS}, False)):
            client.put_bucket_policy(**BUCKET, Policy=policy(statement))
            status = client.get_bucket_policy_status(**BUCKET)["PolicyStatus"]
            assert status == {"IsPublic": public}
    finally:
        client.delete_bucket_policy(**BUCKET)


def test_each_needs_its_action(running: StoreProcess, refusal: Refusal) -> None:
    there = {**BUCKET, "Key": "owned"}
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    enabled = {"VersioningConfiguration": {"Status": "Enabled"}}
    with somebody(running, "reader-only", policy(allow("s3:GetObject", "s3:ListBucket"))) as one:
        for method, arguments in (
            (one.get_bucket_acl, BUCKET),
            (one.put_bucket_acl, {**BUCKET, "ACL": "private"}),
            (one.get_object_acl, there),
            (one.put_object_acl, {**there, "ACL": "private"}),
            (one.get_bucket_ownership_controls, BUCKET),
            (one.put_bucket_ownership_controls, {**BUCKET, "OwnershipControls": enforced}),
            (one.get_bucket_policy_status, BUCKET),
            (one.get_public_access_block, BUCKET),
            (one.put_bucket_versioning, {**BUCKET, **enabled}),
            (one.get_bucket_versioning, BUCKET),
            (one.list_object_versions, BUCKET),
        ):
            assert refusal(method, **arguments) == DENIED


def test_there_is_no_versioning(client: Any, raw: Any, refusal: Refusal) -> None:
    assert "Status" not in client.get_bucket_versioning(**BUCKET)
    for status in ("Enabled", "Suspended"):
        wanted = {"VersioningConfiguration": {"Status": status}}
        answer = refusal(client.put_bucket_versioning, **BUCKET, **wanted)
        assert answer == ("NotImplemented", 501)
    answer = raw.head("PUT", "/photos", query="versioning=").removesuffix(b"\r\n")
    body = b"<VersioningConfiguration><Status>Perhaps</Status></VersioningConfiguration>"
    raw.send(answer + b"content-length: %d\r\n\r\n" % len(body) + body)
    assert raw.answer().code == "MalformedXML"
    assert "Status" not in client.get_bucket_versioning(**BUCKET)


def test_versions_are_listed(client: Any, refusal: Refusal) -> None:
    client.create_bucket(Bucket="versions")
    keys = ["a", "b/1", "b/2", "c d", "e"]
    for key in keys:
        client.put_object(Bucket="versions", Key=key, Body=b"12")
    answer = client.list_object_versions(Bucket="versions")
    assert [row["Key"] for row in answer["Versions"]] == keys
    first = answer["Versions"][0]
    assert (first["VersionId"], first["IsLatest"], first["Size"]) == ("null", True, 2)
    assert first["Owner"]["ID"] == "alice"
    assert "DeleteMarkers" not in answer
    assert answer["IsTruncated"] is False
    answer = client.list_object_versions(Bucket="versions", Delimiter="/")
    assert [row["Prefix"] for row in answer["CommonPrefixes"]] == ["b/"]
    assert [row["Key"] for row in answer["Versions"]] == ["a", "c d", "e"]
    pages = client.get_paginator("list_object_versions").paginate(
        Bucket="versions", PaginationConfig={"PageSize": 2}
    )
    assert [row["Key"] for page in pages for row in page.get("Versions", [])] == keys
    pages = client.get_paginator("list_object_versions").paginate(
        Bucket="versions", Delimiter="/", PaginationConfig={"PageSize": 1}
    )
    found = [
        row.get("Key", row.get("Prefix"))
        for page in pages
        for row in (*page.get("Versions", []), *page.get("CommonPrefixes", []))
    ]
    assert found == ["a", "b/", "c d", "e"]
    wrong = refusal(client.list_object_versions, Bucket="versions", VersionIdMarker="null")
    assert wrong == ("InvalidArgument", 400)
    # As tools empty a bucket: every version by its ID.
    objects = [{"Key": key, "VersionId": "null"} for key in keys]
    done = client.delete_objects(Bucket="versions", Delete={"Objects": objects})
    assert "Errors" not in done
    client.delete_bucket(Bucket="versions")


def test_the_policy_of_a_prefix_holds_for_versions(running: StoreProcess, refusal: Refusal) -> None:
    condition = {"StringEquals": {"s3:prefix": "b/"}}
    document = policy(allow("s3:ListBucketVersions", Condition=condition))
    assert json.loads(document)
    with somebody(running, "version-lister", document) as one:
        one.list_object_versions(**BUCKET, Prefix="b/")
        assert refusal(one.list_object_versions, **BUCKET) == DENIED
