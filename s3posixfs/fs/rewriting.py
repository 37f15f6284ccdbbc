"""Changing an object's metadata in place: a copy onto itself, signed so that it stays whose
it is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from errno import ENOSPC, ESTALE
from typing import TYPE_CHECKING

from s3posixfs.core.errors import S3Error
from s3posixfs.core.objectstore import ObjectStore
from s3posixfs.core.types import MAX_USER_METADATA_BYTES, ObjectStat, PutResult
from s3posixfs.fs.attributes import Attributes, Entry
from s3posixfs.fs.entries import Entries
from s3posixfs.fs.inodes import Inode
from s3posixfs.fs.metadata import encode, size_of
from s3posixfs.fs.mount_state import MountState
from s3posixfs.fs.names import BUCKET_KEY
from s3posixfs.fs.object_heads import ObjectHeads, absent
from s3posixfs.fs.ownership import alike
from s3posixfs.fs.permissions import refusal
from s3posixfs.fs.signers import Signer

if TYPE_CHECKING:
    from s3posixfs.fs.handles import OpenFile

logger = logging.getLogger(__name__)

DIRECTORY_TYPE = "application/x-directory"


def carried(found: ObjectStat) -> dict[str, str]:
    """What a copy with new metadata must be told so as not to lose it."""
    headers = dict(found.headers or {})
    if found.storage_class:
        headers["x-amz-storage-class"] = found.storage_class
    return headers


async def copy_onto_itself(
    store: ObjectStore,
    bucket: str,
    key: str,
    found: ObjectStat,
    metadata: Mapping[str, str] | None,
) -> PutResult:
    """Give an object other metadata; all else stays as ``found`` has it, and PreconditionFailed
    says that it is another by now."""
    return await store.copy(
        bucket,
        key,
        bucket,
        key,
        metadata=metadata,
        content_type=found.content_type,
        headers=carried(found),
        source_if_match=found.etag or None,
    )


class Rewriter:
    """Writes attributes of objects and markers that are in S3."""

    def __init__(self, state: MountState, entries: Entries, heads: ObjectHeads) -> None:
        self._state = state
        self._entries = entries
        self._heads = heads

    async def rewrite(
        self,
        inode: Inode,
        attributes: Attributes,
        signer: Signer | None = None,
        metadata: Mapping[str, str] | None = None,
        *,
        since: float = float("inf"),
    ) -> None:
        """Store new attributes, and ``metadata`` where given in place of what the object has.

        ``signer`` becomes the S3 owner; without one the object stays whose it is. Unknown keys
        survive. What was read after ``since`` (monotonic seconds) need not be read again.
        ENOSPC over S3's 2 KB; ESTALE where the object was replaced meanwhile.
        """
        chosen = self._signer(inode, signer)
        settled = self._state.rules.settle(attributes, chosen)
        await self._state.settle_journal()
        with inode.own_change():
            if inode.is_directory:
                await self._put_marker(inode, settled, chosen, metadata)
            else:
                await self._copy_onto_itself(inode, settled, chosen, metadata, since)

    def _signer(self, inode: Inode, signer: Signer | None) -> Signer:
        """Whose the object is to be. A bucket's own folder is the mount's: an object of anybody
        else's would not be believed there."""
        table = self._state.table
        if table.is_buckets_folder(inode) or table.key(inode)[1] == BUCKET_KEY:
            return self._state.signers.daemon()
        return signer or self._state.access.owner(inode.entry)

    def _fitting(self, attributes: Attributes, kept: Mapping[str, str]) -> dict[str, str]:
        result = encode(attributes, kept)
        if size_of(result) > MAX_USER_METADATA_BYTES:
            raise refusal(ENOSPC)
        return result

    async def _copy_onto_itself(
        self,
        inode: Inode,
        settled: Attributes,
        signer: Signer,
        metadata: Mapping[str, str] | None,
        since: float,
    ) -> None:
        bucket, key = self._state.table.key(inode)
        source = self._known(inode, since)
        asked = source is None
        while True:
            if source is None:
                source = await self._ask(inode, bucket, key)
            kept = metadata if metadata is not None else source.metadata or {}
            new = self._fitting(settled, kept)
            try:
                result = await copy_onto_itself(signer.store, bucket, key, source, new)
            except S3Error as error:
                if asked or not (error.code == "PreconditionFailed" or absent(error)):
                    raise
                source, asked = None, True
                continue
            break
        found = replace(
            source,
            key=key,
            etag=result.etag or (await signer.store.head(bucket, key)).etag,
            last_modified=result.last_modified,
            owner=None,
            metadata=new,
        )
        self.record(inode, settled, found, signer)

    def _known(self, inode: Inode, since: float) -> ObjectStat | None:
        """What is to survive, where that is known: nothing is asked about an object that this
        mount itself wrote within the time to live, or that it read after ``since``."""
        entry, found = inode.entry, inode.entry.stat
        if found is None or not found.etag or not entry.exact:
            return None
        if found.metadata is None or found.headers is None:
            return None
        wrote = entry.writer is not None and self._entries.is_fresh(inode)
        return found if wrote or entry.fetched_at >= since else None

    async def head(self, inode: Inode, bucket: str, key: str) -> ObjectStat:
        """What S3 has of the inode's object; NoSuchKey."""
        return await self._heads.head(self._state.daemon_store, bucket, key, inode)

    async def _ask(self, inode: Inode, bucket: str, key: str) -> ObjectStat:
        # A listing may leave keys out; what is to survive must be read first.
        try:
            headed = await self.head(inode, bucket, key)
        except S3Error as error:
            if absent(error):
                raise refusal(ESTALE) from error
            raise
        known = inode.entry.stat
        if known is not None and known.etag and known.etag != headed.etag:
            raise refusal(ESTALE)
        return headed

    async def _put_marker(
        self, inode: Inode, settled: Attributes, signer: Signer, metadata: Mapping[str, str] | None
    ) -> None:
        state = self._state
        if state.table.is_buckets_folder(inode):  # nothing in S3 stands for it
            inode.entry = replace(inode.entry, attributes=settled)
            inode.note_change()
            return
        bucket, key = state.table.key(inode)
        marker = inode.entry.stat
        kept = metadata
        if kept is None:
            kept = (marker.metadata if marker is not None else None) or {}
        headers = (marker.headers if marker is not None else None) or {}
        new = self._fitting(settled, kept)
        result = await signer.store.put(
            bucket, key, b"", metadata=new, content_type=DIRECTORY_TYPE, headers=headers
        )
        found = ObjectStat(
            key=key,
            size=0,
            etag=result.etag,
            last_modified=result.last_modified,
            metadata=new,
            content_type=DIRECTORY_TYPE,
            headers=headers,
        )
        self.record(inode, settled, found, signer)

    def owner_to_be(self, open_file: OpenFile) -> Signer:
        """The identity that the file's object belongs to once all that is owed of it is stored:
        whose it was, or who was made its owner, or who made it."""
        signers, pending = self._state.signers, open_file.pending
        owner = self._state.access.owner(open_file.inode.entry)
        if open_file.assigned:
            return open_file.writer or signers.daemon()
        if open_file.fresh and pending is None:
            return open_file.maker or signers.daemon()
        return owner if pending is None else signers.for_name(pending.state.owner) or owner

    def keeper(
        self, open_file: OpenFile, wanted: Attributes, settled: Attributes, writer: Signer
    ) -> Signer | None:
        """The identity that a file is to be given back to when ``writer`` has put its content:
        whose it was. ``None`` where it is the writer's own, and where the mount's identity holds
        it with the same owner in its metadata."""
        owner = self.owner_to_be(open_file)
        if owner.name == writer.name:
            return None
        return owner if owner.owner is not None or not alike(wanted, settled) else None

    async def give_back(
        self,
        bucket: str,
        written: ObjectStat,
        wanted: Attributes,
        owner: Signer,
        *,
        again: bool = False,
    ) -> tuple[Attributes, ObjectStat, Signer] | None:
        """Copy what another has just put onto itself as ``owner``, or as the mount's identity with
        the owner in its metadata. ``None`` where S3 lets neither: then it is the writer's.
        ``again``: who asks can try it again, so a store that does not answer is an S3Error."""
        for signer in {one.name: one for one in (owner, self._state.signers.daemon())}.values():
            settled = self._state.rules.settle(wanted, signer)
            metadata = encode(settled, written.metadata or {})
            try:
                key = written.key
                result = await copy_onto_itself(signer.store, bucket, key, written, metadata)
                etag = result.etag or (await signer.store.head(bucket, key)).etag
            except S3Error as error:
                if again and error.unreachable:
                    raise
                # The content is stored all the same, and that is what was asked for.
                logger.warning("%s/%s is not given back: %s", bucket, written.key, error)
                continue
            modified = result.last_modified
            found = replace(written, etag=etag, last_modified=modified, metadata=metadata)
            return settled, found, signer
        return None

    def record(
        self, inode: Inode, attributes: Attributes, found: ObjectStat, signer: Signer
    ) -> None:
        """This mount has just written the object: everything here knows it now."""
        state = self._state
        former = inode.entry.stat
        if inode.kept_etag is not None and former and inode.kept_etag == former.etag:
            inode.kept_etag = found.etag  # what the kernel has cached went through here
        inode.entry = Entry(attributes, found, state.now(), exact=True, writer=signer.name)
        inode.note_change()
        bucket, key = state.table.key(inode)
        state.known.remember(bucket, found)
        state.access.wrote(signer, bucket, key)
        parent = inode.parent
        if parent is not None and parent.listing is not None:
            row = None if inode.is_directory else found
            parent.listing.put(inode.name, row, state.now())
