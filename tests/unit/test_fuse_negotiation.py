"""The answer to FUSE_INIT on its way: one flag more, where the kernel offers it."""

from __future__ import annotations

import os
import struct

import pytest

from s3posixfs.fuse.negotiation import INIT, PARALLEL_DIROPS, accepted, offered

OTHERS = 0x4040B039


def request(flags: int, opcode: int = INIT) -> bytes:
    body = struct.pack("=IIII", 7, 45, 128 * 1024, flags) + os.urandom(48)
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, 2, 0, 0, 0, 1, 0) + body


def answer(flags: int, error: int = 0) -> bytes:
    body = struct.pack("=IIII", 7, 31, 128 * 1024, flags) + bytes(range(48))
    return struct.pack("=IiQ", 16 + len(body), error, 2) + body


@pytest.mark.parametrize("flags", [0, OTHERS, PARALLEL_DIROPS, 0xFFFFFFFF])
def test_what_the_kernel_offers(flags: int) -> None:
    assert offered(request(flags)) == flags
    assert offered(request(flags, opcode=1)) == 0
    assert offered(request(flags)[:55]) == 0


def test_the_flag_is_added_and_nothing_else_changes() -> None:
    assert accepted(answer(OTHERS), PARALLEL_DIROPS) == answer(OTHERS | PARALLEL_DIROPS)
    assert accepted(answer(OTHERS), OTHERS) == answer(OTHERS), "it was not offered"
    assert accepted(answer(OTHERS, error=-5), PARALLEL_DIROPS) == answer(OTHERS, error=-5)
    short = struct.pack("=IiQ", 16, 0, 2)
    assert accepted(short, PARALLEL_DIROPS) == short
