"""Pages of ListMultipartUploads: pure."""

from __future__ import annotations

from collections.abc import Sequence

from s3posixfs.store.backend.records import UploadRecord, UploadsPage


def page_of(
    uploads: Sequence[UploadRecord],
    prefix: str,
    delimiter: str,
    key_marker: str,
    upload_id_marker: str,
    max_uploads: int,
) -> UploadsPage:
    """Uploads after the markers, by key, then time, then ID.

    A ``key_marker`` without ``upload_id_marker`` skips that key; with it, the key's uploads up to
    and including that one.
    """
    found = [u for u in uploads if u.key.startswith(prefix)]
    found.sort(key=_order)
    marker = key_marker.encode()
    rows: list[UploadRecord] = []
    prefixes: dict[str, None] = {}
    passed = not upload_id_marker
    truncated = False
    last_key, last_id = key_marker, upload_id_marker
    for upload in found:
        raw = upload.key.encode()
        if key_marker and (raw < marker or (raw == marker and not upload_id_marker)):
            continue
        if key_marker and raw == marker and not passed:
            passed = upload.upload_id == upload_id_marker
            continue
        rolled = ""
        if delimiter:
            head, cut, _ = upload.key[len(prefix) :].partition(delimiter)
            rolled = prefix + head + cut if cut else ""
        if rolled and (rolled in prefixes or rolled == key_marker):
            continue
        if len(rows) + len(prefixes) >= max_uploads:
            truncated = True
            break
        if rolled:
            prefixes[rolled] = None
            last_key, last_id = rolled, ""
        else:
            rows.append(upload)
            last_key, last_id = upload.key, upload.upload_id
    return UploadsPage(tuple(rows), tuple(prefixes), truncated, last_key, last_id)


def _order(upload: UploadRecord) -> tuple[bytes, float, str]:
    return (upload.key.encode(), upload.initiated, upload.upload_id)
