"""Is this endpoint usable with these credentials? One line for people when it is not."""

from __future__ import annotations

from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.credentials.provider import CredentialsError
from s3posixfs.s3.errors import ConnectionFailed
from s3posixfs.s3.retry import RetryPolicy
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.xml import parse_fields

# Someone waits: long enough for a store that is just starting, short enough to be told.
POLICY = RetryPolicy(attempts=4, base=0.2, cap=1.0, deadline=10.0)


async def check(store: S3ObjectStore, bucket: str | None, *, prefix: str = "") -> float:
    """Ask for one row of the bucket's listing below ``prefix`` (None: for the buckets); the
    store's time, in seconds since the epoch, or 0 where it tells none.

    Raises OperatorError with one line that says what to do. Not a HEAD: its refusal says no
    code. An identity that may not list at all is refused here, as nothing would be seen.
    """
    query = {"list-type": "2", "max-keys": "1"} if bucket is not None else {}
    if bucket is not None and prefix:
        query["prefix"] = prefix
    expected = "ListAllMyBucketsResult" if bucket is None else "ListBucketResult"
    try:
        answer = await store.request("GET", bucket or "", query=query, policy=POLICY)
        parse_fields(answer.body, expected)
    except S3Error as error:
        raise OperatorError(explain(error, store, bucket)) from error
    return answer.date


def explain(error: S3Error, store: S3ObjectStore, bucket: str | None) -> str:
    """One line on what stopped a request to ``bucket``, and what to do about it."""
    url = store.endpoint_url
    who = f"identity {store.name!r}" if store.name else "the access key"
    if isinstance(error, CredentialsError):
        return f"{error.message}; check the profile or the STS endpoint"
    if isinstance(error, ConnectionFailed):
        if error.kind == "tls":
            return f"{url}: {error.message}; give the store's CA with ca_file, or check the URL"
        if error.kind == "resolve":
            return f"{url}: {error.message}; check endpoint_url and DNS"
        if error.kind == "connect":
            return f"cannot reach {url}: {error.message}; check the port, and that the store runs"
        if error.kind == "garbled":
            return f"{url} does not answer as an S3 store ({error.message}); check endpoint_url"
        return f"{url}: {error.message}; try again, or check that this is an S3 endpoint"
    where = f"bucket {bucket!r}" if bucket is not None else "the list of buckets"
    match error.code:
        case "NoSuchBucket":
            return f"there is no bucket {bucket!r} at {url}; create it, or check the name"
        case "InvalidBucketName":
            return f"{bucket!r} is no valid bucket name; give 3 to 63 of a-z, 0-9, - and ."
        case "InvalidAccessKeyId":
            return f"{url} does not know the access key of {who}; check profile or key"
        case "SignatureDoesNotMatch":
            return (
                f"{url} refuses the signature of {who}: the secret key is wrong; "
                "put the right one into its profile"
            )
        case "AccessDenied" | "AllAccessDisabled":
            action = "s3:ListBucket" if bucket is not None else "s3:ListAllMyBuckets"
            text = f"{who} may not read {where} at {url}; it needs a policy that allows {action}"
            # Ceph RGW does not tell a wrong key from a missing permission.
            embedded = store.client.transport.server.startswith("s3posixfs")
            return text if embedded else f"{text}, or its key is wrong"
        case "ExpiredToken" | "InvalidToken" | "ExpiredTokenException" | "TokenRefreshRequired":
            return f"the temporary credentials of {who} are not valid (any more); get new ones"
        case "RequestTimeTooSkewed":
            return "this host's clock differs too much from the store's; set it (timedatectl)"
        case "PermanentRedirect" | "TemporaryRedirect":
            region = getattr(error, "region", "")
            if region:
                return f"{where} is in region {region}; give region={region} (and no endpoint_url)"
            return f"{where} is in another region; give the region and its endpoint_url"
        case "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException":
            return f"{url} does not serve this region; set region ({error.message})"
        case "InvalidResponse":
            return f"{url} does not answer as an S3 store; check endpoint_url"
    if error.status >= 500:
        return f"{url} is in trouble ({error}); try again"
    return f"{where} at {url}: {error}; see the log of the store for that request"
