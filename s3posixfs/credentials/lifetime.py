"""How long credentials have been held, and how long they still last."""

from __future__ import annotations

from dataclasses import dataclass

from s3posixfs.core.clock import Clock
from s3posixfs.core.types import Credentials
from s3posixfs.credentials.provider import margin_of


@dataclass(frozen=True, slots=True)
class Held:
    """Credentials, and what both clocks said when they came.

    The wall clock goes on while a machine sleeps, the monotonic one when somebody sets the
    wall clock back: the age is what the faster of the two says.
    """

    credentials: Credentials
    clock: Clock
    wall: float
    monotonic: float

    @classmethod
    def now(cls, credentials: Credentials, clock: Clock) -> Held:
        """Credentials that have come just now."""
        return cls(credentials, clock, clock.time(), clock.monotonic())

    @property
    def life(self) -> float:
        """Seconds from their coming to their end; infinite without one, not above 0 when they
        had ended before they came, by this clock."""
        expires_at = self.credentials.expires_at
        return float("inf") if expires_at is None else expires_at - self.wall

    @property
    def age(self) -> float:
        """Seconds since they came."""
        return max(self.clock.time() - self.wall, self.clock.monotonic() - self.monotonic)

    @property
    def valid(self) -> bool:
        """Whether they have not ended."""
        return self.age < self.life

    @property
    def usable(self) -> bool:
        """Whether they are not about to end either."""
        return self.age < self.life - margin_of(self.life)
