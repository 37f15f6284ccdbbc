"""The mount daemon: wires credentials, client, filesystem and FUSE, and reports when it answers.

Run as ``python -m s3posixfs.cli.daemon SOURCE MOUNTPOINT FD`` by ``s3posixfs mount``, which writes
the options as JSON to its standard input and reads one line of JSON from FD. It never forks, and
leaves the session of who mounts once it has mounted.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from s3posixfs.cli.control import Command, serve_control
from s3posixfs.cli.logs import LEVELS, set_up
from s3posixfs.cli.mount_credentials import (
    credential_settings,
    identity_source,
    own_credentials,
    s3_client,
    sts_client,
)
from s3posixfs.cli.mount_options import MountOptions
from s3posixfs.cli.mount_report import MountReport
from s3posixfs.cli.mount_request import (
    MountRequest,
    cache_folder,
    filesystem_config,
    find_endpoint,
    optional_path,
)
from s3posixfs.cli.mountpoints import control_socket
from s3posixfs.cli.notify import Notifier
from s3posixfs.cli.utab import name_umount_helper
from s3posixfs.core.clock import SystemClock
from s3posixfs.core.errors import OperatorError, S3Error
from s3posixfs.core.rotating import Rotation
from s3posixfs.credentials.provider import CredentialsError, CredentialsProvider
from s3posixfs.credentials.refresher import Refresher
from s3posixfs.data import disk_cache
from s3posixfs.data.block_cache import BlockCache
from s3posixfs.data.budget import MemoryBudget
from s3posixfs.data.disk_cache import DiskCache
from s3posixfs.data.parts import UploadSettings
from s3posixfs.data.reader import Readers
from s3posixfs.data.staging import StagingArea, StagingSettings
from s3posixfs.fs.audit_log import AuditLog
from s3posixfs.fs.filesystem import FileSystem
from s3posixfs.fs.signers_s3 import S3Signers, owner_id_of
from s3posixfs.fuse.session import SessionOptions, serve
from s3posixfs.metrics import scrape
from s3posixfs.metrics.address import parse_address
from s3posixfs.metrics.loop_watch import LoopWatch
from s3posixfs.metrics.signals import heed_signals, set_level
from s3posixfs.s3.check import check

logger = logging.getLogger("s3posixfs")

_PR_SET_DUMPABLE = 4


class Mount:
    """One running mount: everything it is made of, and what it answers about itself."""

    def __init__(
        self, request: MountRequest, ready: Callable[[], None], notifier: Notifier
    ) -> None:
        self._request = request
        self._ready = ready
        self._notifier = notifier
        self._clock = SystemClock()
        self._started = time.time()

    async def run(self) -> None:
        """Serve until unmounted or told to stop; everything dirty is uploaded then.

        Raises OperatorError before ``ready`` for what the person who mounts can mend.
        """
        request, options = self._request, self._request.options
        endpoint = await trio.to_thread.run_sync(find_endpoint, options)
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(s3_client(options, endpoint, self._clock))
            sts = await stack.enter_async_context(sts_client(options, endpoint, client.clock))
            loop = stack.enter_context(LoopWatch())
            nursery = await stack.enter_async_context(trio.open_nursery())
            await nursery.start(heed_signals)
            # Also over a profile: one that assumes a role, or asks a process, gives what expires.
            credentials = Refresher(
                own_credentials(options, sts, client.clock),
                nursery=nursery,
                clock=client.clock,
                random=random.random,
                name="daemon",
            )
            await _first_credentials(credentials)
            store = client.acting_as(credentials, "daemon")
            await check(store, request.bucket, prefix=request.prefix)
            signers = S3Signers(
                client,
                credentials,
                daemon_owner_id=await owner_id_of(store),
                source=identity_source(options, store),
                settings=credential_settings(options, sts),
                trusted_owners=frozenset(options.names("trusted_owners")),
                nursery=nursery,
            )
            await signers.load()
            await client.probe(
                store, request.bucket, prefix=request.prefix, may_write=not options.flag("ro")
            )
            memory = options.whole("memory_limit")
            readers = Readers(
                cache=BlockCache(memory), budget=MemoryBudget(memory), nursery=nursery
            )
            folder = cache_folder(options, request.mountpoint, request.source)
            staging = StagingArea(
                folder,
                memory_limit=memory // 4,
                disk_limit=None,
                clock=self._clock,
                readers=readers,
                owed_to=endpoint.url if options.flag("writeback") else None,
                endpoint=endpoint.url,
                settings=_staging_settings(options),
            )
            stack.callback(staging.close)
            readers.disk = _disk_cache(options, folder, endpoint.url, nursery)
            audit = self._audit_log()
            filesystem = FileSystem(
                filesystem_config(request),
                signers,
                readers=readers,
                staging=staging,
                clock=self._clock,
                nursery=nursery,
                audit=audit,
            )
            await filesystem.start()
            report = MountReport(
                source=request.source,
                read_only=options.flag("ro"),
                started=self._started,
                filesystem=filesystem,
                client=client,
                signers=signers,
                credentials=credentials,
                readers=readers,
                staging=staging,
                loop=loop,
            )
            metrics = options.text("metrics")
            if metrics is not None:
                address = parse_address(metrics)
                listener = scrape.bind(address)
                stack.callback(scrape.release, address)
                await nursery.start(scrape.serve, listener, report.families)
            commands = self._commands(filesystem, report)
            await nursery.start(serve_control, control_socket(request.mountpoint), commands)
            nursery.start_soon(signers.run)
            nursery.start_soon(self._notifier.keep, lambda: state_line(filesystem.status()))
            nursery.start_soon(self._reload_on_hangup, signers, credentials)
            if audit is not None:
                nursery.start_soon(audit.run)
            left = await self._serve(filesystem)
            if audit is not None:
                await audit.write()
            nursery.cancel_scope.cancel()
        for path in left:
            logger.error("not in S3: %s", path)

    async def _reload_on_hangup(self, signers: S3Signers, credentials: Refresher) -> None:
        with trio.open_signal_receiver(signal.SIGHUP) as received:
            async for _ in received:
                self._notifier.reloading()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(credentials.renew)
                    nursery.start_soon(signers.reload)
                logger.info("identities and credentials were read again")
                self._notifier.ready("identities and credentials were read again")

    def _audit_log(self) -> AuditLog | None:
        options = self._request.options
        path = optional_path(options.text("audit_log"))
        if path is None:
            return None
        if Path(os.path.realpath(path)).is_relative_to(self._request.mountpoint):
            raise OperatorError(f"audit_log={path} is inside the mount: give a file elsewhere")
        rotation = Rotation(options.whole("audit_size"), options.whole("audit_keep"))
        audit = AuditLog(path, self._clock, rotation)
        audit.open()
        return audit

    async def _serve(self, filesystem: FileSystem) -> tuple[str, ...]:
        options = self._request.options
        try:
            return await serve(
                filesystem,
                str(self._request.mountpoint),
                SessionOptions(
                    source=self._request.source,
                    allow_other=options.flag("allow_other"),
                    extra=self._request.options.kernel,
                    **_drain_bound(options),
                ),
                ready=self._ready,
                ending=lambda: self._notifier.stopping("uploading what is left"),
            )
        except RuntimeError as error:
            raise OperatorError(
                f"cannot mount at {self._request.mountpoint}: {error}; "
                "`s3posixfs doctor` says what is missing"
            ) from None

    def _commands(self, filesystem: FileSystem, report: MountReport) -> dict[str, Command]:
        async def status(message: Mapping[str, Any]) -> Mapping[str, Any]:
            await trio.lowlevel.checkpoint()
            return report.status()

        async def log_level(message: Mapping[str, Any]) -> Mapping[str, Any]:
            await trio.lowlevel.checkpoint()
            level = str(message.get("level"))
            if level not in LEVELS:
                return {"error": f"the level is one of {', '.join(LEVELS)}"}
            return {"before": set_level(level), "level": level}

        options = self._request.options

        async def drain(message: Mapping[str, Any]) -> Mapping[str, Any]:
            left: tuple[str, ...] = ()
            with trio.move_on_after(float(message.get("wait", 1.0))):
                left = await filesystem.drain()
            state = filesystem.status()
            answer: dict[str, Any] = {
                name: max(int(str(state.get(f"{kind}_{name}", 0))) for kind in ("dirty", "queued"))
                for name in ("files", "bytes")
            }
            answer = {f"dirty_{name}": count for name, count in answer.items()}
            if left:
                answer["error"] = f"cannot upload {left[0]}"
            if left and state.get("queued_files"):
                cache = cache_folder(options, self._request.mountpoint, self._request.source)
                answer["error"] = (
                    f"{state['queued_files']} files ({state['queued_bytes']} bytes) are kept in "
                    f"{cache} until they are stored ({state['last_error']})"
                )
                answer["kept"] = True
            return answer

        async def given(message: Mapping[str, Any]) -> Mapping[str, Any]:
            await trio.lowlevel.checkpoint()
            return {"values": dict(options.values)}

        commands = {"status": status, "drain": drain, "log-level": log_level}
        return {**commands, "options": given}


def _disk_cache(
    options: MountOptions, folder: Path, origin: str, nursery: trio.Nursery
) -> DiskCache | None:
    """What was read and stays on disk, in the mount's own folder; else nothing is left of it."""
    blocks, limit = folder / "blocks", options.whole("disk_cache")
    if not limit:
        disk_cache.clear(blocks)
        return None
    try:
        return DiskCache(blocks, limit, origin, nursery)
    except OSError as error:
        raise OperatorError(
            f"{blocks} cannot be used ({error.strerror}); remove it, or give disk_cache=0 or "
            "another cache_dir"
        ) from error


def _staging_settings(options: MountOptions) -> StagingSettings:
    part_size = options.whole("part_size")
    return StagingSettings(upload=UploadSettings(put_limit=part_size, part_size=part_size))


def _drain_bound(options: MountOptions) -> dict[str, float]:
    """With write-back nothing is lost where a store that is down is not waited for."""
    return {"drain_seconds": options.number("drain_timeout")} if options.flag("writeback") else {}


async def _first_credentials(provider: CredentialsProvider) -> None:
    try:
        await provider.get()
    except CredentialsError as error:
        raise OperatorError(
            f"no credentials for the mount: {error.cause}; give profile=NAME of an AWS "
            "configuration (and credentials_file=FILE where it is not the user's own)"
        ) from None


def _protect_memory() -> None:
    """Keep secrets out of core dumps and of other users' debuggers (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def state_line(status: Mapping[str, Any]) -> str:
    """What systemd shows of the mount: the data that is not in S3 yet."""
    parts = [
        f"{status[f'{kind}_files']} files ({status[f'{kind}_bytes']} bytes) {meaning}"
        for kind, meaning in (("dirty", "written to"), ("queued", "wait for their upload"))
        if status.get(f"{kind}_files")
    ]
    return ", ".join(parts) or "everything written is in S3"


def _run(request: MountRequest, ready: Callable[[], None], notifier: Notifier) -> None:
    _protect_memory()
    # A watchdog's SIGABRT then says where the loop hung.
    faulthandler.enable()
    # Inodes are no garbage, and looking through them cost a fifth of the CPU time of making many
    # files: a look for cycles at each 20,000 new objects, and at older ones rarely.
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    mount = Mount(request, ready, notifier)
    try:
        trio.run(mount.run)
    except BaseExceptionGroup as group:
        known, rest = group.split((OperatorError, S3Error))
        if rest is not None or known is None:
            raise
        raise _as_operator_error(_first(known)) from None
    except S3Error as error:
        raise _as_operator_error(error) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _as_operator_error(error: BaseException) -> OperatorError:
    if isinstance(error, OperatorError):
        return error
    return OperatorError(
        f"the store refused what the mount needs: {error}; "
        "give its identity the actions that docs/STORES.md lists"
    )


def _set_up_log(request: MountRequest) -> None:
    options = request.options
    set_up(
        str(options.text("log_level")),
        str(options.text("log_format")),
        {"S3POSIXFS_MOUNTPOINT": str(request.mountpoint), "S3POSIXFS_SOURCE": request.source},
    )


def run_in_foreground(data: Mapping[str, Any]) -> None:
    """Serve in this process until unmounted; raises OperatorError."""
    request = MountRequest.from_json(data)
    _set_up_log(request)

    notifier = Notifier.from_environment(os.environ)

    def ready() -> None:
        logger.info("mounted %s at %s", request.source, request.mountpoint)
        notifier.ready(f"{request.source} is mounted at {request.mountpoint}")
        # Beside the loop, which answers what mount(8) may ask of the mountpoint.
        threading.Thread(target=name_umount_helper, args=(request.mountpoint,), daemon=True).start()

    try:
        _run(request, ready, notifier)
    except OperatorError as error:
        notifier.failed(str(error))
        raise


def main() -> int:
    """The daemon's entry point; see the module's text."""
    report = int(sys.argv[3])
    # Of somebody at a terminal: who mounts ends this process then.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    request = MountRequest.from_json(json.load(sys.stdin))
    _set_up_log(request)

    def tell(answer: Mapping[str, Any]) -> None:
        with os.fdopen(report, "wb") as pipe:
            pipe.write(json.dumps(answer).encode() + b"\n")

    told = False

    def ready() -> None:
        nonlocal told
        told = True
        logger.info("mounted %s at %s", request.source, request.mountpoint)
        # Not earlier: in another process group than mount(8) it would wait at the mountpoint for
        # the automount that waits for it.
        os.setsid()
        tell({"ready": True})

    try:
        # One that mount(8) has started is watched by nobody.
        _run(request, ready, Notifier(None))
    except OperatorError as error:
        logger.error("%s", error)
        if not told:
            tell({"error": str(error)})
        return 1
    except BaseException as error:
        logger.exception("the mount ended by a defect")
        if not told:
            tell({"error": f"internal error ({type(error).__name__}); the log says where"})
        return 1
    logger.info("unmounted %s", request.mountpoint)
    return 0


if __name__ == "__main__":
    sys.exit(main())
