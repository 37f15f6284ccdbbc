"""From a request's head to its answer: authenticate, route, authorise, handle, audit.

This is the only place where an error becomes an answer.
"""

from __future__ import annotations

import hashlib
import logging
import secrets

import trio

from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.store import sts
from s3posixfs.store.audit import AuditLog
from s3posixfs.store.authenticate import authenticate
from s3posixfs.store.errors import (
    DetailedError,
    access_denied,
    error_response,
    internal_error,
    invalid_request,
    resource_of,
)
from s3posixfs.store.handlers import cors
from s3posixfs.store.handlers.buckets import check_expected_owner
from s3posixfs.store.http_body import BodyReader
from s3posixfs.store.http_head import RequestHead
from s3posixfs.store.operations import OPERATIONS
from s3posixfs.store.payload import verify_small
from s3posixfs.store.request import Request, parse_request
from s3posixfs.store.response import Response
from s3posixfs.store.router import Operation, Router
from s3posixfs.store.service import Service

log = logging.getLogger(__name__)

_CHUNKED_OVERHEAD = 64 * 1024


class Answered:
    """An answer on its way to the client, and the audit line that follows it."""

    __slots__ = ("_audit", "_code", "_request", "_started", "request_id", "response")

    def __init__(
        self,
        response: Response,
        request_id: str,
        request: Request | None,
        audit: AuditLog,
        started: float,
        code: str,
    ) -> None:
        self.response = response
        self.request_id = request_id
        self._request = request
        self._audit = audit
        self._started = started
        self._code = code

    def finished(self, sent: int) -> None:
        """Write the audit line."""
        if self._request is not None:
            seconds = trio.current_time() - self._started
            self._audit.record(self._request, self.response.status, sent, seconds, self._code)


class StoreApplication:
    """The store as the HTTP server serves it."""

    def __init__(self, service: Service, audit: AuditLog, *, domain: str | None) -> None:
        self._service = service
        self._audit = audit
        self._domain = domain
        self._router = Router(OPERATIONS)

    async def handle(
        self, head: RequestHead, body: BodyReader, peer: str, *, secure: bool
    ) -> Answered:
        """Answer one request; raises nothing but cancellation."""
        started = trio.current_time()
        request_id = _new_request_id()
        request: Request | None = None
        code = ""
        try:
            request = parse_request(
                head,
                body,
                peer=peer,
                secure=secure,
                domain=self._domain,
                request_id=request_id,
                now=self._service.clock.time(),
            )
            response = await self._respond(request)
        except Exception as error:
            response, code = self._failure(error, request, request_id)
        if request is not None and request.bucket and "origin" in request.headers:
            response = await self._shared(request, response)
        return Answered(response, request_id, request, self._audit, started, code)

    def refuse(self, error: S3Error, peer: str) -> Answered:
        """The answer to what was not HTTP."""
        request_id = _new_request_id()
        log.debug("refused a request of %s: %s", peer, error.message)
        response = error_response(error, resource="/", request_id=request_id)
        return Answered(response, request_id, None, self._audit, 0.0, error.code)

    async def _shared(self, request: Request, response: Response) -> Response:
        """The answer, readable for the page of another origin that its bucket trusts."""
        if request.method == "OPTIONS":
            return response
        try:
            await self._service.run(cors.add_cors_headers, self._service, request, response)
        except BaseException as error:
            if isinstance(error, Exception):
                log.error("no CORS headers for request %s", request.id, exc_info=error)
                return response
            response.discard()
            raise
        return response

    def _failure(
        self, error: Exception, request: Request | None, request_id: str
    ) -> tuple[Response, str]:
        if not isinstance(error, S3Error):
            log.error("request %s failed", request_id, exc_info=error)
            error = internal_error()
        if request is not None and _is_sts(request):
            return sts.error_response(error, request_id), error.code
        resource = resource_of(request) if request is not None else "/"
        return error_response(error, resource=resource, request_id=request_id), error.code

    async def _respond(self, request: Request) -> Response:
        service = self._service
        if _is_sts(request):
            return await self._respond_sts(request)
        if request.method == "OPTIONS" and request.bucket:
            request.audit.operation = "Preflight"
            return await service.run(cors.preflight, service, request)
        request.caller = authenticate(
            request, service.state, region=service.region, service="s3", clock=service.clock
        )
        operation = self._router.route(request)
        request.audit.operation = operation.name
        if operation.handler is not None and not operation.body_limit:
            return await service.run(self._authorised, operation, request)
        await service.run(self._authorise, operation, request)
        if operation.streaming is not None:
            return await operation.streaming(service, request)
        await self._read_content(request, operation.body_limit)
        return await service.run(self._call, operation, request)

    async def _read_content(self, request: Request, limit: int) -> None:
        framing = _CHUNKED_OVERHEAD if request.who.payload.chunked else 0
        data = await request.body.read(limit + framing)
        if len(data) > 64 * 1024:
            request.content = await self._service.run(verify_small, request, data)
        else:
            request.content = verify_small(request, data)

    def _authorise(self, operation: Operation, request: Request) -> None:
        service = self._service
        if operation.action is not None:
            extra = operation.context(service, request) if operation.context is not None else None
            service.authoriser.require(
                request,
                operation.action,
                request.resource,
                bucket=request.bucket,
                extra=extra,
            )
        elif request.who.user is None and service.authoriser.bucket_policy(request.bucket) is None:
            # Each key would be refused; nobody's body of some MiB is read to find that out.
            raise access_denied()
        check_expected_owner(service, request)

    def _call(self, operation: Operation, request: Request) -> Response:
        assert operation.handler is not None  # noqa: S101  the caller has looked
        return operation.handler(self._service, request)

    def _authorised(self, operation: Operation, request: Request) -> Response:
        self._authorise(operation, request)
        return self._call(operation, request)

    async def _respond_sts(self, request: Request) -> Response:
        # STS signs a hash of the body that its requests need not declare, so this small body
        # is read before the signature can be checked; nothing is done with it until then.
        service = self._service
        request.audit.operation = "sts"
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/x-www-form-urlencoded":
            raise invalid_request("POST to / takes an STS form.")
        request.content = await request.body.read(sts.MAX_FORM_BYTES)
        digest = hashlib.sha256(request.content).hexdigest()
        request.caller = authenticate(
            request,
            service.state,
            region=service.region,
            service="sts",
            clock=service.clock,
            body_hash=digest,
        )
        payload = request.caller.payload
        if request.caller.user is not None and payload.declared and payload.sha256 != digest:
            raise DetailedError(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided.",
                status=403,
            )
        try:
            return await service.run(sts.handle, service, request)
        except OperatorError as error:
            raise S3Error("ValidationError", str(error), status=400) from None


def _is_sts(request: Request) -> bool:
    return request.method == "POST" and not request.bucket


def _new_request_id() -> str:
    return secrets.token_hex(8).upper()
