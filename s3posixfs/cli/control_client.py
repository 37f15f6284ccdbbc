"""What a running mount is asked by its control socket: see :mod:`s3posixfs.cli.control`.

Apart from the daemon's end, as what asks is done before it would have loaded the daemon's parts.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from s3posixfs.core.errors import OperatorError


def ask(path: Path, command: str, *, seconds: float = 10.0, **fields: Any) -> dict[str, Any] | None:
    """The answer of a running mount; ``None`` where none is listening.

    Raises TimeoutError when it does not answer within ``seconds``.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(seconds)
        try:
            connection.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except PermissionError:
            raise OperatorError(
                f"the control socket {path} is closed to you; ask as root, or as who mounted"
            ) from None
        connection.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
        received = bytearray()
        while not received.endswith(b"\n"):
            data = connection.recv(65536)
            if not data:
                break
            received += data
    try:
        answer = json.loads(received)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
