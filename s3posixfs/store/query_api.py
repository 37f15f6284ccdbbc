"""STS and IAM on the store's own port: forms POSTed to ``/``, and what their errors look like.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/ ("Making query requests", "Common
errors") and https://docs.aws.amazon.com/STS/latest/APIReference/.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.sigv4.verifying import IncomingRequest, SignedRequest, parse
from s3posixfs.store import sts, xml
from s3posixfs.store.authenticate import authenticate
from s3posixfs.store.errors import DetailedError, invalid_request, status_of
from s3posixfs.store.iam import actions
from s3posixfs.store.iam.call import NAMESPACE as IAM_NAMESPACE
from s3posixfs.store.iam.call import VERSION as IAM_VERSION
from s3posixfs.store.request import Request
from s3posixfs.store.response import Response
from s3posixfs.store.service import Service

MAX_FORM_BYTES = 64 * 1024
# IAM has no regions: its clients sign for this one.
_IAM_REGION = "us-east-1"

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")

# STS and IAM have other codes than S3 for the same refusals.
_INVALID_TOKEN = (
    "InvalidClientTokenId",
    "The security token included in the request is invalid.",
    403,
)
_CODES = {
    "InvalidAccessKeyId": _INVALID_TOKEN,
    "InvalidToken": _INVALID_TOKEN,
    "ExpiredToken": (
        "ExpiredToken",
        "The security token included in the request is expired",
        403,
    ),
    "RequestTimeTooSkewed": (
        "SignatureDoesNotMatch",
        "Signature expired or not yet valid: the request's time is too far from the server's.",
        403,
    ),
    "AuthorizationHeaderMalformed": ("IncompleteSignature", "", 400),
    "InternalError": ("InternalFailure", "", 500),
}


def is_call(request: Request) -> bool:
    """Whether a request is to STS or IAM."""
    return request.method == "POST" and not request.bucket


async def respond(service: Service, request: Request) -> Response:
    """Authenticate and answer a call; S3Error where it is refused."""
    # The signature covers a hash of the body that its requests need not declare, so this small
    # body is read before the signature can be checked; nothing is done with it until then.
    request.audit.operation = "sts"
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        raise invalid_request("POST to / takes a form of STS or IAM.")
    request.content = await request.body.read(MAX_FORM_BYTES)
    name = _service_of(request)
    request.audit.operation = name
    digest = hashlib.sha256(request.content).hexdigest()
    signed = _signed(request)
    anywhere = name == "iam" and signed is not None and signed.region == _IAM_REGION
    request.caller = authenticate(
        request,
        service.state,
        region=_IAM_REGION if anywhere else service.region,
        service=name,
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
    handle = actions.handle if name == "iam" else sts.handle
    try:
        return await service.writing.run(handle, service, request)
    except OperatorError as error:
        raise S3Error("ValidationError", str(error), status=400) from None


def error_response(error: S3Error, request: Request) -> Response:
    """An error in the wrapper of the service that was called."""
    code, message, status = _CODES.get(error.code, (error.code, error.message, status_of(error)))
    # A message may repeat what a client sent, and that may be what XML can't hold.
    text = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", message or error.message)
    fields = (
        xml.leaf("Type", "Sender" if status < 500 else "Receiver")
        + xml.leaf("Code", code)
        + xml.leaf("Message", text)
    )
    parts = [f"<Error>{fields}</Error>", xml.leaf("RequestId", request.id)]
    namespace = IAM_NAMESPACE if _service_of(request) == "iam" else sts.NAMESPACE
    body = xml.document("ErrorResponse", parts, namespace=namespace)
    return Response(status, [("Content-Type", "text/xml")], body)


def _service_of(request: Request) -> Literal["sts", "iam"]:
    """The service that a call was signed for; of an unsigned one, whose version it names."""
    signed = _signed(request)
    if signed is not None:
        return "iam" if signed.service == "iam" else "sts"
    return "iam" if f"Version={IAM_VERSION}".encode() in request.content else "sts"


def _signed(request: Request) -> SignedRequest | None:
    """What the request says of its signature, before any of it is proven."""
    target = request.raw_path + (f"?{request.raw_query}" if request.raw_query else "")
    try:
        return parse(IncomingRequest(request.method, target.encode("ascii"), request.header_list))
    except S3Error:
        return None
