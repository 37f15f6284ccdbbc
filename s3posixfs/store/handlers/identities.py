"""The store's own extension: who its users are on hosts, for mounts with ``identities=auto``."""

from __future__ import annotations

import json

from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

PARAMETER = "s3posixfs-identities"


def list_identities(service: Service, request: Request) -> Response:
    """``GET /?s3posixfs-identities``: names, roles, POSIX ids and access keys as JSON.

    Disabled users too: their objects stay theirs, and a mount that did not know them would take
    them for strangers, for whom it may sign itself.
    """
    keys = service.state.access_keys()
    identities = [
        {
            "name": user.name,
            "role": user.role,
            "uid": user.owner.uid,
            "gid": user.owner.gid,
            "access_keys": list(keys.get(user.name, ())),
        }
        for user in service.state.users()
    ]
    body = json.dumps({"identities": identities}).encode()
    return Response(200, [("Content-Type", "application/json")], body)
