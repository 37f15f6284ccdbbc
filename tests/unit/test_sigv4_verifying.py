"""What a verifier must refuse, with AWS's code, status and message."""

from __future__ import annotations

import calendar
import traceback

import pytest

from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials
from s3posixfs.sigv4.constants import (
    EMPTY_SHA256,
    STREAMING_SIGNED,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
)
from s3posixfs.sigv4.payload import PayloadMode
from s3posixfs.sigv4.problems import SignatureDoesNotMatch, SignatureProblem
from s3posixfs.sigv4.signing import Signer
from s3posixfs.sigv4.verifying import (
    IncomingRequest,
    SignedRequest,
    check_scope,
    check_time,
    parse,
    payload_of_anonymous,
    verify,
)

SECRET, TOKEN = "s3cr3t/s3cr3t", "T0KEN/T0KEN"
NOW = float(calendar.timegm((2024, 6, 1, 12, 0, 0)))
HOST = ("host", "store:9000")
SCOPE = "20240601/us-east-1/s3/aws4_request"
Headers = list[tuple[str, str]]


def signed_request(
    target: str = "/b/k", extra: Headers | None = None, token: str | None = None
) -> IncomingRequest:
    headers = [HOST, *(extra or [])]
    path, _, query = target.partition("?")
    signer = Signer(Credentials("alice", SECRET, token), "us-east-1")
    added = signer.sign("PUT", path, query, headers, EMPTY_SHA256, NOW)
    return IncomingRequest(
        "PUT", target.encode(), [(name.lower(), value) for name, value in [*headers, *added]]
    )


def presigned_target(**changes: str | None) -> str:
    parameters: dict[str, str | None] = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"alice/{SCOPE}".replace("/", "%2F"),
        "X-Amz-Date": "20240601T120000Z",
        "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": "0" * 64,
    }
    parameters.update({name.replace("_", "-"): value for name, value in changes.items()})
    return "/b/k?" + "&".join(f"{n}={v}" for n, v in parameters.items() if v is not None)


def authorized(value: str, extra: Headers | None = None) -> IncomingRequest:
    headers = [
        HOST,
        ("x-amz-date", "20240601T120000Z"),
        ("x-amz-content-sha256", UNSIGNED_PAYLOAD),
        ("authorization", value),
    ]
    return IncomingRequest("GET", b"/b/k", headers if extra is None else extra)


def authorization(
    credential: str = f"alice/{SCOPE}",
    names: str = "host;x-amz-content-sha256;x-amz-date",
    signature: str = "0" * 64,
) -> str:
    return f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"


def refused(request: IncomingRequest) -> SignatureProblem:
    with pytest.raises(SignatureProblem) as caught:
        parse(request)
    return caught.value


def parsed(request: IncomingRequest) -> SignedRequest:
    signed = parse(request)
    assert signed is not None
    return signed


def test_a_request_without_a_signature_is_anonymous() -> None:
    assert parse(IncomingRequest("GET", b"/b?list-type=2&prefix=x", [HOST])) is None
    assert parse(authorized("")) is None, "an empty Authorization is none"


ONE_KIND = "Only one auth mechanism allowed; "


@pytest.mark.parametrize(
    ("target", "authorizations"),
    [
        (presigned_target(), [authorization()]),
        ("/b/k?X-Amz-Signature=x", [authorization()]),
        ("/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", ["AWS alice:c2ln"]),
        ("/b/k?AWSAccessKeyId=alice&Signature=x&Expires=1", [authorization()]),
        (presigned_target() + "&Signature=x", []),
        ("/b/k", [authorization(), authorization()]),
        ("/b/k", [authorization(), "Bearer x"]),
    ],
)
def test_more_than_one_kind_of_authentication(target: str, authorizations: list[str]) -> None:
    headers = [HOST, *(("authorization", value) for value in authorizations)]
    problem = refused(IncomingRequest("GET", target.encode(), headers))
    assert (problem.code, problem.status) == ("InvalidArgument", 400)
    assert problem.message.startswith(ONE_KIND)
    assert problem.details["ArgumentName"] == "Authorization"


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        (authorized("AWS alice:c2ln"), "InvalidRequest", "Please use AWS4-HMAC-SHA256."),
        (
            authorized(authorization().replace("AWS4-HMAC", "AWS4-ECDSA-P256")),
            "InvalidRequest",
            "Please use AWS4-HMAC-SHA256.",
        ),
        (authorized("Bearer x"), "InvalidArgument", "Unsupported Authorization Type"),
        (
            IncomingRequest("GET", b"/?AWSAccessKeyId=a&Signature=b&Expires=1", [HOST]),
            "InvalidRequest",
            "Please use AWS4-HMAC-SHA256.",
        ),
    ],
)
def test_other_mechanisms(request_: IncomingRequest, code: str, message: str) -> None:
    problem = refused(request_)
    assert (problem.code, problem.status) == (code, 400)
    assert problem.message.endswith(message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("AWS4-HMAC-SHA256", "the authorization header requires three components: "),
        ("AWS4-HMAC-SHA256 Credential=a", "the authorization header requires three components: "),
        (authorization() + ", More=1", "the authorization header requires three components: "),
        (
            authorization().replace("SignedHeaders=", "Signed="),
            'the authorization component "Signed" is malformed.',
        ),
        (
            authorization().replace("SignedHeaders=", "Signature="),
            'the authorization component "Signature" is malformed.',
        ),
        (authorization(credential="alice"), "the Credential is mal-formed; expecting "),
        (authorization(credential=f"/{SCOPE}"), "the Credential is mal-formed; expecting "),
        (
            authorization(credential="alice/20240601//s3/aws4_request"),
            "the Credential is mal-formed; expecting ",
        ),
        (
            authorization(credential="alice/2024061/us-east-1/s3/aws4_request"),
            'incorrect date format "2024061".',
        ),
        (
            authorization(credential="alice/20240601/us-east-1/s3/aws4"),
            'incorrect terminal "aws4". This endpoint uses "aws4_request".',
        ),
        (authorization(names=""), 'the authorization component "SignedHeaders=" is malformed.'),
        (authorization(names="host;Host"), 'the authorization component "SignedHeaders=host;Host"'),
        (authorization(names="host;host"), 'the authorization component "SignedHeaders=host;host"'),
    ],
)
def test_malformed_authorization_header(value: str, message: str) -> None:
    problem = refused(authorized(value))
    assert (problem.code, problem.status) == ("AuthorizationHeaderMalformed", 400)
    assert problem.message.startswith(f"The authorization header is malformed; {message}")


def test_authorization_without_spaces_is_read() -> None:
    signed = parsed(authorized(authorization().replace(", ", ",")))
    assert signed.signed_headers == ("host", "x-amz-content-sha256", "x-amz-date")


MISSING = "Query-string authentication version 4 requires the X-Amz-Algorithm, "
CREDENTIAL = "Error parsing the X-Amz-Credential parameter; "


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (presigned_target(X_Amz_Algorithm=None), MISSING),
        (presigned_target(X_Amz_Credential=None), MISSING),
        (presigned_target(X_Amz_Date=None), MISSING),
        (presigned_target(X_Amz_Expires=None), MISSING),
        (presigned_target(X_Amz_SignedHeaders=None), MISSING),
        (presigned_target(X_Amz_Signature=None), MISSING),
        (presigned_target(X_Amz_Signature=""), MISSING),
        (
            presigned_target(X_Amz_Algorithm="AWS4-HMAC-SHA1"),
            'X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"',
        ),
        (presigned_target(X_Amz_Credential="alice"), CREDENTIAL + "the Credential is mal-formed"),
        (
            presigned_target(X_Amz_Credential="alice/20240601/us-east-1/s3/aws5"),
            CREDENTIAL + 'incorrect terminal "aws5".',
        ),
        (presigned_target(X_Amz_Date="2024-06-01"), "X-Amz-Date must be in the ISO8601 Long"),
        (presigned_target(X_Amz_Date="20241301T000000Z"), "X-Amz-Date must be in the ISO8601 Long"),
        (presigned_target(X_Amz_Expires="x"), "X-Amz-Expires should be a number"),
        (presigned_target(X_Amz_Expires="%D9%A1"), "X-Amz-Expires should be a number"),
        (presigned_target(X_Amz_Expires="1e3"), "X-Amz-Expires should be a number"),
        (presigned_target(X_Amz_Expires="-1"), "X-Amz-Expires must be non-negative"),
        (presigned_target(X_Amz_Expires="604801"), "X-Amz-Expires must be less than a week"),
        (presigned_target() + "&X-Amz-Expires=604800", "X-Amz-Expires is given more than once."),
        (presigned_target() + "&X-Amz-Signature=0", "X-Amz-Signature is given more than once."),
    ],
)
def test_malformed_query_authentication(target: str, message: str) -> None:
    problem = refused(IncomingRequest("GET", target.encode(), [HOST]))
    assert (problem.code, problem.status) == ("AuthorizationQueryParametersError", 400)
    assert problem.message.startswith(message)


@pytest.mark.parametrize("expires", ["0", "604800"])
def test_expiry_limits_are_allowed(expires: str) -> None:
    target = presigned_target(X_Amz_Expires=expires)
    assert parsed(IncomingRequest("GET", target.encode(), [HOST])).expires == int(expires)


@pytest.mark.parametrize(
    ("headers", "missing"),
    [
        ([("x-amz-acl", "public-read")], "x-amz-acl"),
        ([("x-amz-meta-z", "1"), ("x-amz-acl", "private")], "x-amz-acl, x-amz-meta-z"),
        ([("x-amz-security-token", "t")], "x-amz-security-token"),
    ],
)
def test_every_amz_header_must_be_signed(headers: Headers, missing: str) -> None:
    request = signed_request()
    added = IncomingRequest(request.method, request.raw_target, [*request.headers, *headers])
    presigned = IncomingRequest("GET", presigned_target().encode(), [HOST, *headers])
    for case in (added, presigned):
        problem = refused(case)
        assert (problem.code, problem.status) == ("AccessDenied", 403)
        assert problem.message == "There were headers present in the request which were not signed"
        assert problem.details == {"HeadersNotSigned": missing}


def test_host_must_be_signed() -> None:
    problem = refused(authorized(authorization(names="x-amz-content-sha256;x-amz-date")))
    assert problem.details == {"HeadersNotSigned": "host"}


@pytest.mark.parametrize(
    "dates",
    [
        [],
        [("x-amz-date", "")],
        [("x-amz-date", "20240601T120000")],
        [("x-amz-date", "20240230T120000Z")],
        [("x-amz-date", "20240601T120000Z"), ("x-amz-date", "20240601T120000Z")],
        [("date", "yesterday")],
        [("date", "Fri, 99 May 2013 00:00:00 GMT")],
        [("x-amz-date", "x"), ("date", "Sat, 01 Jun 2024 12:00:00 GMT")],
    ],
)
def test_a_valid_date_is_required(dates: Headers) -> None:
    problem = refused(authorized("", [HOST, ("authorization", authorization()), *dates]))
    assert (problem.code, problem.status) == ("AccessDenied", 403)
    assert problem.message == "AWS authentication requires a valid Date or x-amz-date header"


def test_the_date_header_stands_in_for_x_amz_date() -> None:
    headers = [
        HOST,
        ("date", "Sat, 01 Jun 2024 12:00:00 GMT"),
        ("x-amz-content-sha256", UNSIGNED_PAYLOAD),
        ("authorization", authorization(names="date;host;x-amz-content-sha256")),
    ]
    signed = parsed(authorized("", headers))
    assert (signed.timestamp, signed.signed_at) == ("20240601T120000Z", NOW)


def test_payload_hash_must_be_given_and_known() -> None:
    head = [HOST, ("x-amz-date", "20240601T120000Z"), ("authorization", authorization())]
    problem = refused(authorized("", head))
    assert (problem.code, problem.status) == ("InvalidRequest", 400)
    assert problem.message == "Missing required header for this request: x-amz-content-sha256"
    for value in ("", "STREAMING", "0" * 63, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"):
        problem = refused(authorized("", [*head, ("x-amz-content-sha256", value)]))
        assert (problem.code, problem.status) == ("InvalidArgument", 400)
        assert problem.message.endswith("or a valid sha256 value.")


def test_scope_is_checked_for_day_region_and_service() -> None:
    signed = parsed(authorized(authorization()))
    check_scope(signed, "us-east-1", "s3")
    with pytest.raises(SignatureProblem) as caught:
        check_scope(signed, "eu-west-1", "s3")
    assert (caught.value.code, caught.value.status) == ("AuthorizationHeaderMalformed", 400)
    assert caught.value.message == (
        "The authorization header is malformed; the region 'us-east-1' is wrong; "
        "expecting 'eu-west-1'"
    )
    assert caught.value.details == {"Region": "eu-west-1"}
    with pytest.raises(SignatureProblem, match="incorrect service") as caught:
        check_scope(signed, "us-east-1", "sts")
    assert caught.value.message.endswith('incorrect service "s3". This endpoint belongs to "sts".')
    other_day = authorization(credential="alice/20240602/us-east-1/s3/aws4_request")
    with pytest.raises(SignatureProblem) as caught:
        check_scope(parsed(authorized(other_day)), "us-east-1", "s3")
    assert caught.value.message == (
        'The authorization header is malformed; Invalid credential date "20240602". '
        'This date is not the same as X-Amz-Date: "20240601".'
    )


def test_scope_of_a_presigned_request() -> None:
    signed = parsed(IncomingRequest("GET", presigned_target().encode(), [HOST]))
    with pytest.raises(SignatureProblem) as caught:
        check_scope(signed, "eu-west-1", "s3")
    assert caught.value.code == "AuthorizationQueryParametersError"
    assert caught.value.message == (
        CREDENTIAL + "the region 'us-east-1' is wrong; expecting 'eu-west-1'"
    )
    target = presigned_target(X_Amz_Date="20240602T000000Z")
    with pytest.raises(SignatureProblem, match="Invalid credential date") as caught:
        check_scope(parsed(IncomingRequest("GET", target.encode(), [HOST])), "us-east-1", "s3")
    assert caught.value.code == "AuthorizationQueryParametersError"


@pytest.mark.parametrize("offset", [-900, 0, 900])
def test_skew_within_fifteen_minutes_is_allowed(offset: int) -> None:
    check_time(parsed(signed_request()), NOW + offset)


@pytest.mark.parametrize("offset", [-901, 901, -1e9, 1e9])
def test_skew_beyond_fifteen_minutes_is_refused(offset: float) -> None:
    with pytest.raises(SignatureProblem) as caught:
        check_time(parsed(signed_request()), NOW + offset)
    assert (caught.value.code, caught.value.status) == ("RequestTimeTooSkewed", 403)
    assert caught.value.details["RequestTime"] == "20240601T120000Z"
    assert caught.value.details["MaxAllowedSkewMilliseconds"] == "900000"


def test_presigned_life() -> None:
    signed = parsed(IncomingRequest("GET", presigned_target().encode(), [HOST]))
    check_time(signed, NOW - 900)
    check_time(signed, NOW + 60)
    with pytest.raises(SignatureProblem, match="Request has expired") as caught:
        check_time(signed, NOW + 61)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)
    assert caught.value.details == {
        "X-Amz-Expires": "60",
        "Expires": "2024-06-01T12:01:00Z",
        "ServerTime": "2024-06-01T12:01:01Z",
    }
    with pytest.raises(SignatureProblem, match="Request is not valid yet") as caught:
        check_time(signed, NOW - 901)
    assert (caught.value.code, caught.value.status) == ("AccessDenied", 403)


def changed(request: IncomingRequest, **what: object) -> IncomingRequest:
    return IncomingRequest(
        str(what.get("method", request.method)),
        bytes(what.get("target", request.raw_target)),  # type: ignore[call-overload]
        list(what.get("headers", request.headers)),  # type: ignore[call-overload]
    )


def test_any_change_is_noticed() -> None:
    request = signed_request("/b/k?partNumber=1&uploadId=u", [("content-type", "text/plain")])
    signed = parsed(request)
    verify(request, signed, SECRET, s3=True)
    forgeries = [
        changed(request, method="DELETE"),
        changed(request, target=b"/b/other?partNumber=1&uploadId=u"),
        changed(request, target=b"/b/k?partNumber=2&uploadId=u"),
        changed(request, target=b"/b/k?partNumber=1&uploadId=u&acl"),
        changed(request, target=b"/b/k"),
    ]
    for index, (name, value) in enumerate(request.headers):
        if name != "authorization":
            headers = list(request.headers)
            headers[index] = (name, value + "x")
            forgeries.append(changed(request, headers=headers))
            forgeries.append(changed(request, headers=[*request.headers, (name, value)]))
            del headers[index]
            forgeries.append(changed(request, headers=headers))
    for forged in forgeries:
        with pytest.raises(SignatureDoesNotMatch):
            verify(forged, signed, SECRET, s3=True)


def test_a_mismatch_shows_what_was_signed_but_no_secret() -> None:
    request = signed_request(token=TOKEN)
    signed = parsed(request)
    assert signed.session_token == TOKEN
    with pytest.raises(SignatureDoesNotMatch) as caught:
        verify(changed(request, method="GET"), signed, SECRET, s3=True)
    error = caught.value
    assert (error.code, error.status) == ("SignatureDoesNotMatch", 403)
    assert error.message == (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method."
    )
    assert error.string_to_sign.startswith(f"AWS4-HMAC-SHA256\n20240601T120000Z\n{SCOPE}\n")
    assert error.canonical_request.startswith("GET\n/b/k\n\nhost:store:9000\n")
    assert list(error.details) == [
        "AWSAccessKeyId",
        "StringToSign",
        "StringToSignBytes",
        "CanonicalRequest",
        "CanonicalRequestBytes",
    ]
    assert bytes.fromhex(error.details["StringToSignBytes"]).decode() == error.string_to_sign
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.details)
    for hidden in (TOKEN, SECRET, signed.signature):
        assert hidden not in shown


def test_token_in_a_presigned_query_is_not_shown() -> None:
    signer = Signer(Credentials("alice", SECRET, TOKEN), "us-east-1")
    query = signer.presign("GET", "/b/k", "", HOST[1], NOW, 60)
    request = IncomingRequest("GET", f"/b/k?{query}".encode(), [HOST])
    signed = parsed(request)
    assert signed.session_token == TOKEN
    verify(request, signed, SECRET, s3=True)
    with pytest.raises(SignatureDoesNotMatch) as caught:
        verify(request, signed, "other", s3=True)
    assert "X-Amz-Security-Token=(not shown)" in caught.value.canonical_request
    assert "T0KEN" not in repr(caught.value.details)


def test_nothing_secret_in_repr() -> None:
    request = signed_request(token=TOKEN)
    signed = parsed(request)
    context = verify(request, signed, SECRET, s3=True)
    signer = Signer(Credentials("alice", SECRET, TOKEN), "us-east-1")
    signer.sign("GET", "/", "", [HOST], EMPTY_SHA256, NOW)
    shown = repr((request, signed, context, signer))
    for hidden in (TOKEN, SECRET, signed.signature, context.key.hex(), repr(context.key)):
        assert hidden not in shown


def test_a_hash_the_request_did_not_declare_is_needed() -> None:
    signer = Signer(Credentials("alice", SECRET), "us-east-1", "sts")
    added = signer.sign("POST", "/", "", [HOST], EMPTY_SHA256, NOW)
    request = IncomingRequest("POST", b"/", [HOST, *((n.lower(), v) for n, v in added)])
    with pytest.raises(SignatureProblem, match="x-amz-content-sha256"):
        verify(request, parsed(request), SECRET, s3=False)


@pytest.mark.parametrize("signature", ["", "0", "é" * 64, "\udcff", "0" * 64, "Z" * 5000])
def test_signatures_of_any_shape_are_only_wrong(signature: str) -> None:
    request = authorized(authorization(signature=signature))
    with pytest.raises(SignatureDoesNotMatch):
        verify(request, parsed(request), SECRET, s3=True)


def test_payload_of_a_presigned_request() -> None:
    target = presigned_target(X_Amz_Content_Sha256=EMPTY_SHA256)
    assert parsed(IncomingRequest("GET", target.encode(), [HOST])).payload.sha256 == EMPTY_SHA256
    names = presigned_target(X_Amz_SignedHeaders="host%3Bx-amz-content-sha256")
    header = ("x-amz-content-sha256", STREAMING_UNSIGNED_TRAILER)
    assert parsed(IncomingRequest("PUT", names.encode(), [HOST, header])).payload.trailer
    both = names + f"&X-Amz-Content-Sha256={UNSIGNED_PAYLOAD}"
    assert refused(IncomingRequest("PUT", both.encode(), [HOST, header])).code == "InvalidArgument"


def test_payload_of_an_anonymous_request() -> None:
    def mode(*values: str) -> PayloadMode:
        headers = [("x-amz-content-sha256", value) for value in values]
        return payload_of_anonymous(IncomingRequest("PUT", b"/b/k", headers))

    assert mode() == PayloadMode(UNSIGNED_PAYLOAD)
    assert mode(STREAMING_UNSIGNED_TRAILER).chunked
    assert mode(EMPTY_SHA256.upper()).sha256 == EMPTY_SHA256
    for values in ((STREAMING_SIGNED,), ("x",), (EMPTY_SHA256, UNSIGNED_PAYLOAD)):
        with pytest.raises(S3Error):
            mode(*values)


def test_refusals_can_be_written_as_xml() -> None:
    nasty = "\x00\x1f\udcff\ufffe<&>"
    request = IncomingRequest("GET", b"/b/k", [*signed_request(extra=[("a", nasty)]).headers])
    with pytest.raises(SignatureDoesNotMatch) as caught:
        verify(request, parsed(request), "other", s3=True)
    assert "a:\ufffd\ufffd\ufffd\ufffd<&>\n" in caught.value.details["CanonicalRequest"]
    signed = parsed(
        authorized(authorization(credential=f"a/20240601/{nasty * 50}/s3/aws4_request"))
    )
    with pytest.raises(SignatureProblem) as wrong:
        check_scope(signed, "us-east-1", "s3")
    assert not set(wrong.value.message) & set("\x00\x1f\udcff\ufffe")
    assert len(wrong.value.message) < 300
