"""Every S3 operation that is built: how it is asked for, what it needs, what answers it."""

from __future__ import annotations

from collections.abc import Sequence

from s3posixfs.store.operations.buckets import BUCKETS
from s3posixfs.store.operations.configurations import CONFIGURATIONS
from s3posixfs.store.operations.objects import OBJECTS
from s3posixfs.store.operations.uploads import UPLOADS
from s3posixfs.store.router import Operation

OPERATIONS: Sequence[Operation] = (*BUCKETS, *CONFIGURATIONS, *OBJECTS, *UPLOADS)
