"""Has the kernel ask for several names of one folder at once, which libfuse leaves off.

Without FUSE_PARALLEL_DIROPS in the answer to FUSE_INIT the kernel holds a lock on the folder for
the whole of a lookup or readdir, so that eight programs that look for files in it wait for the
store one after the other. libfuse 3.14 does not set it and pyfuse3 has no way to ask for it, so
the one answer is changed on its way: for that long libfuse's descriptor is a socket, and then the
device again. What is exchanged is in the kernel's include/uapi/linux/fuse.h.
"""

from __future__ import annotations

import os
import select
import socket
import struct

INIT = 26
PARALLEL_DIROPS = 1 << 18
_MOST_BYTES = 2 * 1024 * 1024  # more than any request; the device wants a large buffer
_SECONDS = 10.0

_REQUEST = struct.Struct("=II32xIIII")  # length, opcode …; major, minor, max_readahead, flags
_ANSWER = struct.Struct("=Ii8xIIII")  # length, error …; major, minor, max_readahead, flags
_FLAGS = struct.Struct("=I")
_FLAGS_AT = _ANSWER.size - _FLAGS.size


class Negotiation:
    """The first request on a FUSE device and its answer, between the kernel and libfuse."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor`` is libfuse's, of a device that nothing has been read from."""
        self._descriptor = descriptor
        self._device = -1
        self._socket: socket.socket | None = None
        self._offered = 0

    def begin(self) -> None:
        """Put the first request where libfuse will read it. OSError; then nothing has changed, or
        the mount is of no use."""
        device = os.dup(self._descriptor)
        try:
            poll = select.poll()
            poll.register(device, select.POLLIN)
            if not poll.poll(_SECONDS * 1000):
                raise OSError("the kernel has not begun")
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except BaseException:
            os.close(device)
            raise
        with theirs:
            request = os.read(device, _MOST_BYTES)
            self._offered = offered(request)
            ours.send(request)
            os.dup2(theirs.fileno(), self._descriptor, inheritable=False)
        self._device, self._socket = device, ours

    def end(self) -> None:
        """Give the kernel the answer, and libfuse the device; to be called once it has answered.
        OSError where the kernel does not take it, as it is unmounted."""
        device, self._device = self._device, -1
        ours, self._socket = self._socket, None
        if ours is None:
            return
        try:
            with ours:
                ours.settimeout(_SECONDS)
                answer = accepted(ours.recv(_MOST_BYTES), self._offered)
            os.dup2(device, self._descriptor, inheritable=False)
            os.write(device, answer)
        finally:
            os.close(device)


def offered(request: bytes) -> int:
    """The flags of FUSE_INIT; 0 for what is none."""
    if len(request) < _REQUEST.size:
        return 0
    _, opcode, *_, flags = _REQUEST.unpack_from(request)
    return int(flags) if opcode == INIT else 0


def accepted(answer: bytes, flags: int) -> bytes:
    """An answer to FUSE_INIT that takes parallel lookups, where those were among the ``flags``."""
    if len(answer) < _ANSWER.size or not flags & PARALLEL_DIROPS:
        return answer
    _, error, *_, taken = _ANSWER.unpack_from(answer)
    if error:
        return answer
    changed = _FLAGS.pack(taken | PARALLEL_DIROPS)
    return answer[:_FLAGS_AT] + changed + answer[_FLAGS_AT + _FLAGS.size :]
