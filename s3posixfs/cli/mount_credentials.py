"""Where the credentials of a mount and its identity map come from, by its options."""

from __future__ import annotations

from pathlib import Path

from s3posixfs.cli.mount_options import MountOptions
from s3posixfs.cli.mount_request import DEFAULT_IDENTITIES, Endpoint, optional_path, sts_url
from s3posixfs.core.clock import Clock
from s3posixfs.credentials.provider import (
    AssumeRoleProvider,
    CredentialsProvider,
    ProfileProvider,
)
from s3posixfs.fs.signers_s3 import (
    FileIdentities,
    IdentitySource,
    NoIdentities,
    StoreIdentities,
    StsSettings,
)
from s3posixfs.s3.store import S3ObjectStore


def own_credentials(options: MountOptions, endpoint: Endpoint, clock: Clock) -> CredentialsProvider:
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
    settings = sts_settings(options, endpoint)
    return AssumeRoleProvider(
        provider,
        sts_url=settings.url,
        region=settings.region,
        role_arn=role_arn,
        session_name="s3posixfs",
        clock=clock,
        duration=settings.duration,
        identity="daemon",
        ca_file=settings.ca_file,
    )


def sts_settings(options: MountOptions, endpoint: Endpoint) -> StsSettings:
    """How roles are assumed."""
    return StsSettings(
        url=sts_url(options, endpoint),
        region=endpoint.region,
        duration=options.whole("session_duration"),
        ca_file=optional_path(options.text("ca_file")),
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
