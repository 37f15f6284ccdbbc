"""POSIX attributes in user metadata: three dialects in, one out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3posixfs.fs import xattrs
from s3posixfs.fs.attributes import NS, Attributes
from s3posixfs.fs.metadata import (
    PosixMetadata,
    decode,
    encode,
    format_time,
    parse_aws_time,
    parse_mode,
    parse_permissions,
    parse_time,
    size_of,
)


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("33188", 0o100644),  # s3fs-fuse
        ("16877", 0o40755),
        ("41471", 0o120777),
        ("100664", 0o100664),  # rclone
        ("40755", 0o40755),
        ("120777", 0o120777),
        ("0100644", 0o100644),
        ("644", 0o644),
        ("0755", 0o755),
        ("493", 0o755),  # no octal digits: decimal
        ("4294967295", None),
        ("-1", None),
        ("0x1ff", None),
        ("", None),
        ("٣٣١٨٨", None),
        ("9" * 400, None),
    ],
)
def test_mode_is_what_has_a_valid_file_type(text: str, mode: int | None) -> None:
    if text == "٣٣١٨٨":  # Unicode digits, which no writer uses
        assert parse_mode(text) in (None, 0o100644)
    else:
        assert parse_mode(text) == mode


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0100644", 0o100644), ("100644", 0o100644), ("0755", 0o755), ("89", None), ("777777", None)],
)
def test_aws_permissions_are_octal(text: str, mode: int | None) -> None:
    assert parse_permissions(text) == mode


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("1700000000", 1_700_000_000 * NS),
        ("1700000000.5", 1_700_000_000 * NS + NS // 2),
        ("1700000000.123456789", 1_700_000_000 * NS + 123_456_789),
        ("1700000000.1234567891", 1_700_000_000 * NS + 123_456_789),
        ("-1.5", -NS - NS // 2),
        ("2023-11-14T22:13:20Z", 1_700_000_000 * NS),
        ("2023-11-14T23:13:20.000000001+01:00", 1_700_000_000 * NS + 1),
        ("2023-13-14T22:13:20Z", None),
        ("999999999999", None),
        ("soon", None),
        ("", None),
    ],
)
def test_times_in_seconds_or_rfc3339(text: str, time_ns: int | None) -> None:
    assert parse_time(text) == time_ns


def test_aws_times_are_ns_with_a_suffix_else_ms() -> None:
    assert parse_aws_time("1700000000123456789ns") == 1_700_000_000_123_456_789
    assert parse_aws_time("1700000000123") == 1_700_000_000_123_000_000
    assert parse_aws_time("1700000000.5") is None


def test_the_three_dialects() -> None:
    s3fs = {"uid": "1001", "gid": "100", "mode": "33188", "mtime": "5", "ctime": "6", "atime": "7"}
    assert decode(s3fs) == PosixMetadata(0o100644, 1001, 100, 5 * NS, 7 * NS, 6 * NS)
    aws = {
        "file-owner": "1001",
        "file-group": "100",
        "file-permissions": "0100644",
        "file-mtime": "5000000000ns",
        "file-atime": "7000",
    }
    assert decode(aws) == PosixMetadata(0o100644, 1001, 100, 5 * NS, 7 * NS)
    rclone = {"mode": "20660", "rdev": "1f", "mtime": "2023-11-14T22:13:20Z", "uid": "1001"}
    found = decode(rclone)
    assert (found.mode, found.rdev, found.uid) == (0o20660, 0x1F, 1001)
    assert decode({"uid": "4294967295", "gid": "-1", "mode": "x"}) == PosixMetadata()


@given(
    st.dictionaries(
        st.sampled_from(
            ["uid", "gid", "mode", "mtime", "atime", "ctime", "rdev", "file-mtime", "file-owner"]
        ),
        st.text(max_size=30),
    )
)
def test_decoding_never_raises(metadata: dict[str, str]) -> None:
    decode(metadata)


@given(
    st.sampled_from([0o100644, 0o40755, 0o120777, 0o106777, 0o10600, 0o140600, 0o60660]),
    st.integers(0, 2**32 - 2),
    st.integers(-(2**62), 2**62),
    st.integers(0, 2**32 - 1),
)
def test_what_is_written_reads_the_same(mode: int, number: int, time_ns: int, rdev: int) -> None:
    attributes = Attributes(mode, number, number, 0, time_ns, time_ns + 1, time_ns - 1, rdev)
    found = decode(encode(attributes, {"file-owner": "5", "rdev": "9"}))
    assert (found.mode, found.uid, found.gid) == (mode, number, number)
    assert (found.mtime_ns, found.atime_ns, found.ctime_ns) == (time_ns, time_ns + 1, time_ns - 1)
    assert found.rdev == (rdev if mode == 0o60660 else None)


def test_unknown_keys_stay_and_aws_keys_go() -> None:
    attributes = Attributes(0o100644, 1, 2, 0, 3 * NS, 4 * NS, 5 * NS)
    kept = {"colour": "blue", "btime": "x", "file-mtime": "1ns"}
    assert encode(attributes, kept) == {
        "colour": "blue",
        "btime": "x",
        "uid": "1",
        "gid": "2",
        "mode": "33188",
        "mtime": "3",
        "atime": "4",
        "ctime": "5",
    }


def test_time_form_and_size() -> None:
    assert format_time(5 * NS + 7) == "5.000000007"
    assert format_time(-NS - NS // 2) == "-1.500000000"
    assert size_of({"a": "é"}) == 3


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.binary(max_size=20)))
def test_xattrs_come_back(attributes: dict[str, bytes]) -> None:
    names = {name: value for name, value in attributes.items() if name.isprintable()}
    kept = xattrs.encode(names, {"colour": "blue"})
    assert xattrs.decode(kept) == names
    assert kept["colour"] == "blue"
    assert ("xattr" in kept) == bool(names)


@given(st.text(max_size=40))
def test_xattrs_of_others_never_raise(text: str) -> None:
    xattrs.decode({"xattr": text})
