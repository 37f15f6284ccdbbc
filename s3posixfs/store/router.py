"""Which S3 operation a request is: by method, target and sub-resource.

Every operation lists the query parameters that it understands. A request with another one is
answered NotImplemented, as is every S3 call that is not built: what this store does not know
it must not seem to have done.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from s3posixfs.core.errors import S3Error
from s3posixfs.store.errors import (
    invalid_argument,
    invalid_request,
    method_not_allowed,
    not_implemented,
)
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response

if TYPE_CHECKING:
    from s3posixfs.store.service import Service

Handler = Callable[["Service", Request], Response]
StreamingHandler = Callable[["Service", Request], Awaitable[Response]]
Context = Callable[["Service", Request], Mapping[str, str | Sequence[str]]]
Level = Literal["service", "bucket", "object"]

_COPY_SOURCE = "x-amz-copy-source"
# Parameters that say nothing about what is asked for: the SDKs' x-id, log tags, the signature.
_IGNORED_PREFIX = "x-"


@dataclass(frozen=True, slots=True)
class Operation:
    """One S3 operation.

    ``action`` is what the caller must be allowed on the request's own target before anything
    else happens; ``None`` only where the handler asks for itself, per key or for nobody.
    ``handler`` blocks and runs in a thread; ``streaming`` takes the body as it comes instead.
    ``body_limit`` is the most bytes of body read for ``handler``, 0 where it takes none.
    ``digest`` asks that the request brings a digest of its body to compare.
    ``checksum_of_body`` says that x-amz-checksum-… headers are about the body, not the object.
    ``context`` adds condition keys that only this operation has.
    ``selector`` is the sub-resource that names the operation, with ``value`` where that counts.
    """

    name: str
    method: str
    level: Level
    action: str | None
    handler: Handler | None = None
    streaming: StreamingHandler | None = None
    body_limit: int = 0
    digest: bool = False
    checksum_of_body: bool = True
    context: Context | None = None
    selector: str = ""
    value: str | None = None
    header: str = ""  # a header whose presence makes it this operation
    parameters: frozenset[str] = frozenset()


class Router:
    """Finds the operation of a request among ``operations``."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._plain: dict[tuple[str, Level], list[Operation]] = {}
        self._selected: dict[tuple[str, Level, str], list[Operation]] = {}
        for operation in operations:
            key = (operation.method, operation.level)
            if operation.selector:
                self._selected.setdefault((*key, operation.selector), []).append(operation)
            else:
                self._plain.setdefault(key, []).append(operation)
        for found in (*self._plain.values(), *self._selected.values()):
            found.sort(key=lambda operation: (not operation.header, operation.value is None))

    def route(self, request: Request) -> Operation:
        """The operation; S3Error NotImplemented or MethodNotAllowed where there is none."""
        level: Level = "object" if request.key else "bucket" if request.bucket else "service"
        method = request.method
        query = request.query
        candidates: list[Operation] = []
        for name in query:
            candidates += self._selected.get((method, level, name), ())
        candidates += self._plain.get((method, level), ())
        for operation in candidates:
            if operation.header and operation.header not in request.headers:
                continue
            if operation.value is not None and query[operation.selector] != operation.value:
                continue
            break
        else:
            raise _no_operation(request, level)
        if _COPY_SOURCE in request.headers and operation.header != _COPY_SOURCE:
            raise invalid_argument(
                "You can only specify a copy source header for copy requests.",
                _COPY_SOURCE,
                request.headers[_COPY_SOURCE],
            )
        for name in query:
            known = name in operation.parameters or name == operation.selector
            if not known and name[:2].lower() != _IGNORED_PREFIX:
                raise _unknown_parameter(request, operation, name)
        return operation


def _no_operation(request: Request, level: Level) -> S3Error:
    """How S3 refuses a method that it has no call for."""
    method, query = request.method, request.query
    if level == "service" and not query:
        return method_not_allowed(method, "SERVICE")
    if level == "object" and method == "POST" and not query:
        return method_not_allowed(method, "OBJECT")
    return not_implemented(f"{method} on a {level}")


def _unknown_parameter(request: Request, operation: Operation, name: str) -> S3Error:
    """How S3 refuses a parameter that does not belong to the call."""
    value = request.query[name]
    if operation.name in ("GetObject", "HeadObject"):
        if name.startswith("response-"):
            return invalid_argument(
                f"{name} is not in the set of overridable response headers. Please refer to the "
                "S3 API documentation for a complete list of overridable response headers.",
                name,
                value,
            )
        if name == "uploads":
            return invalid_request("Key is not expected for the GET method ?uploads subresource")
        if name == "versions":
            return invalid_request("There is no such thing as the ?versions sub-resource for a key")
    if operation.name == "PutObject" and name == "partNumber":
        return invalid_argument(
            "This operation does not accept partNumber without uploadId", name, value
        )
    return not_implemented(f"the parameter {name} of {operation.name}")
