"""A TCP proxy on a real socket that a test can cut, as a network or a server may be."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Literal, Self

State = Literal["open", "refuses", "hangs"]


class CuttableProxy:
    """Forwards 127.0.0.1:``port`` to 127.0.0.1:``target``.

    ``refuse`` closes what is open and refuses what comes; ``hang`` takes connections, and what is
    sent on them, and never answers; ``mend`` forwards again, on the same port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._state: State = "open"
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = _listening(0)
        self.port = int(self._listener.getsockname()[1])
        self.connections = 0
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,))

    @property
    def url(self) -> str:
        """As an endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()

    def refuse(self) -> None:
        """Nobody listens any more."""
        self._state = "refuses"
        # A close alone does not wake a thread in accept().
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(10)
        self._drop()

    def hang(self) -> None:
        """Who connects, or is connected, hears nothing any more."""
        self._state = "hangs"
        self._drop()

    def mend(self) -> None:
        """Forward again."""
        before, self._state = self._state, "open"
        self._drop()
        if before == "refuses":
            self._listener = _listening(self.port)
            self._accepting = threading.Thread(target=self._accept, args=(self._listener,))
            self._accepting.start()

    def _drop(self) -> None:
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.socket() as server:
            with self._lock:
                self._open |= {client, server}
            try:
                if self._state == "hangs":
                    while client.recv(65536):
                        pass
                    return
                server.connect(("127.0.0.1", self._target))
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server)
                back.join()
            except OSError:
                return
            finally:
                with self._lock:
                    self._open -= {client, server}


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
