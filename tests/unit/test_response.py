"""What becomes of headers that would break out of their line."""

from __future__ import annotations

import pytest

from s3posixfs.store.response import HeadWriter, Response


@pytest.mark.parametrize("name", ["a\r\nb", "a\nb", "a: b", "a b", "", "ü", "a\x00"])
def test_a_name_that_is_none_is_left_out(name: str) -> None:
    head = HeadWriter().write(
        Response(200, [(name, "value"), ("ETag", "x")]), "ID", keep_alive=True
    )
    assert b"value" not in head
    assert b"\r\nETag: x\r\n" in head


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\r\n\r\n<html>", "a\x00b"])
def test_a_value_stays_on_its_line(value: str) -> None:
    head = HeadWriter().write(Response(200, [("x-amz-meta-a", value)]), "ID", keep_alive=True)
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    (line,) = (line for line in lines if line.startswith(b"x-amz-meta-a: "))
    assert not {b"\r", b"\n", b"\x00"} & {bytes([byte]) for byte in line}
    assert sum(line.startswith(b"Set-Cookie") for line in lines) == 0
