"""What a bucket is told to do: integrity of such requests, tags, policies, public access, lists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.store.conformance_kit import Site, Wire, fields_of, named
from tests.store.conftest import Refusal

DELETE = b"<Delete><Object><Key>none</Key></Object></Delete>"
CORS = (
    b"<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod>"
    b"<AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>"
)
LIFECYCLE = (
    b"<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Prefix>x/</Prefix>"
    b"<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"
)
TAGGING = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
BLOCK = (
    b"<PublicAccessBlockConfiguration><BlockPublicPolicy>true</BlockPublicPolicy>"
    b"</PublicAccessBlockConfiguration>"
)


@pytest.mark.parametrize(
    ("method", "query", "body", "status"),
    [
        ("POST", "delete=", DELETE, 200),
        ("PUT", "cors=", CORS, 200),
        ("PUT", "lifecycle=", LIFECYCLE, 200),
        ("PUT", "tagging=", TAGGING, 204),
    ],
)
def test_a_digest_is_required(
    wire: Wire, method: str, query: str, body: bytes, status: int
) -> None:
    answer = wire.request(method, "/photos", query=query, body=body)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
    assert named(answer, "Message") == message
    assert wire.request(method, "/photos", query=query, body=body, md5=True).status == status
    wrong = ("x-amz-checksum-crc32", "AAAAAA==")
    answer = wire.request(method, "/photos", wrong, query=query, body=body)
    assert (answer.status, answer.code) == (400, "BadDigest")


def test_tags_of_an_object_need_no_digest(wire: Wire) -> None:
    assert wire.request("PUT", "/photos/tagged", body=b"x").status == 200
    assert wire.request("PUT", "/photos/tagged", query="tagging=", body=TAGGING).status == 200


# --- policies


def statement(**more: Any) -> dict[str, Any]:
    return {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::photos/*",
        **more,
    }


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "Policies must be valid JSON and the first byte must be '{'"),
        ("false", "Policies must be valid JSON and the first byte must be '{'"),
        ("", "Policies must be valid JSON and the first byte must be '{'"),
        (document(statement(Resource="arn:aws:s3:::other/*")), "Policy has invalid resource"),
        ("{}", ""),
        ('{"Version": "2012-10-17", "Statement": []}', ""),
        (document(statement(Effect="Perhaps")), ""),
        (document(statement(Action="s3:Nothing")), ""),
        (document(statement(Unknown="x")), ""),
        (document(statement(Condition={"StringSortOf": {"aws:username": "x"}})), ""),
        (json.dumps({"Version": "2020-01-01", "Statement": [statement()]}), ""),
    ],
)
def test_malformed_policies(wire: Wire, text: str, message: str) -> None:
    answer = wire.request("PUT", "/photos", query="policy=", body=text.encode())
    assert (answer.status, answer.code) == (400, "MalformedPolicy")
    assert named(answer, "Message").replace("&#39;", "'")
    if message:
        assert fields_of(answer)["Message"] == message
    assert wire.request("GET", "/photos", query="policy=").code == "NoSuchBucketPolicy"


def test_a_policy_comes_and_goes(wire: Wire, s3: Any, site: Site) -> None:
    text = document(statement(Sid="Everybody"))
    assert wire.request("PUT", "/photos", query="policy=", body=text.encode()).status == 204
    answer = wire.request("GET", "/photos", query="policy=")
    assert json.loads(answer.body) == json.loads(text)
    assert answer.headers["content-type"] == "application/json"
    assert s3.get_bucket_policy_status(Bucket="photos")["PolicyStatus"] == {"IsPublic": True}
    s3.put_object(Bucket="photos", Key="public", Body=b"seen")
    with site.wire() as anybody:
        assert anybody.request("GET", "/photos/public", signed=False).body == b"seen"
        override = "response-content-type=text%2Fx"
        answer = anybody.request("GET", "/photos/public", query=override, signed=False)
        assert (answer.status, answer.code) == (400, "InvalidRequest")
        assert anybody.request("GET", "/photos/none", signed=False).code == "AccessDenied"
    for _ in range(2):
        assert wire.request("DELETE", "/photos", query="policy=").status == 204
    with site.wire() as anybody:
        assert anybody.request("GET", "/photos/public", signed=False).status == 403


# --- public access


OPEN = {
    "BlockPublicAcls": False,
    "IgnorePublicAcls": False,
    "BlockPublicPolicy": False,
    "RestrictPublicBuckets": False,
}


def test_public_access_block_comes_and_goes(s3: Any, refusal: Refusal) -> None:
    there = {"Bucket": "photos"}
    absent = ("NoSuchPublicAccessBlockConfiguration", 404)
    assert refusal(s3.get_public_access_block, **there) == absent
    wanted = {**OPEN, "BlockPublicAcls": True, "RestrictPublicBuckets": True}
    s3.put_public_access_block(**there, PublicAccessBlockConfiguration=wanted)
    found = s3.get_public_access_block(**there)["PublicAccessBlockConfiguration"]
    assert found == wanted
    for _ in range(2):
        s3.delete_public_access_block(**there)
    assert refusal(s3.get_public_access_block, **there) == absent
    assert refusal(
        s3.put_public_access_block, Bucket="no-such-bucket", PublicAccessBlockConfiguration=OPEN
    ) == ("NoSuchBucket", 404)


def test_a_public_policy_is_blocked(s3: Any, refusal: Refusal) -> None:
    there = {"Bucket": "photos"}
    s3.put_public_access_block(
        **there, PublicAccessBlockConfiguration={**OPEN, "BlockPublicPolicy": True}
    )
    public = document(statement())
    assert refusal(s3.put_bucket_policy, **there, Policy=public) == ("AccessDenied", 403)
    bob = document(statement(Principal={"AWS": "arn:aws:iam:::user/bob"}))
    s3.put_bucket_policy(**there, Policy=bob)
    s3.delete_bucket_policy(**there)
    s3.delete_public_access_block(**there)
    s3.put_bucket_policy(**there, Policy=public)
    s3.delete_bucket_policy(**there)


def test_a_public_bucket_is_restricted(site: Site, s3: Any) -> None:
    there = {"Bucket": "photos"}
    s3.put_object(**there, Key="restricted", Body=b"x")
    s3.put_bucket_policy(**there, Policy=document(statement()))
    with site.wire(site.bob) as wire:
        assert wire.request("GET", "/photos/restricted", signed=False).status == 200
        s3.put_public_access_block(
            **there, PublicAccessBlockConfiguration={**OPEN, "RestrictPublicBuckets": True}
        )
        assert wire.request("GET", "/photos/restricted", signed=False).status == 403
        # Who is a user of the store is let in as before.
        assert wire.request("GET", "/photos/restricted").status == 200
        s3.delete_public_access_block(**there)
        assert wire.request("GET", "/photos/restricted", signed=False).status == 200
    s3.delete_bucket_policy(**there)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<PublicAccessBlockConfiguration><Else>true</Else></PublicAccessBlockConfiguration>",
        BLOCK.replace(b"true", b"maybe"),
        b"<Other/>",
    ],
)
def test_malformed_public_access_block(wire: Wire, body: bytes) -> None:
    answer = wire.request("PUT", "/photos", query="publicAccessBlock=", body=body, md5=True)
    assert (answer.status, answer.code) == (400, "MalformedXML")


# --- tags


@pytest.mark.parametrize(
    ("header", "code", "tags"),
    [
        ("&", "", {}),
        ("&&&", "", {}),
        ("key", "", {"key": ""}),
        ("key&", "", {"key": ""}),
        ("key=&", "", {"key": ""}),
        ("key1&key2", "", {"key1": "", "key2": ""}),
        ("key%2E=value%2F", "", {"key.": "value/"}),
        ("key++key=value++value", "", {"key  key": "value  value"}),
        ("key@=val@", "", {"key@": "val@"}),
        ("=", "InvalidArgument", {}),
        ("key%", "InvalidArgument", {}),
        ("key=%zz", "InvalidArgument", {}),
        ("key=1&key=2", "InvalidArgument", {}),
        ("key?=val", "InvalidTag", {}),
        ("key=val*", "InvalidTag", {}),
        ("aws:key=val", "InvalidTag", {}),
        ("&".join(f"k{n}=v" for n in range(11)), "BadRequest", {}),
        (f"{'k' * 128}={'v' * 256}", "", {"k" * 128: "v" * 256}),
        (f"{'k' * 129}=v", "InvalidTag", {}),
        (f"k={'v' * 257}", "InvalidTag", {}),
    ],
)
def test_tags_in_the_header(
    s3: Any, wire: Wire, header: str, code: str, tags: dict[str, str]
) -> None:
    answer = wire.request("PUT", "/photos/labelled", ("x-amz-tagging", header), body=b"x")
    assert (answer.status, answer.code) == ((400, code) if code else (200, ""))
    if not code:
        found = s3.get_object_tagging(Bucket="photos", Key="labelled")["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in found} == tags


@pytest.mark.parametrize(
    ("count", "key", "value", "code"),
    [
        (50, "k", "v", ""),
        (51, "k", "v", "BadRequest"),
        (1, "k" * 127, "v" * 256, ""),
        (1, "k" * 128, "v", "InvalidTag"),
        (1, "k", "v" * 257, "InvalidTag"),
        (1, "aws:", "v", "InvalidTag"),
        (1, "k?", "v", "InvalidTag"),
    ],
)
def test_tags_of_a_bucket(
    s3: Any, refusal: Refusal, count: int, key: str, value: str, code: str
) -> None:
    tags = {"TagSet": [{"Key": f"{key}{n}", "Value": value} for n in range(count)]}
    if code:
        assert refusal(s3.put_bucket_tagging, Bucket="photos", Tagging=tags) == (code, 400)
        return
    s3.put_bucket_tagging(Bucket="photos", Tagging=tags)
    assert len(s3.get_bucket_tagging(Bucket="photos")["TagSet"]) == count
    s3.delete_bucket_tagging(Bucket="photos")
    assert refusal(s3.get_bucket_tagging, Bucket="photos") == ("NoSuchTagSet", 404)


# --- lifecycle


def rule(inner: str, *, scope: str = "<Prefix>x/</Prefix>", status: str = "Enabled") -> str:
    return f"<Rule><ID>one</ID>{scope}<Status>{status}</Status>{inner}</Rule>"


DAYS = "<Expiration><Days>1</Days></Expiration>"


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (rule(DAYS), ""),
        (rule(DAYS, scope="<Filter><Prefix>x</Prefix></Filter>"), ""),
        (rule(DAYS, scope="<Filter/>"), ""),
        (rule("<Expiration><Date>2030-01-01T00:00:00.000Z</Date></Expiration>"), ""),
        (rule("<Expiration><Date>2030-01-01</Date></Expiration>"), ""),
        (
            rule(
                "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>"
                "</Expiration>"
            ),
            "",
        ),
        (
            rule(
                "<NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays>"
                "</NoncurrentVersionExpiration>"
            ),
            "",
        ),
        (
            rule(
                "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>"
                "</AbortIncompleteMultipartUpload>"
            ),
            "",
        ),
        (rule(DAYS.replace("1", "0")), "InvalidArgument"),
        (rule(DAYS.replace("1", "-1")), "InvalidArgument"),
        (rule("<Expiration><Date>2030-01-01T12:00:00.000Z</Date></Expiration>"), "InvalidArgument"),
        (rule("<Expiration><Date>20300101</Date></Expiration>"), "MalformedXML"),
        (rule(DAYS, status="enabled"), "MalformedXML"),
        (rule(DAYS, status="invalid"), "MalformedXML"),
        (rule(DAYS, scope="<Prefix>x</Prefix><Filter><Prefix>x</Prefix></Filter>"), "MalformedXML"),
        (rule(DAYS) + rule(DAYS), "InvalidArgument"),
        (rule(DAYS).replace("one", "i" * 256), "InvalidArgument"),
        (rule(""), "InvalidRequest"),
        ("", "MalformedXML"),
        (
            rule("<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"),
            "NotImplemented",
        ),
    ],
)
def test_lifecycle_rules(wire: Wire, rules: str, code: str) -> None:
    body = f"<LifecycleConfiguration>{rules}</LifecycleConfiguration>".encode()
    answer = wire.request("PUT", "/photos", query="lifecycle=", body=body, md5=True)
    assert answer.code == code
    assert answer.status == {"": 200, "NotImplemented": 501}.get(code, 400)
    assert wire.request("DELETE", "/photos", query="lifecycle=").status == 204


# --- lists of grants, which a bucket of enforced ownership has none of


@pytest.mark.parametrize(
    ("path", "header", "code"),
    [
        ("/photos", ("x-amz-acl", "private"), ""),
        ("/photos", ("x-amz-acl", "bucket-owner-full-control"), ""),
        ("/photos", ("x-amz-acl", "public-read"), "AccessControlListNotSupported"),
        ("/photos", ("x-amz-acl", "public-ready"), "InvalidArgument"),
        ("/photos", ("x-amz-grant-write", 'id="bob"'), "AccessControlListNotSupported"),
        ("/photos/acl", ("x-amz-acl", "private"), ""),
        ("/photos/acl", ("x-amz-acl", "public-read-write"), "AccessControlListNotSupported"),
        ("/photos/acl", ("x-amz-acl", "nonsense"), "InvalidArgument"),
    ],
)
def test_grants(wire: Wire, path: str, header: tuple[str, str], code: str) -> None:
    assert wire.request("PUT", "/photos/acl", body=b"x").status == 200
    answer = wire.request("PUT", path, header, query="acl=")
    assert (answer.status, answer.code) == ((400, code) if code else (200, ""))
    if path.endswith("/acl"):
        answer = wire.request("PUT", path, header, body=b"x")
        assert (answer.status, answer.code) == ((400, code) if code else (200, ""))


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            b"<AccessControlPolicy><Owner><ID>alice</ID></Owner><AccessControlList/>"
            b"</AccessControlPolicy>",
            "AccessControlListNotSupported",
        ),
        (b"<NoPolicy/>", "MalformedACLError"),
        (b"broken", "MalformedACLError"),
    ],
)
def test_grants_in_the_body(wire: Wire, body: bytes, code: str) -> None:
    answer = wire.request("PUT", "/photos", query="acl=", body=body, md5=True)
    assert (answer.status, answer.code) == (400, code)
