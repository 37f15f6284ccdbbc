"""The store as one process: its parts put together, started and ended."""

from __future__ import annotations

import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from s3posixfs.core.clock import Clock
from s3posixfs.core.errors import OperatorError
from s3posixfs.core.rotating import Rotation
from s3posixfs.metrics import scrape
from s3posixfs.metrics.address import Address
from s3posixfs.metrics.loop_watch import LoopWatch
from s3posixfs.metrics.signals import heed_signals
from s3posixfs.store.application import StoreApplication
from s3posixfs.store.audit import AuditLog
from s3posixfs.store.authorise import Authoriser
from s3posixfs.store.backend.directory import DirectoryBackend
from s3posixfs.store.collecting import collect_leftovers
from s3posixfs.store.configurations import Configurations
from s3posixfs.store.expiring import Expirer
from s3posixfs.store.http_server import HttpServer, Limits, listen
from s3posixfs.store.ingest import Ingestor
from s3posixfs.store.lifecycle import DAY_SECONDS
from s3posixfs.store.metering import Metering
from s3posixfs.store.service import Service
from s3posixfs.store.state import State
from s3posixfs.store.threads import Bulk, Threads, share_a_processor

# Threads of one process: for what moves large bodies, and for each request (least, most).
_BULK_THREADS = 64
_READING_THREADS = (2, 32)
_WRITING_THREADS = (8, 64)
_MOST_OPEN_FILES = 65_536
_LEAST_SESSION_SECONDS = 900
# Lowers the shortest life of temporary credentials, so that tests can see them expire.
_TEST_VARIABLE = "S3POSIXFS_TEST_MIN_SESSION"
# Shortens the day of lifecycle rules, so that tests can see objects expire.
_TEST_DAY_VARIABLE = "S3POSIXFS_TEST_DAY"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What ``s3posixfs serve`` was told. ``domain`` is for virtual-hosted bucket names."""

    root: Path
    state: Path
    host: str
    port: int
    region: str = "us-east-1"
    domain: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    audit_rotation: Rotation = Rotation()  # noqa: RUF009 (frozen)
    metrics: Address | None = None


def tls_context(config: ServerConfig) -> ssl.SSLContext | None:
    """The TLS settings; ``None`` for plain HTTP, OperatorError where the files won't do."""
    if config.tls_cert is None and config.tls_key is None:
        return None
    if config.tls_cert is None or config.tls_key is None:
        raise OperatorError("TLS needs both --tls-cert and --tls-key; give both")
    for option, path in (("--tls-cert", config.tls_cert), ("--tls-key", config.tls_key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise OperatorError(
                f"cannot read {option} {path}: {error.strerror}; name a readable PEM file"
            ) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password instead of a prompt: an encrypted key is refused.
        context.load_cert_chain(config.tls_cert, config.tls_key, password="")
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise OperatorError(
            f"--tls-cert {config.tls_cert} and --tls-key {config.tls_key} are not a certificate "
            f"and its unencrypted key in PEM form ({reason}); "
            "name two files that belong together"
        ) from None
    return context


def open_listeners(config: ServerConfig) -> list[socket.socket]:
    """Listening sockets; OperatorError where the address can't be had."""
    try:
        return listen(config.host, config.port)
    except OSError as error:
        raise OperatorError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}; "
            "choose another with --listen HOST:PORT"
        ) from None


def prepare_root(root: Path, state: Path) -> None:
    """Make the folder of the objects; OperatorError unless it can be written.

    Folders in the root are buckets, so the state with its keys may not be among them.
    """
    if state.resolve().is_relative_to(root.resolve()):
        raise OperatorError(
            f"the state {state} lies in the root {root}, where it would be a bucket; "
            "name another with --state"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK | os.X_OK)
    except OSError as error:
        raise OperatorError(
            f"cannot make the folder {root}: {error.strerror}; name another with --root"
        ) from None
    if not writable:
        raise OperatorError(
            f"the folder {root} is not writable for this user; name another with --root"
        )


def base_url(config: ServerConfig, listeners: list[socket.socket]) -> str:
    """Where a client finds this server."""
    address = listeners[0].getsockname()
    host = config.host or "127.0.0.1"
    if ":" in host:
        host = f"[{host}]"
    scheme = "https" if config.tls_cert is not None else "http"
    return f"{scheme}://{host}:{address[1]}"


def least_session_seconds() -> int:
    """The shortest life of temporary credentials, which only tests lower."""
    return _lowered(_TEST_VARIABLE, _LEAST_SESSION_SECONDS)


def day_seconds() -> int:
    """The length of a day for lifecycle rules, which only tests shorten."""
    return _lowered(_TEST_DAY_VARIABLE, DAY_SECONDS)


def _lowered(variable: str, default: int) -> int:
    text = os.environ.get(variable)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise OperatorError(f"{variable} must be a whole number of seconds; set it so, or unset it")
    return min(int(text), default)


def raise_open_files() -> int:
    """Let this process open as many files as it may; how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


async def serve(
    config: ServerConfig,
    listeners: list[socket.socket],
    *,
    clock: Clock,
    ready: Callable[[], None],
    metering: Metering,
    metrics: socket.socket | None = None,
    number: int = 0,
    processes: int = 1,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight and return.

    ``number`` is that of this process among ``processes``. Calls ``ready`` once connections are
    accepted. ``metrics`` is where Prometheus asks for what ``metering`` has. Raises OperatorError
    where the state, the root, the certificate or the audit log can't be used. Closes ``listeners``.
    """
    least_session = least_session_seconds()
    day = day_seconds()
    tls = tls_context(config)
    prepare_root(config.root, config.state)
    bulk = Bulk(_BULK_THREADS, share_a_processor(number, processes))
    with (
        State.open(config.state, create=True, clock=clock) as state,
        closing(
            DirectoryBackend(config.root, user_of_uid=state.user_of_uid, clock=clock)
        ) as backend,
        closing(Threads(*_READING_THREADS)) as reading,
        closing(Threads(*_WRITING_THREADS)) as writing,
    ):
        audit = AuditLog(config.state / "audit.log", clock, rotation=config.audit_rotation)
        audit.open()
        service = Service(
            state=state,
            backend=backend,
            authoriser=Authoriser(state, backend, clock),
            ingestor=Ingestor(writing, bulk),
            configurations=Configurations(backend),
            clock=clock,
            region=config.region,
            reading=reading,
            writing=writing,
            least_session=least_session,
            day_seconds=day,
        )
        expirer = Expirer(
            backend,
            service.configurations,
            clock,
            audit,
            lock=config.state / "lifecycle.lock",
            day=day,
        )
        application = StoreApplication(service, audit, metering, domain=config.domain)
        limits = Limits.within(raise_open_files())
        server = HttpServer(
            application, bulk=bulk, tls=tls, limits=limits, connected=metering.connected
        )
        metering.began(clock.time())
        with (
            LoopWatch(metering.stalled),
            trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals,
        ):
            # What is done while the store ends is in the audit log too: that ends last.
            async with trio.open_nursery() as auditing:
                auditing.start_soon(audit.run)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_drain_on_signal, signals, server)
                    nursery.start_soon(expirer.run)
                    nursery.start_soon(
                        partial(
                            collect_leftovers, backend, lock=config.state / "collect.lock", day=day
                        )
                    )
                    await nursery.start(heed_signals)
                    if metrics is not None:
                        await nursery.start(scrape.serve, metrics, metering.families)
                    nursery.start_soon(reading.watch)
                    nursery.start_soon(writing.watch)
                    ready()
                    await server.serve(listeners)
                    nursery.cancel_scope.cancel()
                audit.close()


async def _drain_on_signal(signals: object, server: HttpServer) -> None:
    async for _ in signals:  # type: ignore[attr-defined]
        server.drain()
