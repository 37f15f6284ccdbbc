"""A small S3 store over a real socket, with the quirks that real ones were found to have."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from s3posixfs.core import checksums
from tests.unit.scripted_server import ScriptedServer, Seen, Step, drop, error, reply


@dataclass(frozen=True, slots=True)
class Quirks:
    """What the store does; the defaults are those of one that does everything right."""

    writable: bool = True
    if_none_match: bool = True
    if_match_spelling: str = "quoted"  # quoted, bare, any, ignored
    rename: str = "moves"  # moves, empty (200 and an empty target), unknown, clobbers
    rename_folder: str = "moves"  # moves, unknown (makes an empty object), clobbers
    metadata_in_listing: bool = True
    owner_in_listing: bool = True
    conditional_complete: bool = True
    conditional_copy: bool = True
    etag_of_complete: bool = True
    # compares, ignores, no parts (refuses the upload), no complete
    crc64nvme: str = "compares"


RGW = Quirks(
    if_match_spelling="bare",
    rename="empty",
    metadata_in_listing=False,
    conditional_complete=False,
    conditional_copy=False,
    etag_of_complete=False,
    crc64nvme="ignores",
)


@dataclass(slots=True)
class Stored:
    """An object: bytes, ETag and the headers that belong to it."""

    body: bytes
    etag: str
    headers: dict[str, str] = field(default_factory=dict)


def stored(body: bytes, headers: dict[str, str]) -> Stored:
    own = {
        name: value
        for name, value in headers.items()
        if name.startswith("x-amz-meta-")
        or name in ("content-type", "cache-control", "content-encoding", "x-amz-storage-class")
    }
    return Stored(body, hashlib.md5(body).hexdigest(), own)  # noqa: S324 (what S3 does)


class QuirkyStore(ScriptedServer):
    """One bucket ``b``. What ``lose`` picks is done, and then answered by ``instead``."""

    def __init__(self, quirks: Quirks | None = None) -> None:
        super().__init__()
        self.quirks = quirks or Quirks()
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self.numbers = count(1)
        self.summed: dict[str, dict[str, str]] = {}  # headers of uploads with checksums, by key
        self.lose: Callable[[Seen], bool] = lambda seen: False
        self.instead: Step = drop

    def answer(self, seen: Seen) -> Step:
        step = self._do(seen)
        if self.lose(seen):
            self.lose = lambda seen: False
            return self.instead
        return step

    def _do(self, seen: Seen) -> Step:
        parts = urlsplit(seen.target)
        query = {
            name: values[0]
            for name, values in parse_qs(parts.query, keep_blank_values=True).items()
        }
        _, bucket, key = [*unquote(parts.path).split("/", 2), ""][:3]
        if bucket != "b":
            return error(404, "NoSuchBucket")
        if not key:
            return self._list(query)
        if seen.method in ("GET", "HEAD"):
            return self._get(seen, key)
        if not self.quirks.writable:
            return error(403, "AccessDenied")
        if seen.method == "DELETE" and "uploadId" in query:
            self.uploads.pop(query["uploadId"], None)
            return reply(204)
        if seen.method == "DELETE":
            self.objects.pop(key, None)
            return reply(204)
        if not self._sum_fits(seen):
            return error(400, "BadDigest")
        if "uploads" in query:
            if self.quirks.crc64nvme == "no parts" and "x-amz-checksum-algorithm" in seen.headers:
                return error(501, "NotImplemented")
            upload_id = f"u{next(self.numbers)}"
            self.uploads[upload_id] = (key, {})
            if "x-amz-checksum-algorithm" in seen.headers:
                self.summed[key] = seen.headers
            return reply(
                200,
                f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId>"
                "</InitiateMultipartUploadResult>".encode(),
            )
        if "uploadId" in query:
            return self._multipart(seen, key, query)
        if "renameObject" in query and self.quirks.rename != "unknown":
            return self._rename(seen, key)
        if "s3posixfs-rename-folder" in query and self.quirks.rename_folder != "unknown":
            return self._rename_folder(seen, key)
        return self._put(seen, key)

    def _sum_fits(self, seen: Seen) -> bool:
        told = seen.headers.get("x-amz-checksum-crc64nvme")
        checksum = checksums.create("crc64nvme")
        checksum.update(seen.body)
        return told in (None, checksum.b64()) or self.quirks.crc64nvme == "ignores"

    def _refused(self, headers: dict[str, str], key: str) -> bool:
        found = self.objects.get(key)
        if headers.get("if-none-match") == "*" and self.quirks.if_none_match and found is not None:
            return True
        asked = headers.get("if-match")
        if asked is None or self.quirks.if_match_spelling == "ignored":
            return False
        etag = found.etag if found else ""
        spellings = {
            "quoted": {f'"{etag}"'},
            "bare": {etag},
            "any": {etag, f'"{etag}"'},
        }[self.quirks.if_match_spelling]
        return asked not in spellings

    def _put(self, seen: Seen, key: str) -> Step:
        source = seen.headers.get("x-amz-copy-source")
        if self._refused(seen.headers, key):
            return error(412, "PreconditionFailed")
        if source is None:
            self.objects[key] = stored(seen.body, seen.headers)
            return reply(200, ETag=f'"{self.objects[key].etag}"')
        found = self.objects.get(unquote(source).split("/", 2)[2])
        if found is None:
            return error(404, "NoSuchKey")
        wanted = seen.headers.get("x-amz-copy-source-if-match")
        if wanted is not None and self.quirks.conditional_copy and wanted.strip('"') != found.etag:
            return error(412, "PreconditionFailed")
        replaced = seen.headers.get("x-amz-metadata-directive") == "REPLACE"
        self.objects[key] = stored(found.body, seen.headers if replaced else found.headers)
        etag = self.objects[key].etag
        return reply(200, f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>".encode())

    def _rename(self, seen: Seen, key: str) -> Step:
        source = unquote(seen.headers["x-amz-rename-source"]).split("/", 2)[2]
        if self.quirks.rename == "empty":
            self.objects[key] = stored(b"", seen.headers)
            return reply(200)
        taken = key in self.objects and self.quirks.rename != "clobbers"
        if seen.headers.get("if-none-match") == "*" and taken:
            return error(412, "PreconditionFailed")
        if source not in self.objects:
            return error(404, "NoSuchKey")
        self.objects[key] = self.objects.pop(source)
        return reply(200)

    def _rename_folder(self, seen: Seen, prefix: str) -> Step:
        source = unquote(seen.headers["x-amz-rename-source"]).split("/", 2)[2]
        taken = any(key.startswith(prefix) for key in self.objects)
        if taken and self.quirks.rename_folder != "clobbers":
            return error(409, "FolderNotEmpty")
        for key in [key for key in self.objects if key.startswith(source)]:
            self.objects[prefix + key[len(source) :]] = self.objects.pop(key)
        return reply(200)

    def _multipart(self, seen: Seen, key: str, query: dict[str, str]) -> Step:
        upload = self.uploads.get(query["uploadId"])
        if upload is None:
            return error(404, "NoSuchUpload")
        if seen.method == "PUT":
            source = seen.headers.get("x-amz-copy-source")
            body = seen.body
            if source is not None:
                first, last = re.findall(r"\d+", seen.headers["x-amz-copy-source-range"])
                found = self.objects[unquote(source).split("/", 2)[2]]
                body = found.body[int(first) : int(last) + 1]
            upload[1][int(query["partNumber"])] = body
            etag = hashlib.md5(body).hexdigest()  # noqa: S324 (what S3 does)
            if source is None:
                return reply(200, ETag=f'"{etag}"')
            return reply(200, f"<CopyPartResult><ETag>{etag}</ETag></CopyPartResult>".encode())
        if self.quirks.conditional_complete and self._refused(seen.headers, key):
            return error(412, "PreconditionFailed")
        if self.quirks.crc64nvme == "no complete" and key in self.summed:
            return error(400, "InvalidPart")
        del self.uploads[query["uploadId"]]
        ordered = [upload[1][number] for number in sorted(upload[1])]
        digests = b"".join(hashlib.md5(part).digest() for part in ordered)  # noqa: S324
        made = stored(b"".join(ordered), self.summed.pop(key, {}))
        made.etag = f"{hashlib.md5(digests).hexdigest()}-{len(ordered)}"  # noqa: S324
        self.objects[key] = made
        etag = made.etag if self.quirks.etag_of_complete else ""
        return reply(
            200,
            f"<CompleteMultipartUploadResult><ETag>{etag}</ETag>"
            "</CompleteMultipartUploadResult>".encode(),
        )

    def _get(self, seen: Seen, key: str) -> Step:
        found = self.objects.get(key)
        if found is None:
            return error(404, "NoSuchKey")
        return reply(
            200,
            found.body,
            keep=True,
            length=None,
            ETag=f'"{found.etag}"',
            **{name.replace("-", "_"): value for name, value in found.headers.items()},
        )

    def _list(self, query: dict[str, str]) -> Step:
        rows = []
        for key in sorted(self.objects):
            if not key.startswith(query.get("prefix", "")):
                continue
            found = self.objects[key]
            extra = ""
            if query.get("metadata") == "true" and self.quirks.metadata_in_listing:
                cells = "".join(
                    f"<{name}>{escape(value)}</{name}>" for name, value in found.headers.items()
                )
                extra += f"<UserMetadata>{cells}</UserMetadata>"
            if query.get("fetch-owner") == "true" and self.quirks.owner_in_listing:
                extra += "<Owner><ID>alice</ID></Owner>"
            rows.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(found.body)}</Size>"
                "<LastModified>2026-01-01T00:00:00Z</LastModified>"
                f"<ETag>&quot;{found.etag}&quot;</ETag>{extra}</Contents>"
            )
        return reply(200, f"<ListBucketResult>{''.join(rows)}</ListBucketResult>".encode())
