"""What the store makes of XML that clients send."""

from __future__ import annotations

import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.store import xml


def test_a_document() -> None:
    data = (
        '<?xml version="1.0" encoding="UTF-8"?><Delete xmlns="http://s3.amazonaws.com/doc/'
        '2006-03-01/"><!-- no matter --><Quiet>true</Quiet><Key>\u00fc &amp; <![CDATA[<x>]]>'
        "<?nor this?>!</Key><Empty/></Delete>"
    ).encode()
    root = xml.parse(data, "Delete")
    assert xml.local_name(root) == "Delete"
    assert xml.children(root) == {"Quiet": "true", "Key": "\u00fc & <x>!", "Empty": ""}


DTD = '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "data",
    [
        b"", b"text", b"<d>", b"<d></e>", b"<e/>", b"<d/><d/>", b"<d>&b;</d>", b"<d>\xff</d>",
        b"<d>\x00</d>", b"<d>&#0;</d>", b"<d a='1' a='2'/>", b"<x:d/>",
        f"{DTD}<d>&b;</d>".encode(), f"{DTD}<d/>".encode(), b"<!DOCTYPE d><d/>",
        b'<!DOCTYPE d SYSTEM "http://127.0.0.1:1/"><d/>',
        f'<?xml version="1.0" encoding="UTF-16"?>{DTD}<d>&b;</d>'.encode("utf-16"),
        f"{DTD}<d/>".encode("utf-16-le"), f"{DTD}<d/>".encode("utf-16-be"),
        f"{DTD}<d/>".encode("utf-32"),
        # Written so that a reader who believes the declaration finds a document type in it.
        b'<?xml version="1.0" encoding="cp037"?>' + f"{DTD}<d>&b;</d>".encode("cp037"),
        b'<?xml version="1.0" encoding="utf-7"?>+ADw-!DOCTYPE d+AD4-<d/>',
        b"<d>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</d>",
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(S3Error) as refused:
        xml.parse(data, "d")
    assert (refused.value.code, refused.value.status) == ("MalformedXML", 400)


MAKE_UP_NAMES = """
import secrets
from s3posixfs.store import xml
from tests.unit.test_store_xml import document_of, resident_kib

for _ in range(5):
    xml.parse(document_of(10_000), "d")
before = resident_kib()
for _ in range(40):
    xml.parse(document_of(10_000), "d")
print(resident_kib() - before)
"""


def document_of(names: int) -> bytes:
    """A document of so many elements, each of another name."""
    return (
        b"<d>"
        + b"".join(b"<a%s/>" % secrets.token_hex(8).encode() for _ in range(names))
        + (b"</d>")
    )


def resident_kib() -> int:
    match = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1])


def test_names_that_clients_make_up_are_forgotten() -> None:
    """400,000 of them, some 10 MB of text: a parser that keeps them has them for ever."""
    done = subprocess.run(
        [sys.executable, "-c", MAKE_UP_NAMES], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 2048
