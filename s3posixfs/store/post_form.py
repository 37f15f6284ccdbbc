"""A browser's form (multipart/form-data): its fields, and then its file as it comes.

What stands before the file is small and read whole; the file is never held. What comes after it
counts for nothing, as in S3. Source: RFC 7578, RFC 2046 section 5.1, and the S3 API reference,
"POST Object".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from s3posixfs.core.errors import S3Error
from s3posixfs.store.errors import DetailedError, invalid_argument
from s3posixfs.store.http_body import Body

# "The form fields before the file may have 20 KB."
_MAX_BEFORE_FILE = 20 * 1024
_RECEIVE_BYTES = 128 * 1024
_MAX_BOUNDARY = 70
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_PARAMETER = re.compile(r';\s*(name|filename)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """The boundary between the parts; PreconditionFailed for what is no such form, as in S3."""
    kind = content_type.partition(";")[0].strip().lower()
    match = _BOUNDARY.search(content_type)
    if kind != "multipart/form-data" or match is None:
        raise DetailedError(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
            status=412,
            details={"Condition": "Bucket POST must be of the enclosure-type multipart/form-data"},
        )
    return (match[1] or match[2]).encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Fields:
    """Field values by name as sent; ``file_name`` is ``None`` where the browser gave none."""

    values: dict[str, str]
    file_name: str | None


class FormFile:
    """The file of a form: a body of unknown length that ends at the boundary.

    :attr:`most` can be set to the most bytes it may have before it is read: then one more raises
    EntityTooLarge.
    """

    length: int | None = None

    def __init__(self, body: Body, boundary: bytes) -> None:
        self._body = body
        self._delimiter = b"\r\n--" + boundary
        # A delimiter begins with the line end before it, which the first one does not have.
        self._buffer = bytearray(b"\r\n")
        self._scratch = memoryview(bytearray(_RECEIVE_BYTES))
        self._before = 0
        self._size = 0
        self._ended = False
        self.most: int | None = None

    @property
    def received(self) -> int:
        return self._body.received

    async def fields(self) -> Fields:
        """Read up to the first byte of the file; InvalidArgument where there is no file."""
        values: dict[str, str] = {}
        await self._take_until(self._delimiter)
        while True:
            end = await self._take(2)
            if end == b"--":
                raise invalid_argument(
                    "POST requires exactly one file upload per request.", "file", "0"
                )
            if end != b"\r\n":
                raise _malformed()
            # Part headers end with an empty line, also where there are none.
            self._buffer[:0] = b"\r\n"
            name, file_name = _named(await self._take_until(b"\r\n\r\n"))
            if name.lower() == "file":
                return Fields(values, file_name)
            if name in values:
                raise invalid_argument("A field is given twice.", name)
            values[name] = _text(await self._take_until(self._delimiter))

    async def receive_into(self, view: memoryview) -> int:
        """Up to ``len(view)`` bytes of the file; 0 at its end."""
        while not self._ended and len(view):
            end = self._buffer.find(self._delimiter)
            # The last bytes may be the beginning of the delimiter.
            safe = end if end >= 0 else len(self._buffer) - len(self._delimiter) + 1
            if safe > 0:
                count = min(safe, len(view))
                view[:count] = self._buffer[:count]
                del self._buffer[:count]
                self._size += count
                if self.most is not None and self._size > self.most:
                    raise too_large(self._size, self.most)
                return count
            if end == 0:
                self._ended = True
                return 0
            await self._more()
        return 0

    async def read(self, limit: int) -> bytes:
        """The whole file, of at most ``limit`` bytes."""
        whole = bytearray()
        view = memoryview(bytearray(_RECEIVE_BYTES))
        while count := await self.receive_into(view):
            whole += view[:count]
            if len(whole) > limit:
                raise too_large(len(whole), limit)
        return bytes(whole)

    async def _more(self) -> None:
        count = await self._body.receive_into(self._scratch)
        if not count:
            raise _malformed()
        self._buffer += self._scratch[:count]

    async def _take_until(self, mark: bytes) -> bytes:
        """What stands before ``mark``, which is taken as well."""
        searched = 0
        while (end := self._buffer.find(mark, max(0, searched - len(mark)))) < 0:
            searched = len(self._buffer)
            if self._before + searched > _MAX_BEFORE_FILE + len(mark):
                raise _too_much()
            await self._more()
        taken = await self._take(end + len(mark))
        return taken[:end]

    async def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._before += count
        if self._before > _MAX_BEFORE_FILE:
            raise _too_much()
        return taken


def _named(head: bytes) -> tuple[str, str | None]:
    """Name and file name of a part from its headers."""
    for line in _text(head).split("\r\n"):
        header, _, value = line.partition(":")
        if header.strip().lower() != "content-disposition":
            continue
        found = {
            match[1].lower(): _unescaped(match[2]) if match[2] is not None else match[3]
            for match in _PARAMETER.finditer(value)
        }
        if value.partition(";")[0].strip().lower() == "form-data" and found.get("name"):
            return found["name"], found.get("filename")
    raise _malformed()


def _unescaped(text: str) -> str:
    # Browsers write quotes and line ends in names as %22, %0D and %0A (HTML, "multipart form
    # data"); others use backslashes before quotes.
    for escaped, plain in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"), ('\\"', '"')):
        text = text.replace(escaped, plain)
    return text


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed() from None


def too_large(size: int, most: int) -> S3Error:
    return DetailedError(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size",
        status=400,
        details={"ProposedSize": str(size), "MaxSizeAllowed": str(most)},
    )


def _malformed() -> S3Error:
    return S3Error(
        "MalformedPOSTRequest",
        "The body of your POST request is not well-formed multipart/form-data.",
        status=400,
    )


def _too_much() -> S3Error:
    return DetailedError(
        "MaxPostPreDataLengthExceeded",
        "Your POST request fields preceding the upload file were too large.",
        status=400,
        details={"MaxPostPreDataLengthExceeded": str(_MAX_BEFORE_FILE)},
    )
