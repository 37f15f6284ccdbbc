"""From a request's head to its answer: authenticate, route, authorise, handle, audit.

This is the only place where an error becomes an answer.
"""

from __future__ import annotations

import logging
from functools import partial

import trio

from s3posixfs.core.errors import S3Error
from s3posixfs.store import query_api
from s3posixfs.store.audit import AuditLog, Unread, new_request_id
from s3posixfs.store.authenticate import authenticate
from s3posixfs.store.errors import (
    access_denied,
    error_response,
    internal_error,
    resource_of,
)
from s3posixfs.store.handlers import cors, post_object
from s3posixfs.store.handlers.buckets import check_expected_owner
from s3posixfs.store.http_body import BodyReader
from s3posixfs.store.http_head import RequestHead
from s3posixfs.store.metering import Metering
from s3posixfs.store.operations import OPERATIONS
from s3posixfs.store.payload import require_digest, verify_small
from s3posixfs.store.request import Request, parse_request
from s3posixfs.store.response import Response
from s3posixfs.store.router import Operation, Router
from s3posixfs.store.service import Service

log = logging.getLogger(__name__)

_CHUNKED_OVERHEAD = 64 * 1024
_READING = frozenset({"GET", "HEAD"})


class Answered:
    """An answer on its way to the client, and the audit line that follows it."""

    __slots__ = (
        *("_audit", "_code", "_metering", "_request", "_started"),
        *("request_id", "response"),
    )

    def __init__(
        self,
        response: Response,
        request_id: str,
        request: Request | Unread,
        audit: AuditLog,
        metering: Metering,
        started: float,
        code: str,
    ) -> None:
        self.response = response
        self.request_id = request_id
        self._request = request
        self._audit = audit
        self._metering = metering
        self._started = started
        self._code = code

    def finished(self, sent: int) -> None:
        """Write the audit line, and count it."""
        seconds = trio.current_time() - self._started
        request, status = self._request, self.response.status
        self._audit.record(request, status, sent, seconds, self._code)
        if isinstance(request, Request):
            operation, received = request.audit.operation, request.body.received
        else:
            operation, received = "", 0
        self._metering.answered(operation, status, seconds, received, sent)


class StoreApplication:
    """The store as the HTTP server serves it."""

    def __init__(
        self, service: Service, audit: AuditLog, metering: Metering, *, domain: str | None
    ) -> None:
        self._service = service
        self._audit = audit
        self._metering = metering
        self._domain = domain
        self._router = Router(OPERATIONS)

    async def handle(
        self, head: RequestHead, body: BodyReader, peer: str, *, secure: bool
    ) -> Answered:
        """Answer one request; raises nothing but cancellation."""
        started = trio.current_time()
        request_id = new_request_id()
        received_at = self._service.clock.time()
        noted: Request | Unread = Unread(request_id, received_at, peer)
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
                now=received_at,
            )
            noted = request
            response = await self._respond(request)
        except Exception as error:
            response, code = self._failure(error, request, request_id)
        except BaseException:
            # The store ends, or the time for what was in flight is over: nobody gets an answer.
            seconds = trio.current_time() - started
            self._audit.record(noted, 0, 0, seconds, "")
            operation = request.audit.operation if request is not None else ""
            self._metering.answered(operation, 0, seconds, 0, 0)
            raise
        if request is not None and request.bucket and "origin" in request.headers:
            response = await self._shared(request, response)
        return Answered(response, request_id, noted, self._audit, self._metering, started, code)

    def refuse(self, error: S3Error, peer: str) -> Answered:
        """The answer to what was not HTTP."""
        noted = Unread(new_request_id(), self._service.clock.time(), peer)
        log.debug("refused a request of %s: %s", peer, error.message)
        response = error_response(error, resource="/", request_id=noted.id)
        now = trio.current_time()
        return Answered(response, noted.id, noted, self._audit, self._metering, now, error.code)

    async def _shared(self, request: Request, response: Response) -> Response:
        """The answer, readable for the page of another origin that its bucket trusts."""
        if request.method == "OPTIONS":
            return response
        try:
            await self._service.reading.run(cors.add_cors_headers, self._service, request, response)
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
        if request is not None and query_api.is_call(request):
            return query_api.error_response(error, request), error.code
        resource = resource_of(request) if request is not None else "/"
        return error_response(error, resource=resource, request_id=request_id), error.code

    async def _respond(self, request: Request) -> Response:
        service = self._service
        if query_api.is_call(request):
            return await query_api.respond(service, request)
        if request.method == "OPTIONS" and request.bucket:
            request.audit.operation = "Preflight"
            return await service.reading.run(cors.preflight, service, request)
        if post_object.is_form(request):
            return await post_object.post_object(service, request)
        request.caller = authenticate(
            request, service.state, region=service.region, service="s3", clock=service.clock
        )
        operation = self._router.route(request)
        request.audit.operation = operation.name
        threads = service.reading if request.method in _READING else service.writing
        if operation.handler is not None and not operation.body_limit:
            return await threads.run(self._authorised, operation, request)
        if operation.streaming is not None:
            # What this reads (the bucket's policy) every request reads: it is in memory, and a
            # thread would cost more.
            self._authorise(operation, request)
            return await operation.streaming(service, request)
        await service.reading.run(self._authorise, operation, request)
        if operation.digest:
            require_digest(request)
        await self._read_content(request, operation)
        return await threads.run(self._call, operation, request)

    async def _read_content(self, request: Request, operation: Operation) -> None:
        framing = _CHUNKED_OVERHEAD if request.who.payload.chunked else 0
        data = await request.body.read(operation.body_limit + framing)
        verify = partial(verify_small, request, data, checksum_of_body=operation.checksum_of_body)
        if len(data) > 64 * 1024:
            request.content = await self._service.reading.run(verify)
        else:
            request.content = verify()

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
        elif operation.body_limit and not service.authoriser.may_be_allowed(request):
            # Each key would be refused; nobody's body of some MiB is read to find that out.
            raise access_denied()
        check_expected_owner(service, request)

    def _call(self, operation: Operation, request: Request) -> Response:
        assert operation.handler is not None  # noqa: S101  the caller has looked
        return operation.handler(self._service, request)

    def _authorised(self, operation: Operation, request: Request) -> Response:
        self._authorise(operation, request)
        return self._call(operation, request)
