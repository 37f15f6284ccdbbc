"""What was found out about an endpoint. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from s3posixfs.core.types import Capabilities


@dataclass(frozen=True, slots=True)
class Traits:
    """Capabilities that the program sees, and those that only the client needs to know.

    The defaults are those of a store nothing is known of: every condition is checked by a HEAD
    first, and If-None-Match is sent along in the hope that it counts.
    """

    capabilities: Capabilities = field(default_factory=Capabilities)
    unprobed: bool = True
    honours_if_none_match: bool = False  # on PUT
    honours_if_match: bool = False  # on PUT
    quoted_if_match: bool = True  # false: If-Match on PUT takes the ETag bare (Ceph RGW)
    conditional_complete: bool = False  # conditions on CompleteMultipartUpload are honoured
    conditional_copy: bool = False  # x-amz-copy-source-if-match is honoured

    def if_match(self, etag: str) -> str:
        """The ETag as this endpoint wants it in a condition."""
        return f'"{etag}"' if self.quoted_if_match else etag

    def conditions(self) -> dict[str, object]:
        """Which conditions the endpoint honours, for people and programs: JSON values only."""
        if_match = ("quoted" if self.quoted_if_match else "bare") if self.honours_if_match else None
        return {
            "put_if_none_match": self.honours_if_none_match,
            "put_if_match": if_match,
            "complete": self.conditional_complete,
            "copy": self.conditional_copy,
        }
