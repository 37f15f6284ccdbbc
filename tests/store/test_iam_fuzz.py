"""Forms that no client sends: every answer is clean XML of IAM or STS, and none is a 5xx."""

from __future__ import annotations

import random
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from lxml import etree

from s3posixfs.store.iam.actions import ACTIONS
from tests.store_process import StoreProcess

VALUES = [
    "", "admin", "alice", "fuzzed", "../..", "*", "${aws:username}", "\0", "\n", "é", "\ud800",
    "0" * 5_000, "-1", "1e9", "arn:aws:iam::aws:policy/readonly", "arn:aws:iam::aws:policy/",
    "arn:aws:iam::000000000000:policy/none", "{}", "[" * 20_000, '{"Version":"2012-10-17"}',
    "posix-uid", "posix-gid", "Active", "v1", "<x>&amp;]]>", "%", "zz", "00", "/", "User", "true",
]  # fmt: skip
SUFFIXES = ["", ".member.1", ".member.1.Key", ".member.1.Value", ".member.0", ".member.x", "."]
STS = ["AssumeRole", "GetSessionToken", "GetCallerIdentity", "Nothing"]
STS_PARAMETERS = ["RoleArn", "RoleSessionName", "DurationSeconds", "Policy", "SerialNumber"]
NAMESPACES = {
    "iam": "{https://iam.amazonaws.com/doc/2010-05-08/}",
    "sts": "{https://sts.amazonaws.com/doc/2011-06-15/}",
}


def encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def form(choose: random.Random) -> tuple[str, str]:
    """A service and the body of a call to it, at least half of it in order."""
    service = choose.choice(["iam", "iam", "iam", "sts"])
    if service == "iam":
        action = choose.choice([*ACTIONS, "Nothing"])
        known = sorted(ACTIONS[action].parameters) if action in ACTIONS else ["UserName"]
    else:
        action, known = choose.choice(STS), STS_PARAMETERS
    pairs = [("Action", action)]
    if choose.random() < 0.9:
        pairs.append(("Version", "2010-05-08" if service == "iam" else "2011-06-15"))
    for name in known:
        # Real users are only looked at, so that the next call can be signed and the next test run.
        changed = name == "UserName" and not action.startswith(("Get", "List"))
        for _ in range(1 if changed else choose.choice([0, 1, 1, 1, 1, 2])):
            suffix = choose.choice(SUFFIXES) if name.startswith("Tag") else ""
            value = choose.choice(VALUES)
            if changed:
                value = "fuzzed" if choose.random() < 0.7 else value.replace("a", "~")
            pairs.append((name + suffix, value))
    if choose.random() < 0.1:
        pairs.append((choose.choice(VALUES), "x"))
    choose.shuffle(pairs)
    body = "&".join(f"{encoded(name)}={encoded(value)}" for name, value in pairs)
    return service, body[:60_000]


def test_every_form_is_answered_cleanly(running: StoreProcess) -> None:
    admin = running.admin()
    credentials = Credentials(admin.access_key, admin.secret_key)
    choose = random.Random(11)
    statuses: dict[int, int] = {}
    with closing(HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
        for _ in range(800):
            service, body = form(choose)
            request = AWSRequest(
                method="POST",
                url=f"{running.endpoint}/",
                data=body,
                headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
            )
            SigV4Auth(credentials, service, "us-east-1").add_auth(request)
            connection.request("POST", "/", body, dict(request.headers))
            answer = connection.getresponse()
            data = answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            assert answer.status in (200, 400, 403, 404, 409), (body, data)
            check_xml(service, answer.status, data)
    assert statuses[200] > 20
    assert statuses[400] > 100


def check_xml(service: str, status: int, data: bytes) -> None:
    root = etree.fromstring(data)
    namespace = NAMESPACES[service]
    assert str(root.tag).startswith(namespace), data
    if status != 200:
        assert root.tag == f"{namespace}ErrorResponse"
        assert root.findtext(f"{namespace}Error/{namespace}Code")
