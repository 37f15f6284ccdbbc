"""Objects."""

from __future__ import annotations

from collections.abc import Sequence

from s3posixfs.store.handlers import attributes, copying, objects, probes, renaming, tagging
from s3posixfs.store.operations.common import CONFIGURATION_BYTES, request_tags
from s3posixfs.store.router import Operation

_READ = frozenset({"versionId", "partNumber", *objects.OVERRIDES})


OBJECTS: Sequence[Operation] = (
    Operation(
        "GetObject",
        "GET",
        "object",
        "s3:GetObject",
        handler=objects.get_object,
        parameters=_READ,
    ),
    Operation(
        "HeadObject",
        "HEAD",
        "object",
        "s3:GetObject",
        handler=objects.get_object,
        parameters=_READ,
    ),
    Operation(
        "GetObjectAttributes",
        "GET",
        "object",
        "s3:GetObjectAttributes",
        handler=attributes.get_object_attributes,
        selector="attributes",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "GetObjectAcl",
        "GET",
        "object",
        "s3:GetObjectAcl",
        handler=probes.object_acl,
        selector="acl",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "GetObjectTagging",
        "GET",
        "object",
        "s3:GetObjectTagging",
        handler=tagging.get_object_tagging,
        selector="tagging",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "PutObjectTagging",
        "PUT",
        "object",
        None,  # the tags can decide, so the handler asks
        handler=tagging.put_object_tagging,
        body_limit=CONFIGURATION_BYTES,
        selector="tagging",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "DeleteObjectTagging",
        "DELETE",
        "object",
        "s3:DeleteObjectTagging",
        handler=tagging.delete_object_tagging,
        selector="tagging",
        parameters=frozenset({"versionId"}),
    ),
    Operation(
        "PutObject",
        "PUT",
        "object",
        "s3:PutObject",
        streaming=objects.put_object,
        context=request_tags,
    ),
    Operation(
        "CopyObject",
        "PUT",
        "object",
        "s3:PutObject",
        handler=copying.copy_object,
        context=request_tags,
        header="x-amz-copy-source",
    ),
    Operation(
        "RenameObject",
        "PUT",
        "object",
        "s3:PutObject",
        handler=renaming.rename_object,
        selector="renameObject",
        header=renaming.SOURCE,
    ),
    Operation(
        "RenameFolder",
        "PUT",
        "object",
        None,  # each key below can decide, so the handler asks
        handler=renaming.rename_folder,
        selector=renaming.FOLDER,
        header=renaming.SOURCE,
    ),
    Operation(
        "DeleteObject",
        "DELETE",
        "object",
        "s3:DeleteObject",
        handler=objects.delete_object,
        parameters=frozenset({"versionId"}),
    ),
)
