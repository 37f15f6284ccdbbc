"""What systemd is told by a service of ``Type=notify``: ready, state, alive, stopping.

sd_notify(3): lines of ``NAME=value`` in one datagram to the Unix socket that ``NOTIFY_SOCKET``
names (``@`` stands for the zero byte of an abstract one). Without systemd it says nothing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress

import trio

# How often the state is told where no watchdog wants to hear more often, in seconds.
STATE_SECONDS = 10.0
# How much longer than now a stop that goes on may take, in seconds; told again before that ends.
STOPPING_SECONDS = 30.0


class Notifier:
    """The service manager's ear. ``watchdog`` is the longest silence in seconds, or ``None``."""

    def __init__(self, address: str | None, watchdog: float | None = None) -> None:
        self._address = address
        self._stopping = False
        self.watchdog = watchdog

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Notifier:
        """As the service manager has set it, for this process alone: children do not inherit it."""
        address = environment.pop("NOTIFY_SOCKET", None)
        microseconds = environment.pop("WATCHDOG_USEC", "")
        meant = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watchdog = int(microseconds) / 1e6 if meant and microseconds.isdigit() else None
        return cls(address, watchdog)

    @property
    def listening(self) -> bool:
        """Whether anybody hears."""
        return bool(self._address)

    def ready(self, state: str) -> None:
        """The mount answers, or a reload is done."""
        self._tell(READY="1", STATUS=state)

    def reloading(self) -> None:
        """A reload begins; ``ready`` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell(RELOADING="1", MONOTONIC_USEC=str(microseconds), STATUS="reloading")

    def stopping(self, state: str) -> None:
        """The end has begun; ``keep`` asks for more time for as long as it lasts."""
        self._stopping = True
        self._tell(STOPPING="1", STATUS=state, **self._more_time())

    def failed(self, reason: str) -> None:
        """Why there will be nothing."""
        self._tell(STATUS=reason, ERRNO="5")

    async def keep(self, state: Callable[[], str]) -> None:
        """Tell the state and that the loop turns, until cancelled."""
        if not self.listening:
            return
        pause = min(STATE_SECONDS, self.watchdog / 3 if self.watchdog else STATE_SECONDS)
        while True:
            await trio.sleep(pause)
            self._tell(STATUS=state(), WATCHDOG="1", **self._more_time())

    def _more_time(self) -> dict[str, str]:
        if not self._stopping:
            return {}
        return {"EXTEND_TIMEOUT_USEC": str(int(STOPPING_SECONDS * 1e6))}

    def _tell(self, **fields: str) -> None:
        if not self._address:
            return
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in fields.items())
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        # A manager that does not listen is no reason to end, nor to wait.
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection,
        ):
            connection.setblocking(False)
            connection.sendto(text.encode(), address)
