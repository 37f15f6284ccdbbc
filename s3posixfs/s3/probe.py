"""What an endpoint really does, found out on a scratch object: a 200 proves nothing.

Ceph RGW, for one, answers RenameObject with 200 and makes an empty object, and takes If-Match
on PUT only with a bare ETag. So a capability counts when its effect has been seen, and a
condition when it has been seen to refuse.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

import trio

from s3posixfs.core import checksums
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Capabilities, PartResult
from s3posixfs.s3 import xml
from s3posixfs.s3.copying import RENAME_FOLDER, copy_source
from s3posixfs.s3.retry import RetryPolicy
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.traits import Traits

logger = logging.getLogger(__name__)

_BODY = b"s3posixfs looks what this store can do; this object is removed at once\n"
_WRONG_ETAG = "00000000000000000000000000000000"
_METADATA = ("probe", "seen")
# Few attempts: probing happens at start-up, where someone waits.
POLICY = RetryPolicy(attempts=4, deadline=15.0)


class NotWritable(Exception):
    """The identity may not write to the bucket, so nothing was found out."""


class Probe:
    """One look at an endpoint through ``store``, on keys ``prefix + .s3posixfs-probe-…``."""

    def __init__(self, store: S3ObjectStore, bucket: str, prefix: str, unique: str) -> None:
        self._store = store
        self._bucket = bucket
        self._key = f"{prefix}.s3posixfs-probe-{unique}"
        self._second = f"{self._key}-b"
        self._third = f"{self._key}-c"
        self._folders = (f"{self._key}-d/", f"{self._key}-e/")
        self._etag = ""

    async def run(self) -> Traits:
        """The traits. Raises NotWritable, or S3Error when the store is in trouble.

        The scratch objects are removed also when cancelled.
        """
        try:
            return await self._look()
        finally:
            with trio.move_on_after(20, shield=True):
                inside = (f"{folder}x" for folder in self._folders)
                for key in (self._key, self._second, self._third, *inside, *self._folders):
                    with contextlib.suppress(S3Error):
                        await self._store.delete(self._bucket, key)

    async def _look(self) -> Traits:
        if_none_match = await self._if_none_match()
        bare = await self._if_match(self._etag)
        quoted = await self._if_match(f'"{self._etag}"')
        metadata, owner = await self._listing()
        copy = await self._conditional_copy()
        complete = if_none_match and await self._conditional_complete()
        rename = await self._rename()
        folder = rename and await self._rename_folder()
        private = self._store.client.transport.endpoint.private
        crc64nvme = private and await self._crc64nvme()
        found = Traits(
            Capabilities(
                conditional_put=if_none_match and (quoted or bare),
                rename_object=rename,
                rename_folder=folder,
                listing_metadata=metadata,
                listing_owner=owner,
            ),
            unprobed=False,
            honours_if_none_match=if_none_match,
            honours_if_match=quoted or bare,
            quoted_if_match=quoted,
            conditional_complete=complete,
            conditional_copy=copy,
            crc64nvme=crc64nvme,
        )
        logger.info("the store can do: %s", found)
        return found

    async def _status(
        self,
        method: str,
        key: str,
        query: dict[str, str],
        headers: Sequence[tuple[str, str]],
        body: bytes = b"",
        *,
        unsigned: bool = False,
    ) -> int:
        """The HTTP status of a request whose refusal is as telling as its success.

        Raises S3Error for a store in trouble: 429 and 5xx save 501, after retries.
        """
        try:
            answer = await self._store.request(
                method,
                self._bucket,
                key,
                query=query,
                headers=headers,
                body=body,
                unsigned=unsigned,
                policy=POLICY,
            )
        except S3Error as error:
            if 400 <= error.status < 500 and error.status != 429:
                return error.status
            if error.status == 501:
                return 501
            raise
        if answer.body and xml.parse_error(answer.body):
            return 400  # an <Error> in a 200
        return answer.status

    async def _put(self, key: str, *conditions: tuple[str, str], body: bytes = _BODY) -> int:
        name, value = _METADATA
        headers = [(f"x-amz-meta-{name}", value), *conditions]
        return await self._status("PUT", key, {}, headers, body)

    async def _if_none_match(self) -> bool:
        first = await self._put(self._key, ("if-none-match", "*"))
        if first not in (200, 403):
            first = await self._put(self._key)
            honoured = False
        else:
            honoured = True
        if first != 200:
            raise NotWritable
        honoured = honoured and await self._put(self._key, ("if-none-match", "*")) in (409, 412)
        self._etag = (await self._store.head(self._bucket, self._key)).etag
        return honoured

    async def _if_match(self, etag: str) -> bool:
        """Whether this spelling of the ETag passes, and another ETag does not."""
        wrong = etag.replace(self._etag, _WRONG_ETAG)
        return (
            await self._put(self._key, ("if-match", wrong)) in (409, 412)
            and await self._put(self._key, ("if-match", etag)) == 200
        )

    async def _listing(self) -> tuple[bool, bool]:
        parameters = {
            "list-type": "2",
            "encoding-type": "url",
            "fetch-owner": "true",
            "prefix": self._key,
            "metadata": "true",
        }
        try:
            answer = await self._store.request("GET", self._bucket, query=parameters, policy=POLICY)
            page = xml.parse_listing(answer.body)
        except S3Error as error:
            if error.status in (400, 403, 501):
                return False, True
            raise
        name, value = _METADATA
        row = next((row for row in page.objects if row.key == self._key), None)
        if row is None:
            return False, True
        return (row.metadata or {}).get(name) == value, row.owner is not None

    async def _conditional_copy(self) -> bool:
        source = ("x-amz-copy-source", copy_source(self._bucket, self._key))
        condition = ("x-amz-copy-source-if-match", f'"{_WRONG_ETAG}"')
        return await self._status("PUT", self._second, {}, [source, condition]) == 412

    async def _conditional_complete(self) -> bool:
        """Whether Complete is refused when the object is there, or is another."""
        store, bucket, key = self._store, self._bucket, self._key
        try:
            upload_id = await store.create_multipart(bucket, key)
        except S3Error as error:
            if error.status in (400, 403, 405, 501):
                return False
            raise
        try:
            part: PartResult = await store.upload_part(bucket, key, upload_id, 1, _BODY)
            for condition in (("if-none-match", "*"), ("if-match", f'"{_WRONG_ETAG}"')):
                status = await self._status(
                    "POST",
                    key,
                    {"uploadId": upload_id},
                    [("content-type", "application/xml"), condition],
                    xml.complete_document([part]),
                )
                if status not in (409, 412):
                    return False
            return True
        finally:
            with trio.move_on_after(20, shield=True), contextlib.suppress(S3Error):
                await store.abort_multipart(bucket, key, upload_id)

    async def _rename(self) -> bool:
        """Whether RenameObject moves bytes and metadata, and honours If-None-Match."""
        if not (
            await self._put(self._key) == 200 and await self._put(self._third, body=b"x") == 200
        ):
            return False
        source = ("x-amz-rename-source", copy_source(self._bucket, self._key))
        query = {"renameObject": ""}
        refused = await self._status("PUT", self._third, query, [source, ("if-none-match", "*")])
        if refused not in (409, 412) or not await self._holds(self._key, _BODY):
            return False
        return (
            await self._status("PUT", self._second, query, [source]) == 200
            and await self._holds(self._second, _BODY)
            and not await self._holds(self._key, None)
        )

    async def _rename_folder(self) -> bool:
        """Whether all below a prefix can be renamed in one step, and not onto what is there."""
        old, new = self._folders
        if await self._put(f"{old}x") != 200:
            return False
        source = ("x-amz-rename-source", copy_source(self._bucket, old))
        query = {RENAME_FOLDER.rstrip("="): ""}
        moved = (
            await self._status("PUT", new, query, [source]) == 200
            and await self._holds(f"{new}x", _BODY)
            and not await self._holds(f"{old}x", None)
        )
        if not moved or await self._put(f"{old}x") != 200:
            return False
        return (
            await self._status("PUT", new, query, [source]) == 409
            and await self._holds(f"{old}x", _BODY)
            and await self._holds(f"{new}x", _BODY)
        )

    async def _crc64nvme(self) -> bool:
        """Whether a body that is not signed is compared with its checksum, in a PUT and in a part,
        and parts with checksums become an object."""
        if not await self._compares({}):
            return False
        store, bucket, key = self._store, self._bucket, self._key
        name, value = _METADATA
        headers = [(checksums.HEADER_ALGORITHM, "CRC64NVME"), (f"x-amz-meta-{name}", value)]
        try:
            answer = await store.request(
                "POST", bucket, key, query={"uploads": ""}, headers=headers, policy=POLICY
            )
            fields = xml.parse_fields(answer.body, "InitiateMultipartUploadResult")
            upload_id = fields["UploadId"]
        except (S3Error, KeyError) as error:
            if isinstance(error, S3Error) and error.status not in (400, 403, 405, 501):
                raise
            return False
        uploads = store.client.summed_uploads
        uploads.add(upload_id)
        try:
            if not await self._compares({"partNumber": "1", "uploadId": upload_id}):
                return False
            part = await store.upload_part(bucket, key, upload_id, 1, _BODY)
            await store.complete_multipart(bucket, key, upload_id, [part])
            return await self._holds(key, _BODY)
        except S3Error as error:
            if error.status not in (400, 403, 405, 501):
                raise
            return False
        finally:
            if upload_id in uploads:
                with trio.move_on_after(20, shield=True), contextlib.suppress(S3Error):
                    await store.abort_multipart(bucket, key, upload_id)

    async def _compares(self, query: dict[str, str]) -> bool:
        """Whether a wrong checksum is refused, and the right one is not."""
        statuses = []
        for told in (_BODY[1:], _BODY):
            checksum = checksums.create("crc64nvme")
            checksum.update(told)
            header = (checksums.HEADER_NAMES["crc64nvme"], checksum.b64())
            statuses.append(
                await self._status("PUT", self._key, query, [header], _BODY, unsigned=True)
            )
            if statuses == [200]:  # Ceph RGW 16 compares nothing
                return False
        return statuses == [400, 200]

    async def _holds(self, key: str, body: bytes | None) -> bool:
        """Whether the object is there, with these bytes and the scratch metadata."""
        try:
            stat, data = await self._store.get(self._bucket, key)
        except S3Error as error:
            if error.status == 404:
                return False
            raise
        name, value = _METADATA
        return body is None or (data == body and (stat.metadata or {}).get(name) == value)


async def look_without_writing(store: S3ObjectStore, bucket: str) -> Traits:
    """What can be told of a store that takes no scratch object: whether rows carry metadata.

    One row that does is proof; none leaves the safe defaults. ``unprobed`` stays set.
    """
    answer = await store.request(
        "GET",
        bucket,
        query={
            "list-type": "2",
            "encoding-type": "url",
            "fetch-owner": "true",
            "max-keys": "10",
            "metadata": "true",
        },
        policy=POLICY,
    )
    rows = xml.parse_listing(answer.body).objects
    return Traits(
        Capabilities(
            listing_metadata=any(row.metadata is not None for row in rows),
            listing_owner=not rows or any(row.owner is not None for row in rows),
        )
    )


EMBEDDED = Traits(
    Capabilities(
        conditional_put=True, rename_object=True, rename_folder=True, listing_metadata=True
    ),
    unprobed=False,
    honours_if_none_match=True,
    honours_if_match=True,
    conditional_complete=True,
    conditional_copy=True,
    crc64nvme=True,
)


async def is_embedded(store: S3ObjectStore) -> bool:
    """Whether this is ``s3posixfs serve``: by a request that only it answers as it does.

    Used where there is no bucket to try things in.
    """
    try:
        answer = await store.request("GET", query={"s3posixfs-identities": ""}, policy=POLICY)
    except S3Error:
        return False
    return (
        answer.headers.get("server", "").startswith("s3posixfs") and bytes(answer.body[:1]) == b"{"
    )
