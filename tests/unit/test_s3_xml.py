"""S3's XML: hostile documents are refused, and listings read right."""

from __future__ import annotations

from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import ListPage, ObjectStat, Owner, PartResult
from s3posixfs.s3 import listing_rows, xml

NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def listing(rows: str, extra: str = "") -> bytes:
    return f"<?xml version='1.0'?><ListBucketResult {NS}>{extra}{rows}</ListBucketResult>".encode()


ROW = (
    "<Contents><Key>a%2Bb+c%25/%E2%82%AC</Key><LastModified>2026-01-02T03:04:05.678Z</LastModified>"
    "<ETag>&quot;abc-2&quot;</ETag><Size>12</Size><StorageClass>STANDARD</StorageClass>"
    "<Owner><ID>alice</ID><DisplayName>Alice</DisplayName></Owner>"
    "<UserMetadata><X-Amz-Meta-Uid>1001</X-Amz-Meta-Uid><X-Amz-Meta-Empty/>"
    "<content-type>text/plain</content-type></UserMetadata></Contents>"
)


def test_listing_row() -> None:
    page = xml.parse_listing(listing(ROW, "<EncodingType>url</EncodingType>"))
    assert page == ListPage(
        (
            ObjectStat(
                "a+b c%/€",
                12,
                "abc-2",
                1767323045.0,
                Owner("alice", "Alice"),
                {"uid": "1001", "empty": ""},
                "text/plain",
                "STANDARD",
            ),
        ),
        (),
        None,
    )


def test_key_is_taken_as_it_is_without_encoding_type() -> None:
    assert xml.parse_listing(listing(ROW)).objects[0].key == "a%2Bb+c%25/%E2%82%AC"


def test_a_prefix_of_control_characters_is_repeated_as_no_xml() -> None:
    row = (
        "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        "<Size>1</Size></Contents></ListBucketResult>"
    )
    head = "<ListBucketResult><Prefix>a&#x01;&#9;&#31;</Prefix>"
    encoded = f"{head}<EncodingType>url</EncodingType>{row.format('a%01')}"
    assert [found.key for found in xml.parse_listing(encoded.encode()).objects] == ["a\x01"]
    with pytest.raises(S3Error, match="control characters"):
        xml.parse_listing(f"{head}{row.format('a&#x01;')}".encode())


def test_page_with_prefixes_and_token_and_no_namespace() -> None:
    data = listing(
        "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes>",
        "<IsTruncated>true</IsTruncated><NextContinuationToken>t=</NextContinuationToken>",
    ).replace(NS.encode(), b"")
    assert xml.parse_listing(data) == ListPage((), ("d/",), "t=")


def test_listing_without_owner_or_metadata_leaves_them_unknown() -> None:
    row = (
        "<Contents><Key>k</Key><LastModified>2026-01-02T03:04:05Z</LastModified>"
        "<Size>0</Size></Contents>"
    )
    stat = xml.parse_listing(listing(row)).objects[0]
    assert (stat.owner, stat.metadata, stat.etag) == (None, None, "")


@pytest.mark.parametrize(
    "data",
    [
        listing("", "<IsTruncated>true</IsTruncated>"),
        listing("<Contents><Key>k</Key></Contents>"),
        listing(ROW.replace("<Size>12", "<Size>-12")),
        listing(ROW.replace("<Size>12", "<Size>1e9")),
        b"<ListBucketResult>",
        b"",
        b"<html><body>welcome</body></html>",
        b"\xff\xfe\x00",
    ],
)
def test_listing_that_cannot_be_relied_on_is_refused(data: bytes) -> None:
    with pytest.raises(S3Error, match="InvalidResponse"):
        xml.parse_listing(data)


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><Error><Code>&c;</Code></Error>'
)


@pytest.mark.parametrize(
    "data",
    [
        BOMB,
        BOMB.decode().encode("utf-16"),
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><Error/>',
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><Error><Code>&e;</Code></Error>',
        b"<a>" * 100_000,
    ],
    ids=["entities", "utf-16", "remote-dtd", "file", "deep"],
)
def test_bombs_are_refused(data: bytes) -> None:
    with pytest.raises(S3Error, match="InvalidResponse"):
        xml.parse(data)
    assert xml.parse_error(data) == {}


def test_error_document_with_status_200_is_an_error() -> None:
    data = b"<Error><Code>InternalError</Code><Message>try again</Message></Error>"
    with pytest.raises(S3Error, match="InternalError: try again"):
        xml.parse_fields(data, "CopyObjectResult")


def test_sts_error_is_found_in_its_wrapper() -> None:
    data = b"<ErrorResponse><Error><Code>ExpiredToken</Code></Error></ErrorResponse>"
    assert xml.parse_error(data)["Code"] == "ExpiredToken"


def test_refused_deletions() -> None:
    data = (
        f"<DeleteResult {NS}><Deleted><Key>a</Key></Deleted>"
        "<Error><Key>b&amp;</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        "</DeleteResult>"
    ).encode()
    refused = xml.parse_deleted(data)
    assert list(refused) == ["b&"]
    assert refused["b&"].errno == 13


@given(st.lists(st.text(), max_size=5))
def test_keys_survive_the_delete_document(keys: list[str]) -> None:
    keys = [key for key in keys if xml.fits_xml(key)]
    root = etree.fromstring(xml.delete_document(keys))
    assert [element.text or "" for element in root.iter("{*}Key")] == keys


def test_control_characters_do_not_fit_xml() -> None:
    assert not xml.fits_xml("a\x01")
    assert not xml.fits_xml("\udc80")
    assert xml.fits_xml("tab\tand\r\n€😀")


def test_complete_document() -> None:
    document = xml.complete_document([PartResult(1, "a", 5), PartResult(2, "b<", 5)])
    parts = [
        {etree.QName(cell).localname: cell.text for cell in part}
        for part in etree.fromstring(document)
    ]
    assert parts == [
        {"PartNumber": "1", "ETag": '"a"'},
        {"PartNumber": "2", "ETag": '"b<"'},
    ]


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="￾￿"),
    max_size=12,
)
OWNER = st.dictionaries(st.sampled_from(["ID", "DisplayName"]), TEXT).map(
    lambda cells: dict(sorted(cells.items(), reverse=True))
)
METADATA = st.dictionaries(
    st.sampled_from(["X-Amz-Meta-mode", "x-amz-meta-Key", "content-type", "Key"]), TEXT
)
TIME = "2026-11-30T13:15:38.123Z"
# In the orders that stores have, and in others.
ORDERS = st.sampled_from(
    [
        ["Key", "LastModified", "ETag", "Size", "StorageClass", "Owner", "Type"],
        ["Key", "LastModified", "ETag", "ChecksumAlgorithm", "ChecksumType", "Size", "Owner"],
        ["Key", "LastModified", "ETag", "Size", "Owner", "StorageClass", "UserMetadata"],
        ["Size", "Key", "UserMetadata", "ETag", "LastModified", "StorageClass"],
    ]
)
CELLS = st.fixed_dictionaries(
    {"Key": TEXT, "Size": st.integers(0, 10**13).map(str), "ETag": TEXT.map('"{}"'.format)},
    optional={
        **dict.fromkeys(["StorageClass", "Type", "ChecksumAlgorithm", "ChecksumType"], TEXT),
        "Owner": OWNER,
        "UserMetadata": METADATA,
    },
)


def escaped(text: str, quote: str) -> str:
    return escape(text, {'"': quote, "'": "&apos;"})


def element(name: str, value: object, quote: str) -> str:
    if isinstance(value, dict):
        inside = "".join(element(key, text, quote) for key, text in value.items())
        return f"<{name}>{inside}</{name}>"
    return f"<{name}>{escaped(str(value), quote)}</{name}>"


@given(
    rows=st.lists(CELLS, max_size=4),
    order=ORDERS,
    quote=st.sampled_from(["&quot;", '"', "&#34;", "&#x22;"]),
    between=st.sampled_from(["", "<!-- <Contents> -->", "<CommonPrefixes/>", "\n", "</Contents>"]),
    around=st.sampled_from(["", "<!--{}-->", "<Other>{}</Other>", "<Other><![CDATA[{}]]></Other>"]),
)
def test_rows_cut_out_of_the_text_are_those_of_the_document(
    rows: list[dict[str, object]], order: list[str], quote: str, between: str, around: str
) -> None:
    contents = between.join(
        "<Contents>"
        + "".join(
            element(name, {**row, "LastModified": TIME}[name], quote)
            for name in order
            if name in row or name == "LastModified"
        )
        + "</Contents>"
        for row in rows
    )
    contents = around.replace("{}", contents) if around else contents
    data = f"<ListBucketResult xmlns='urn:x'>{contents}</ListBucketResult>".encode()

    def listed() -> object:
        try:
            return xml.parse_listing(data)
        except S3Error as error:
            return error.message

    found = listed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing_rows, "cut", lambda _: None)
        assert listed() == found
    usual = order[0] == "Key" and quote in ("&quot;", '"') and not between
    if rows and usual:
        assert listing_rows.cut(data) is not None
        if not around:
            assert isinstance(found, ListPage)
            assert [stat.key for stat in found.objects] == [row["Key"] for row in rows]


@pytest.mark.parametrize(
    "inside",
    [
        *("&#1;", "&nbsp;", "&", "]]>", "\x01", "\ufffe", "<Key>b</Key>", "a\rb", "&lt"),
        *("<![CDATA[a]]>", "<!-- a -->", "<?a?>", "</Key><Key>"),
    ],
)
def test_what_the_parser_would_not_take_as_it_is_is_left_to_it(inside: str) -> None:
    row = f"<Key>a{inside}</Key><LastModified>{TIME}</LastModified><ETag>e</ETag><Size>1</Size>"
    data = f"<ListBucketResult><Contents>{row}</Contents></ListBucketResult>".encode()
    assert listing_rows.cut(data) is None


def test_bytes_that_are_no_utf8_are_left_to_the_parser() -> None:
    row = f"<Key>\xe9</Key><LastModified>{TIME}</LastModified><ETag>e</ETag><Size>1</Size>"
    text = f"<ListBucketResult><Contents>{row}</Contents></ListBucketResult>"
    assert listing_rows.cut(text.encode("latin-1")) is None
    data = '<?xml version="1.0" encoding="iso-8859-1"?>' + text
    assert xml.parse_listing(data.encode("latin-1")).objects[0].key == "\xe9"
    assert xml.parse_listing(data.encode()).objects[0].key == "\xc3\xa9"
