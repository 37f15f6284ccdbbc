"""Where credentials come from: given, by the AWS configuration, or assumed through STS.

boto3 does what is not hot here (profiles, credential processes, SSO, web identity, containers and
instances); it blocks, so every call of it runs in a thread.
"""

from __future__ import annotations

import errno
import json
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import S3Error
from s3posixfs.core.types import Credentials

if TYPE_CHECKING:
    from botocore.session import Session

logger = logging.getLogger(__name__)

# A credential process or a metadata service that says nothing for so long is given up.
PROFILE_SECONDS = 60.0
# Below this life a source is asked too often to be kind to it.
SHORT_LIFE_SECONDS = 1800.0
# Credentials this close to their end (seconds) count as ended; a tenth of a short life.
MARGIN_SECONDS = 60.0
MARGIN_SHARE = 0.1
RGW_LONGEST_SECONDS = 3600
_REFUSED = frozenset({400, 401, 403})


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


class AssumesRoles(Protocol):
    """An STS endpoint. Raises S3Error."""

    async def assume_role(
        self,
        source: Credentials,
        *,
        role_arn: str,
        session_name: str,
        duration: int,
        policy: str | None,
    ) -> Credentials: ...


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
    """Keeps what was fetched until shortly before its end; one fetch at a time.

    What its source has just given is handed out even if it has ended by this host's clock:
    that clock may be wrong, and the store will say.
    """

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
            if fetched.expires_at is None:
                self._use_until = float("inf")
            else:
                life = fetched.expires_at - self._clock.time()
                self._use_until = fetched.expires_at - margin_of(life)
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
        # One of its own: a program that hangs holds up nobody else, and is not started again.
        self._thread = trio.CapacityLimiter(1)
        self._warned = False

    async def _fetch(self) -> Credentials:
        try:
            with trio.fail_after(PROFILE_SECONDS):
                found = await trio.to_thread.run_sync(
                    self._load, limiter=self._thread, abandon_on_cancel=True
                )
        except trio.TooSlowError:
            raise CredentialsError(
                self._identity,
                f"{self._where()} gave no credentials within {PROFILE_SECONDS:.0f} s",
            ) from None
        life = (found.expires_at or float("inf")) - self._clock.time()
        if life < SHORT_LIFE_SECONDS and not self._warned:
            self._warned = True
            logger.warning(
                "credentials of %s live only %.0f s; have %s give ones for 3,600 s or more",
                self._identity,
                life,
                self._where(),
            )
        return found

    def _where(self) -> str:
        return f"profile {self._profile!r}" if self._profile else "the AWS configuration"

    @staticmethod
    def method_of(profile: str | None, credentials_file: Path | None) -> str:
        """By which of boto3's ways the configuration gives credentials, for people. Blocking."""
        session = _session(profile)
        if credentials_file is not None:
            session.set_config_variable("credentials_file", str(credentials_file))
        return str(getattr(session.get_credentials(), "method", "nowhere"))

    def _load(self) -> Credentials:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            session = _session(self._profile)
            if self._credentials_file is not None:
                session.set_config_variable("credentials_file", str(self._credentials_file))
            found: Any = session.get_credentials()
            if found is None:
                raise CredentialsError(self._identity, f"{self._where()} has no credentials")
            frozen = found.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError, ValueError, KeyError) as error:
            raise CredentialsError(self._identity, f"{self._where()}: {_cause(error)}") from error
        # Only the refreshable kinds have an expiry, in a field without a public name.
        expiry = getattr(found, "_expiry_time", None)
        return Credentials(
            frozen.access_key,
            frozen.secret_key,
            frozen.token or None,
            expiry.timestamp() if expiry is not None else None,
        )


class AssumeRoleProvider(_Fetching):
    """Temporary credentials from ``AssumeRole`` at ``sts``, called with ``source``'s.

    ``duration`` is in seconds; ``policy`` a session policy as JSON text, sent without white
    space (Ceph RGW takes no other). Fetches anew when asked shortly before the end; wrap it
    in a :class:`~s3posixfs.credentials.refresher.Refresher` to have that done ahead of time.
    """

    def __init__(
        self,
        source: CredentialsProvider,
        sts: AssumesRoles,
        *,
        role_arn: str,
        session_name: str,
        clock: Clock,
        duration: int = 3600,
        policy: str | None = None,
        identity: str = "",
    ) -> None:
        super().__init__(identity or role_arn, clock)
        self._source = source
        self._sts = sts
        self._role_arn = role_arn
        self._session_name = session_name_of(session_name)
        self._duration = duration
        self._policy = compact_json(policy) if policy is not None else None

    async def _fetch(self) -> Credentials:
        try:
            source = await self._source.get()
            try:
                return await self._assume(source)
            except S3Error as error:
                if error.status not in _REFUSED:
                    raise
                # The key may have been rotated, or its own session be over.
                newer = await self._source.refresh(source)
                if newer is source:
                    raise
            return await self._assume(newer)
        except CredentialsError as error:
            own = error.identity == self._identity
            raise CredentialsError(self._identity, error.cause if own else str(error)) from error
        except S3Error as error:
            raise CredentialsError(self._identity, self._explained(error)) from error

    async def _assume(self, source: Credentials) -> Credentials:
        return await self._sts.assume_role(
            source,
            role_arn=self._role_arn,
            session_name=self._session_name,
            duration=self._duration,
            policy=self._policy,
        )

    def _explained(self, error: S3Error) -> str:
        cause = f"AssumeRole: {error}"
        if error.code == "InvalidArgument" and self._duration > RGW_LONGEST_SECONDS:
            cause += f"; Ceph RGW gives at most {RGW_LONGEST_SECONDS:,} s"
        return cause


def _session(profile: str | None) -> Session:
    import botocore.session

    return botocore.session.Session(profile=profile)


def _cause(error: Exception) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        detail = response.get("Error", {})
        code = detail.get("Code", "")
        message = detail.get("Message", "")
        if code:
            return f"{code}: {message}" if message else str(code)
    if isinstance(error, KeyError):
        return f"{error} is missing in what was given"
    if isinstance(error, ValueError):
        # Its text may quote what was to be read, which may hold a secret.
        return "what was given cannot be read"
    return " ".join(str(error).split())


def session_name_of(text: str) -> str:
    """``text`` as a RoleSessionName: 2 to 64 of ``A-Z a-z 0-9 _ + = , . @ -`` (AWS STS)."""
    return re.sub(r"[^\w+=,.@-]", "-", text, flags=re.ASCII)[:64].ljust(2, "-")


def compact_json(text: str) -> str:
    """A JSON text without white space. Raises ValueError when it is none."""
    return json.dumps(json.loads(text), separators=(",", ":"))
