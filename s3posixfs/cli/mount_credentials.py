"""Where the credentials of a mount and its identity map come from, by its options."""

from __future__ import annotations

import random
from pathlib import Path

from s3posixfs.cli.mount_options import MountOptions
from s3posixfs.cli.mount_request import DEFAULT_IDENTITIES, Endpoint, optional_path, sts_url
from s3posixfs.core.clock import StoreClock, SystemClock
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsProvider,
    ProfileProvider,
)
from s3posixfs.fs.signers_s3 import (
    CredentialSettings,
    FileIdentities,
    IdentitySource,
    NoIdentities,
    StoreIdentities,
)
from s3posixfs.s3.client import S3Client
from s3posixfs.s3.store import S3ObjectStore
from s3posixfs.s3.sts import StsClient
from s3posixfs.s3.traits import parse_settings


def s3_client(options: MountOptions, endpoint: Endpoint, clock: SystemClock) -> S3Client:
    """The store as a mount reaches it; an async context manager. Raises OperatorError."""
    return S3Client(
        endpoint.url,
        region=endpoint.region,
        clock=clock,
        path_style=not endpoint.url.endswith(".amazonaws.com"),
        ca_file=optional_path(options.text("ca_file")),
        settings=dict(parse_settings(options.text("capabilities") or "")),
    )


def sts_client(options: MountOptions, endpoint: Endpoint, clock: StoreClock) -> StsClient:
    """The STS endpoint that roles are assumed at; close it when done. Raises OperatorError."""
    return StsClient(
        sts_url(options, endpoint),
        region=endpoint.region,
        clock=clock,
        random=random.random,
        ca_file=optional_path(options.text("ca_file")),
    )


def own_credentials(
    options: MountOptions, sts: StsClient, clock: StoreClock
) -> CredentialsProvider:
    """Those that the mount signs its own requests with; nothing is fetched yet."""
    provider: CredentialsProvider = ProfileProvider(
        options.text("profile"),
        clock=clock,
        identity=options.text("profile") or "default",
        credentials_file=optional_path(options.text("credentials_file")),
    )
    role_arn = options.text("role_arn")
    if role_arn is None:
        return provider
    return AssumeRoleProvider(
        provider,
        sts,
        role_arn=role_arn,
        session_name="s3posixfs",
        clock=clock,
        duration=options.whole("session_duration"),
        identity="daemon",
    )


def credential_settings(options: MountOptions, sts: StsClient) -> CredentialSettings:
    """How identities get theirs."""
    return CredentialSettings(
        sts,
        duration=options.whole("session_duration"),
        credentials_file=optional_path(options.text("credentials_file")),
    )


def identity_source(options: MountOptions, store: S3ObjectStore) -> IdentitySource:
    """The identity file, or the store that ``store`` asks as the mount itself."""
    given = options.text("identities")
    if given == "auto":
        return StoreIdentities(store)
    if given is not None:
        return FileIdentities(Path(given))
    if DEFAULT_IDENTITIES.exists():
        return FileIdentities(DEFAULT_IDENTITIES)
    return NoIdentities()
