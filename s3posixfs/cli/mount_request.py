"""What a mount was asked for, with what the AWS profile adds: no connection is made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from s3posixfs.cli.mount_options import MountOptions
from s3posixfs.cli.mountpoints import default_cache_folder
from s3posixfs.core.errors import OperatorError
from s3posixfs.fs.config import Access, AttributesFrom, Conflict, FsConfig, SignAs, Unmapped

DEFAULT_IDENTITIES = Path("/etc/s3posixfs/identities.toml")


def bucket_of(source: str) -> str | None:
    """The bucket that a SOURCE names; None for all buckets."""
    return source.strip("/").partition("/")[0] or None


def cache_folder(options: MountOptions, mountpoint: Path, source: str) -> Path:
    """Where the mount stages data and, unless told otherwise, logs."""
    given = optional_path(options.text("cache_dir"))
    return given if given is not None else default_cache_folder(mountpoint, source)


@dataclass(frozen=True, slots=True)
class MountRequest:
    """What ``s3posixfs mount`` was asked for. Holds no secret."""

    source: str
    mountpoint: Path
    options: MountOptions

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MountRequest:
        values = dict(data["values"])
        values["trusted_owners"] = tuple(values["trusted_owners"])
        options = MountOptions(values, frozenset(data["kernel"]))
        return cls(str(data["source"]), Path(data["mountpoint"]), options)

    @property
    def bucket(self) -> str | None:
        """The bucket to mount; None for all."""
        return bucket_of(self.source)

    @property
    def prefix(self) -> str:
        """The prefix below the bucket, with a slash at its end, or empty."""
        rest = self.source.strip("/").partition("/")[2].strip("/")
        return f"{rest}/" if rest else ""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go, after the profile was asked for what the options leave open."""

    url: str
    region: str


def find_endpoint(options: MountOptions) -> Endpoint:
    """Endpoint and region: by option, else by the AWS profile and environment, else AWS."""
    import botocore.exceptions
    import botocore.session

    session = botocore.session.Session(profile=options.text("profile"))
    url, region = options.text("endpoint_url"), options.text("region")
    try:
        region = region or session.get_config_variable("region") or "us-east-1"
        if url is None:
            client = session.create_client(
                "s3",
                region_name=region,
                aws_access_key_id="-",
                aws_secret_access_key="-",  # noqa: S106
            )
            url = str(client.meta.endpoint_url)
            client.close()
    except botocore.exceptions.ProfileNotFound:
        if options.text("credentials_file") is None or url is None:
            raise OperatorError(
                f"there is no profile {options.text('profile')!r} in the AWS configuration; "
                "give profile=NAME of one that exists, or credentials_file=FILE"
            ) from None
        region = region or "us-east-1"
    except botocore.exceptions.BotoCoreError as error:
        raise OperatorError(
            f"the AWS configuration cannot be used: {error}; "
            "mend it, or name another profile with profile=NAME"
        ) from None
    return Endpoint(url, region)


def filesystem_config(request: MountRequest) -> FsConfig:
    """The values that the filesystem heeds."""
    options = request.options
    return FsConfig(
        bucket=request.bucket,
        prefix=request.prefix,
        uid=options.whole("uid"),
        gid=options.whole("gid"),
        file_mode=options.whole("file_mode"),
        dir_mode=None if options.values["dir_mode"] is None else options.whole("dir_mode"),
        metadata_ttl=options.number("metadata_ttl"),
        cached_entries=options.whole("cached_entries"),
        attributes=cast(AttributesFrom, options.text("attributes")),
        access=cast(Access, options.text("access")),
        access_ttl=options.number("access_ttl"),
        sign_as=cast(SignAs, options.text("sign_as")),
        unmapped=cast(Unmapped, options.text("unmapped")),
        read_only=options.flag("ro"),
        trusted_owners=frozenset(options.names("trusted_owners")),
        writeback_limit=options.whole("writeback_limit"),
        conflict=cast(Conflict, options.text("conflict")),
    )


def sts_url(options: MountOptions, endpoint: Endpoint) -> str:
    """Where AssumeRole is called: by option, AWS's STS for AWS, else the store's own port."""
    given = options.text("sts_endpoint_url")
    if given is not None:
        return given
    if endpoint.url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return endpoint.url.replace("//s3.", "//sts.")
    return endpoint.url


def optional_path(text: str | None) -> Path | None:
    """A path option's value."""
    return Path(text) if text is not None else None
