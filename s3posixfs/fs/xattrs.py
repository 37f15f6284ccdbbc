"""Extended attributes in s3fs-fuse's form: the metadata key ``xattr`` holds URL-encoded JSON of
names and base64 values."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from urllib.parse import quote, unquote

KEY = "xattr"


def decode(metadata: Mapping[str, str]) -> dict[str, bytes]:
    """The attributes by full name (``user.colour``); what cannot be read is left out."""
    text = metadata.get(KEY)
    if not text:
        return {}
    try:
        values = json.loads(unquote(text))
    except ValueError:
        return {}
    if not isinstance(values, dict):
        return {}
    result: dict[str, bytes] = {}
    for name, value in values.items():
        if isinstance(value, str):
            try:
                result[name] = base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                continue
    return result


def encode(attributes: Mapping[str, bytes], kept: Mapping[str, str]) -> dict[str, str]:
    """``kept`` with its ``xattr`` replaced; the key goes where there is no attribute left."""
    result = dict(kept)
    if attributes:
        values = {name: base64.b64encode(value).decode() for name, value in attributes.items()}
        result[KEY] = quote(json.dumps(values, separators=(",", ":")), safe="")
    else:
        result.pop(KEY, None)
    return result
