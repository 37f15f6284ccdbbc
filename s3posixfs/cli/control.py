"""The control socket of a running mount: one JSON request a connection, one JSON answer.

This is the daemon's end; :mod:`s3posixfs.cli.control_client` asks. The socket's mode (0600) is its
access control: only root, or the user who mounted, may ask.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from s3posixfs.core.errors import OperatorError

logger = logging.getLogger(__name__)

Command = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]

MAX_MESSAGE_BYTES = 4 * 1024 * 1024


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


def _bind(path: Path) -> trio.SocketListener:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = path.parent.lstat()
    if owner.st_uid != os.geteuid():
        raise OperatorError(f"{path.parent} belongs to uid {owner.st_uid}; remove it")
    _remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under a umask, so that there is no moment at which others could connect.
    before = os.umask(0o177)
    try:
        listener.bind(os.fspath(path))
    finally:
        os.umask(before)
    listener.listen(16)
    return trio.SocketListener(trio.socket.from_stdlib_socket(listener))


async def _answer(stream: trio.SocketStream, commands: Mapping[str, Command]) -> None:
    request = bytearray()
    with trio.move_on_after(30):
        async for data in stream:
            request += data
            if len(request) > MAX_MESSAGE_BYTES or request.endswith(b"\n"):
                break
    try:
        message = json.loads(request)
        command = commands[message["command"]]
    except (ValueError, KeyError, TypeError):
        answer: Mapping[str, Any] = {"error": "unknown command"}
    else:
        try:
            answer = await command(message)
        except Exception as error:
            # A question about the mount must never end it.
            logger.exception("the control command %s failed", message["command"])
            answer = {"error": type(error).__name__}
    with suppress(trio.BrokenResourceError):
        await stream.send_all(json.dumps(answer).encode() + b"\n")


async def serve_control(
    path: Path,
    commands: Mapping[str, Command],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer until cancelled; the socket file is removed then."""
    listener = _bind(path)

    async def handler(stream: trio.SocketStream) -> None:
        await _answer(stream, commands)

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, handler, [listener])
            task_status.started()
    finally:
        _remove(path)
