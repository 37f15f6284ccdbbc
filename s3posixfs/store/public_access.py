"""A bucket's block on public access: read, checked, written.

The two settings about lists of grants are kept and have nothing to act on, as there are no such
lists. Source: the S3 user guide, "Blocking public access to your Amazon S3 storage", and the API
reference, PutPublicAccessBlock.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3posixfs.store import xml

KIND = "public-access-block"
ROOT = "PublicAccessBlockConfiguration"


@dataclass(frozen=True, slots=True)
class PublicAccessBlock:
    """What is blocked; a setting that is not given is off."""

    block_public_acls: bool = False
    ignore_public_acls: bool = False
    block_public_policy: bool = False
    restrict_public_buckets: bool = False

    def document(self) -> bytes:
        """The block as S3 writes it."""
        parts = [xml.leaf(name, getattr(self, field)) for name, field in _FIELDS.items()]
        return xml.document(ROOT, parts)


_FIELDS = {
    "BlockPublicAcls": "block_public_acls",
    "IgnorePublicAcls": "ignore_public_acls",
    "BlockPublicPolicy": "block_public_policy",
    "RestrictPublicBuckets": "restrict_public_buckets",
}
_SWITCH = {"true": True, "false": False}


def parse_public_access_block(data: bytes) -> PublicAccessBlock:
    """The block of a ``<PublicAccessBlockConfiguration>``; S3Error MalformedXML."""
    values: dict[str, bool] = {}
    for name, text in xml.children(xml.parse(data, ROOT)).items():
        value = _SWITCH.get(text.strip().lower())
        if name not in _FIELDS or value is None:
            raise xml.malformed()
        values[_FIELDS[name]] = value
    return PublicAccessBlock(**values)
