"""Keys as file names and back, as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3posixfs.store.backend.names import (
    MARK,
    MAX_NAME_BYTES,
    beside_names,
    directory_names,
    is_bucket_name,
    is_plain,
    key_path,
    parse_escaped,
    segment_of,
)

segments = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="%0\0.~s3od", max_size=300),
    st.text(alphabet="é%\0", min_size=100, max_size=400),
).filter(lambda text: "/" not in text and len(text.encode(errors="replace")) <= 1024)


def back(names: tuple[bytes, ...], *, directory: bool) -> bytes | None:
    parsed = [parse_escaped(name) for name in names]
    assert all(name.startswith(MARK) for name in names)
    assert all(part.is_long for part in parsed[:-1])
    text = b"".join(part.text for part in parsed)
    return segment_of(names, text, parsed[-1].kind, directory=directory)


@given(segments)
def test_names_are_file_names_and_lead_back(text: str) -> None:
    segment = text.encode()
    for names, directory in ((directory_names(segment), True), (beside_names(segment), False)):
        for name in names:
            assert 0 < len(name) <= MAX_NAME_BYTES
            assert b"\0" not in name
            assert b"/" not in name
            assert name not in (b".", b"..")
            name.decode()
        if directory and is_plain(segment):
            assert names == (segment,)
        else:
            assert back(names, directory=directory) == segment


@given(segments, segments)
def test_two_segments_never_share_a_name(one: str, other: str) -> None:
    if one != other:
        first, second = one.encode(), other.encode()
        assert directory_names(first) != directory_names(second)
        assert beside_names(first) != beside_names(second)
        assert directory_names(first) != beside_names(second)


@given(st.text(min_size=1, max_size=60))
def test_plain_keys_are_plain_paths(key: str) -> None:
    path = key_path(key)
    names = [step.name for step in path.plain.steps]
    if all(is_plain(segment) for segment in key.encode().split(b"/")):
        assert b"/".join([*names, path.plain.name]) == key.encode()
    assert (path.folder is not None) == key.endswith("/")


def test_a_name_that_the_store_would_not_write_means_nothing() -> None:
    assert segment_of((MARK + b"da",), b"a", b"d", directory=True) is None  # it would be "a"
    assert segment_of((MARK + b"o\xff",), b"\xff", b"o", directory=False) is None
    assert segment_of((MARK + b"oa",), b"a", b"o", directory=True) is None
    assert segment_of((MARK + b"oa",), b"a", b"o", directory=False) == b"a"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("abc", True),
        ("my.bucket-1", True),
        ("1a1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("ab", False),
        ("Abc", False),
        (".abc", False),
        ("abc.", False),
        ("a..b", False),
        ("192.168.0.1", False),
        ("xn--abc", False),
        ("abc\n", False),
        ("äbc", False),
        ("１２３", False),
    ],
)
def test_bucket_names(name: str, allowed: bool) -> None:
    assert is_bucket_name(name) is allowed
