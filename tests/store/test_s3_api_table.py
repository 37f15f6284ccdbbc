"""docs/S3-API.md says what is so: each call of the SDKs' model is in it, in the right place."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
import pytest

from s3posixfs.store.operations import OPERATIONS
from tests.store.raw import RawClient
from tests.store_process import StoreProcess

TEXT = (Path(__file__).parents[2] / "docs/S3-API.md").read_text()
DONE, _, REST = TEXT.partition("## What differs from AWS")
ROWS = dict(re.findall(r"^\| `([A-Z]\w+)` \| `(s3:\w+)` \|", DONE, re.MULTILINE))
NOT_BUILT = re.findall(r"^- `([A-Z]\w+)`$", REST.partition("## NotImplemented")[2], re.MULTILINE)
SAME_REQUESTS = {
    "GetBucketLifecycle",
    "GetBucketNotification",
    "ListDirectoryBuckets",
    "PutBucketLifecycle",
}
# What decides these is asked by their handlers.
BY_THEMSELVES = {
    "DeleteObjects": "s3:DeleteObject",
    "PutObjectTagging": "s3:PutObjectTagging",
    "RenameFolder": "s3:PutObject",
}
MODEL = botocore.session.get_session().get_service_model("s3")


def test_every_operation_has_its_row() -> None:
    built = {
        operation.name: operation.action or BY_THEMSELVES[operation.name]
        for operation in OPERATIONS
        if operation.action is None or operation.action.startswith("s3:")
    }
    assert built == ROWS


def test_every_call_of_the_model_is_in_one_place() -> None:
    assert len(set(NOT_BUILT)) == len(NOT_BUILT)
    assert not set(NOT_BUILT) & set(ROWS)
    listed = set(NOT_BUILT) | set(ROWS) | SAME_REQUESTS
    missing = set(MODEL.operation_names) - listed
    assert not missing
    assert all(f"`{name}`" in DONE for name in SAME_REQUESTS)


@pytest.mark.parametrize("name", sorted(set(NOT_BUILT) & set(MODEL.operation_names)))
def test_what_is_not_built_says_so(running: StoreProcess, name: str) -> None:
    """As the administrator, who may do everything: nothing else may be the reason."""
    http = MODEL.operation_model(name).http
    path, _, query = http["requestUri"].partition("?")
    path = path.replace("{Bucket}", "photos").replace("{Key+}", "key")
    pairs = [part if "=" in part else f"{part}=" for part in query.split("&") if part]
    query = "&".join(sorted(re.sub(r"\{\w+\}", "x", part) for part in pairs))
    with RawClient(running.port, running.admin()) as raw:
        raw.send(raw.head(http["method"], path, query=query))
        answer = raw.answer(head_only=http["method"] == "HEAD")
    expected = (400, "InvalidBucketName") if name == "WriteGetObjectResponse" else None
    assert (answer.status, answer.code) == (expected or (501, "NotImplemented"))
