"""What ``s3posixfs doctor`` asks of the store: by one connection all that a mount needs."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import trio

from s3posixfs.cli.doctor_files import about_credentials_file
from s3posixfs.cli.findings import Finding, clock, failed
from s3posixfs.cli.mount_credentials import own_credentials, s3_client, sts_client
from s3posixfs.cli.mount_options import MountOptions, with_service_credentials
from s3posixfs.cli.mount_request import (
    Endpoint,
    bucket_of,
    find_endpoint,
    optional_path,
)
from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import SHORT_LIFE_SECONDS, CredentialsError, ProfileProvider
from s3posixfs.metrics.address import parse_address
from s3posixfs.s3.check import check, explain
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.errors import ConnectionFailed
from s3posixfs.s3.store import S3ObjectStore

_TLS_SECONDS = 5.0
_SOON_SECONDS = 14 * 86400
_REGION_CODES = frozenset(
    {
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)
_KEY_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
)
_BUCKET_CODES = frozenset({"NoSuchBucket", "InvalidBucketName", "AccessDenied"})


def about_store(source: str | None, options: MountOptions) -> list[Finding]:
    """All that one connection shows, in the order in which a mount meets it."""
    options = with_service_credentials(options, os.environ)
    try:
        endpoint = find_endpoint(options)
    except OperatorError as error:
        return [failed("endpoint", error)]
    return trio.run(_look, source, options, endpoint)


async def _look(source: str | None, options: MountOptions, endpoint: Endpoint) -> list[Finding]:
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(s3_client(options, endpoint, SystemClock()))
            sts = sts_client(options, endpoint, client.clock)
        except OperatorError as error:
            return [failed("endpoint", error)]
        stack.callback(sts.close)
        provider = own_credentials(options, sts, client.clock)
        try:
            credentials = await provider.get()
        except CredentialsError as error:
            remedy = "give profile=NAME (and credentials_file=FILE) that has some"
            return [Finding("credentials", "failed", error.cause, remedy)]
        findings.extend(_credentials(options, credentials))
        store = client.acting_as(provider, options.text("profile") or "default")
        findings.extend(await _endpoint(client, store, source, endpoint, options))
        if all(finding.verdict != "failed" for finding in findings):
            findings.append(await _abilities(client, store, source, options))
    return findings


def _credentials(options: MountOptions, credentials: Credentials) -> Iterator[Finding]:
    name = options.text("profile") or "default"
    given = optional_path(options.text("credentials_file"))
    role = options.text("role_arn")
    method = ProfileProvider.method_of(options.text("profile"), given)
    text = f"profile {name}, from {method}" + (f", as role {role}" if role else "")
    if credentials.expires_at is None:
        yield Finding("credentials", "ok", f"{text}; they do not expire")
    else:
        left = credentials.expires_at - time.time()
        what = f"{text}; they expire in {left:,.0f} s and are then fetched anew"
        if left < SHORT_LIFE_SECONDS:
            remedy = "have them given for 3,600 s or more"
            yield Finding("credentials", "warning", what, remedy)
        else:
            yield Finding("credentials", "ok", what)
    shared = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    unsafe = about_credentials_file(given or Path(shared).expanduser())
    if unsafe is not None and "file" in method:
        yield unsafe


async def _endpoint(
    client: S3Client,
    store: S3ObjectStore,
    source: str | None,
    endpoint: Endpoint,
    options: MountOptions,
) -> list[Finding]:
    bucket, _, prefix = (source or "").strip("/").partition("/")
    answers = Finding("endpoint", "ok", f"{endpoint.url} answers")
    try:
        date = await check(store, bucket or None, prefix=prefix)
    except OperatorError as error:
        cause = error.__cause__
        if not isinstance(cause, S3Error) or isinstance(cause, ConnectionFailed):
            tls = isinstance(cause, ConnectionFailed) and cause.kind == "tls"
            return [failed("TLS" if tls else "endpoint", error)]
        if cause.code == "RequestTimeTooSkewed":
            return [answers, failed("clock", error)]
        if source is None and cause.code == "AccessDenied":
            remedy = "give SOURCE, to look at the bucket that is to be mounted"
            found = "may not be listed, which a mount of / needs"
            return [answers, Finding("list of buckets", "warning", found, remedy)]
        return [answers, failed(_subject(cause.code, bucket), error)]
    subject = f"bucket {bucket}" if bucket else "list of buckets"
    return [
        answers,
        await _tls(endpoint.url, options),
        clock(client.clock_offset or (date - time.time() if date else 0.0)),
        _region(endpoint.region, client.transport.region),
        Finding(subject, "ok", "can be listed"),
    ]


def _region(given: str, taken: str) -> Finding:
    # The client signs for what the store says, at the price of a refusal.
    if given != taken:
        found = f"{given} is signed for first, and the store wants {taken}"
        return Finding("region", "warning", found, f"give region={taken}")
    return Finding("region", "ok", f"{given}: requests signed for it are taken")


def _subject(code: str, bucket: str) -> str:
    if code in _REGION_CODES:
        return "region"
    if code in _KEY_CODES:
        return "credentials"
    if code in _BUCKET_CODES:
        return f"bucket {bucket}" if bucket else "list of buckets"
    return "endpoint"


async def _tls(url: str, options: MountOptions) -> Finding:
    parts = urlsplit(url)
    if parts.scheme == "http":
        try:
            parse_address(f"{parts.hostname}:{parts.port or 80}")
        except ValueError:
            return Finding(
                "TLS",
                "warning",
                "none: whoever is on the way can read and change what is transferred",
                "use https://, with ca_file=FILE where the store has a CA of its own",
            )
        return Finding("TLS", "ok", "none, and none is needed on this host itself")
    ends = await trio.to_thread.run_sync(
        _certificate_ends, parts.hostname or "", parts.port or 443, options.text("ca_file")
    )
    if ends is not None and ends - time.time() < _SOON_SECONDS:
        days = (ends - time.time()) / 86400
        return Finding("TLS", "warning", f"its certificate ends in {days:.0f} days", "renew it")
    until = "" if ends is None else time.strftime(" until %Y-%m-%d", time.gmtime(ends))
    return Finding("TLS", "ok", f"its certificate is valid{until}")


def _certificate_ends(host: str, port: int, ca_file: str | None) -> float | None:
    """When the certificate ends, seconds since the epoch; ``None`` where it cannot be told."""
    context = ssl.create_default_context(cafile=ca_file)
    try:
        with (
            socket.create_connection((host, port), timeout=_TLS_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            ends = (secure.getpeercert() or {}).get("notAfter")
    except OSError:
        return None
    return ssl.cert_time_to_seconds(str(ends)) if ends else None


async def _abilities(
    client: S3Client, store: S3ObjectStore, source: str | None, options: MountOptions
) -> Finding:
    subject = "abilities"
    if source is None:
        return Finding(subject, "note", "not looked at: give SOURCE, as to a mount")
    prefix = source.strip("/").partition("/")[2].strip("/")
    try:
        found = await client.probe(
            store,
            bucket_of(source),
            prefix=f"{prefix}/" if prefix else "",
            may_write=not options.flag("ro"),
        )
    except S3Error as error:
        return failed(subject, OperatorError(explain(error, store, bucket_of(source))))
    text = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in asdict(found).items())
    if client.traits.unprobed:
        why = "-o ro is given" if options.flag("ro") else "nothing may be written there"
        return Finding(subject, "note", f"taken as the least, for {why}: {text}")
    if not found.conditional_put:
        return Finding(
            subject,
            "warning",
            f"{text}: two hosts can both make one file at the same moment",
            "keep lock files that several hosts share off this mount",
        )
    return Finding(subject, "ok", text)
