"""Where credentials come from: given, by the AWS configuration, or assumed through STS.

boto3 does what is not hot here (profiles, credential processes, SSO, web identity, AssumeRole);
it blocks, so every call of it runs in a thread.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials

if TYPE_CHECKING:
    from botocore.session import Session

# Credentials this close to their end (seconds) count as ended; a tenth of a short life.
MARGIN_SECONDS = 60.0
MARGIN_SHARE = 0.1
RGW_LONGEST_SECONDS = 3600


class CredentialsError(S3Error):
    """An identity has no valid credentials: a program sees EACCES.

    The message names the identity and the cause, never a secret.
    """

    def __init__(self, identity: str, cause: str) -> None:
        who = f"identity {identity!r}" if identity else "these credentials"
        super().__init__("CredentialsUnavailable", f"{who}: {cause}", status=0)
        self.identity = identity
        self.cause = cause

    @property
    def errno(self) -> int:
        return errno.EACCES


class CredentialsProvider(Protocol):
    """Gives an identity's credentials. Both methods raise :class:`CredentialsError`."""

    async def get(self) -> Credentials:
        """Credentials that are valid now; without waiting where they are at hand.

        The same object as long as they are the same, so that a signer may be kept with them.
        """
        ...

    async def refresh(self, rejected: Credentials) -> Credentials:
        """Credentials newer than ``rejected``, which the store has refused, where there are any."""
        ...


def margin_of(life: float) -> float:
    """Seconds before its end at which a pair that lives ``life`` seconds is not used any more."""
    return min(MARGIN_SECONDS, MARGIN_SHARE * max(life, 0.0))


class StaticProvider:
    """One key pair that does not change."""

    __slots__ = ("_credentials",)

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def get(self) -> Credentials:
        return self._credentials

    async def refresh(self, rejected: Credentials) -> Credentials:
        return self._credentials


class _Fetching:
    """Keeps what was fetched until shortly before its end; one fetch at a time."""

    def __init__(self, identity: str, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._lock = trio.Lock()
        self._current: Credentials | None = None
        self._use_until = 0.0

    async def get(self) -> Credentials:
        current = self._current
        if current is not None and self._clock.time() < self._use_until:
            return current
        return await self._renew(current)

    async def refresh(self, rejected: Credentials) -> Credentials:
        return await self._renew(rejected)

    async def _renew(self, old: Credentials | None) -> Credentials:
        async with self._lock:
            current = self._current
            if current is not None and current is not old and self._clock.time() < self._use_until:
                return current
            fetched = await self._fetch()
            now = self._clock.time()
            if fetched.expires_at is None:
                self._use_until = float("inf")
            else:
                self._use_until = fetched.expires_at - margin_of(fetched.expires_at - now)
                if self._use_until <= now:
                    raise CredentialsError(
                        self._identity, "what was given has expired, by this host's clock"
                    )
            if fetched == current and current is not None:
                return current  # the same pair as before: keep its signer
            self._current = fetched
            return fetched

    async def _fetch(self) -> Credentials:
        raise NotImplementedError


class ProfileProvider(_Fetching):
    """The AWS configuration's credentials: a named profile, or the default chain.

    ``files`` are shared-credentials files to read instead of the user's own. A refresh reads
    the configuration anew, so that rotated keys are found.
    """

    def __init__(
        self,
        profile: str | None,
        *,
        clock: Clock,
        identity: str = "",
        credentials_file: Path | None = None,
    ) -> None:
        super().__init__(identity or profile or "default", clock)
        self._profile = profile
        self._credentials_file = credentials_file

    async def _fetch(self) -> Credentials:
        return await trio.to_thread.run_sync(self._load)

    def _load(self) -> Credentials:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            session = _session(self._profile)
            if self._credentials_file is not None:
                session.set_config_variable("credentials_file", str(self._credentials_file))
            found: Any = session.get_credentials()
            if found is None:
                where = f"profile {self._profile!r}" if self._profile else "the AWS configuration"
                raise CredentialsError(self._identity, f"{where} has no credentials")
            frozen = found.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError) as error:
            raise CredentialsError(self._identity, _cause(error)) from error
        # Only the refreshable kinds have an expiry, in a field without a public name.
        expiry = getattr(found, "_expiry_time", None)
        return Credentials(
            frozen.access_key,
            frozen.secret_key,
            frozen.token or None,
            expiry.timestamp() if expiry is not None else None,
        )


class AssumeRoleProvider(_Fetching):
    """Temporary credentials from ``AssumeRole`` at ``sts_url``, called with ``source``'s.

    ``duration`` is in seconds; ``policy`` a session policy as JSON text, sent without white
    space (Ceph RGW takes no other). Fetches anew when asked shortly before the end; wrap it
    in a :class:`~s3posixfs.credentials.refresher.Refresher` to have that done ahead of time.
    """

    def __init__(
        self,
        source: CredentialsProvider,
        *,
        sts_url: str,
        region: str,
        role_arn: str,
        session_name: str,
        clock: Clock,
        duration: int = 3600,
        policy: str | None = None,
        identity: str = "",
        ca_file: Path | None = None,
    ) -> None:
        super().__init__(identity or role_arn, clock)
        self._source = source
        self._sts_url = sts_url
        self._region = region
        self._role_arn = role_arn
        self._session_name = session_name_of(session_name)
        self._duration = duration
        self._policy = compact_json(policy) if policy is not None else None
        self._ca_file = ca_file

    async def _fetch(self) -> Credentials:
        source = await self._source.get()
        return await trio.to_thread.run_sync(self._assume, source)

    def _assume(self, source: Credentials) -> Credentials:
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        arguments: dict[str, Any] = {
            "RoleArn": self._role_arn,
            "RoleSessionName": self._session_name,
            "DurationSeconds": self._duration,
        }
        if self._policy is not None:
            arguments["Policy"] = self._policy
        try:
            client: Any = _session(None).create_client(
                "sts",
                region_name=self._region,
                endpoint_url=self._sts_url,
                aws_access_key_id=source.access_key,
                aws_secret_access_key=source.secret_key,
                aws_session_token=source.session_token,
                verify=str(self._ca_file) if self._ca_file else None,
                config=Config(
                    connect_timeout=5,
                    read_timeout=15,
                    retries={"total_max_attempts": 2},
                    # How short a session may be is the store's to say.
                    parameter_validation=False,
                ),
            )
            client.meta.events.register("before-parse.sts.AssumeRole", _wrap_bare_error)
            try:
                answer = client.assume_role(**arguments)["Credentials"]
            finally:
                client.close()
            return Credentials(
                answer["AccessKeyId"],
                answer["SecretAccessKey"],
                answer["SessionToken"],
                answer["Expiration"].timestamp(),
            )
        except (BotoCoreError, ClientError, OSError, KeyError) as error:
            cause = _cause(error)
            if cause.startswith("InvalidArgument") and self._duration > RGW_LONGEST_SECONDS:
                cause += f"; Ceph RGW gives at most {RGW_LONGEST_SECONDS:,} s"
            raise CredentialsError(self._identity, cause) from error


def _session(profile: str | None) -> Session:
    import botocore.session

    return botocore.session.Session(profile=profile)


def _wrap_bare_error(response_dict: dict[str, Any], **_: object) -> None:
    """Ceph RGW sends ``<Error>`` without STS's ``<ErrorResponse>``: botocore reads only that."""
    body: bytes = response_dict["body"]
    start = body.find(b"<Error>")
    if response_dict["status_code"] >= 300 and start >= 0 and b"<ErrorResponse" not in body:
        response_dict["body"] = b"<ErrorResponse>" + body[start:] + b"</ErrorResponse>"


def _cause(error: Exception) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        detail = response.get("Error", {})
        code = detail.get("Code", "")
        message = detail.get("Message", "")
        if code:
            return f"{code}: {message}" if message else str(code)
    if isinstance(error, KeyError):
        return f"the answer of the STS endpoint has no {error}"
    return " ".join(str(error).split())


def session_name_of(text: str) -> str:
    """``text`` as a RoleSessionName: 2 to 64 of ``A-Z a-z 0-9 _ + = , . @ -`` (AWS STS)."""
    return re.sub(r"[^\w+=,.@-]", "-", text, flags=re.ASCII)[:64].ljust(2, "-")


def compact_json(text: str) -> str:
    """A JSON text without white space. Raises ValueError when it is none."""
    return json.dumps(json.loads(text), separators=(",", ":"))
