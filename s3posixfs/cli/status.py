"""``s3posixfs status``: what running mounts say of themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from s3posixfs.cli.common import echo_json, echo_table, json_option
from s3posixfs.cli.control_client import ask
from s3posixfs.cli.mountpoints import (
    FILESYSTEM_TYPE,
    control_socket,
    kernel_mounts,
    resolve_mountpoint,
)
from s3posixfs.core.errors import OperatorError

_NONE = "-"


def collect(mountpoint: str | None) -> list[dict[str, Any]]:
    """The status of one mount, or of all; a mount whose daemon is silent says so."""
    if mountpoint is None:
        paths = [m.mountpoint for m in kernel_mounts() if m.filesystem == FILESYSTEM_TYPE]
    else:
        paths = [str(resolve_mountpoint(mountpoint))]
        if not any(m.mountpoint == paths[0] for m in kernel_mounts()):
            raise OperatorError(
                f"nothing is mounted at {paths[0]}; `s3posixfs status` lists all mounts"
            )
    found: list[dict[str, Any]] = []
    for path in paths:
        try:
            answer = ask(control_socket(resolve_mountpoint(path)), "status")
        except TimeoutError:
            answer = {"health": "does not answer"}
        found.append(
            {"mountpoint": path, **(answer or {"health": "dead: its daemon is not running"})}
        )
    return found


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} B" if unit == "B" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "seconds")


def _duration(seconds: float) -> str:
    """Two units of it: ``2 d 3 h``, ``59 min 45 s``, ``12 s``."""
    left = round(seconds)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if left >= size:
            return f"{left // size} {unit} {left % size // smaller} {name}"
    return f"{left // 60} min {left % 60} s" if left >= 60 else f"{left} s"


def _until(moment: float) -> str:
    left = moment - time.time()
    return f"in {_duration(left)}" if left > 0 else "expired"


def _lifetime(row: Mapping[str, Any]) -> str:
    if not row["used"]:
        return "not used yet"
    if row["expires_at"] is None:
        return "none" if row["last_error"] else "does not expire"
    return _until(row["expires_at"])


def _show(value: object, name: str) -> str:
    """A value as people read it; what it is says its name."""
    if name.endswith("bytes") or name.startswith("bytes"):
        return _size(float(str(value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(one, key)}" for key, one in value.items()) or _NONE
    if name.endswith("seconds") and isinstance(value, int | float):
        return _duration(value) if value >= 1 else f"{value:g} s"
    return _NONE if value in (None, "") else str(value)


def _left(mount: Mapping[str, Any]) -> str:
    """What programs have written and S3 has not got."""
    inner = mount.get("filesystem") or {}
    texts = [
        f"{inner[f'{kind}_files']:,} files ({_size(inner[f'{kind}_bytes'])}) {meaning}"
        for kind, meaning in (("dirty", "being written"), ("queued", "closed and queued"))
        if inner.get(f"{kind}_files")
    ]
    if inner.get("failing_files"):
        texts.append(f"{inner['failing_files']:,} of them failing")
    if inner.get("queued_files") and inner.get("oldest_seconds"):
        texts.append(f"the oldest for {_duration(inner['oldest_seconds'])}")
    return ", ".join(texts) or "nothing"


def _overview(mount: Mapping[str, Any]) -> list[list[str]]:
    rows = [["health", str(mount["health"])]]
    if "pid" not in mount:
        path = mount["mountpoint"]
        dead = str(mount["health"]).startswith("dead")
        todo = f"s3posixfs umount --if-dead {path}, and mount it anew" if dead else "see its log"
        return [*rows, ["what to do", todo]]
    version, pid = mount.get("version", "older"), mount["pid"]
    rows.append(["source", f"{mount['source']}{' (read-only)' if mount.get('read_only') else ''}"])
    rows.append(["daemon", f"process {pid}, version {version}, since {_time(mount['since'])}"])
    rows.append(["not in S3 yet", _left(mount)])
    expire = mount["daemon_credentials_expire"]
    rows.append(["daemon's credentials", "do not expire" if expire is None else _until(expire)])
    for name, text in (
        ("daemon_last_error", "credentials' error"),
        ("identities_error", "identity file"),
    ):
        if mount.get(name):
            rows.append([text, str(mount[name])])
    return rows


def _stalls(stalls: Mapping[str, Any]) -> list[list[str]]:
    text = f"{stalls['count']} above {stalls['longer_than_ms']:g} ms, "
    rows = [["stalls", f"{text}{stalls['seconds']} s in all, longest {stalls['longest_ms']} ms"]]
    rows += [
        [f"  {_time(one['at'])}", f"{one['ms']} ms in {one['what']}"]
        for one in list(stalls["recent"])[-3:]
    ]
    return rows


def _part(mount: Mapping[str, Any], name: str) -> list[list[str]]:
    inner = mount.get(name) or {}
    rows = [
        [key.replace("_", " "), _show(value, key)]
        for key, value in inner.items()
        if key not in ("operations", "requests_by_api", "requests_by_kind", "requests")
    ]
    if name == "cache" and (asked := inner.get("hits", 0) + inner.get("misses", 0)):
        rows.append(["hit rate", f"{100 * inner['hits'] / asked:.1f} %"])
    return rows


def _work(summary: Mapping[str, Any], heading: str) -> None:
    if not summary:
        return
    click.echo()
    echo_table(
        [heading, "count", "results", "mean ms", "half within ms", "99 % within ms"],
        [
            [
                name,
                f"{row['count']:,}",
                _show(row["results"], ""),
                f"{row['mean_ms']:.1f}",
                _bound(row["p50_ms"]),
                _bound(row["p99_ms"]),
            ]
            for name, row in sorted(summary.items(), key=lambda item: -item[1]["count"])
        ],
    )


def _bound(milliseconds: float | None) -> str:
    return "more" if milliseconds is None else f"{milliseconds:g}"


def _show_mount(mount: Mapping[str, Any]) -> None:
    echo_table([str(mount["mountpoint"]), ""], _overview(mount))
    for name in ("filesystem", "client", "cache", "memory", "capabilities"):
        if part := _part(mount, name):
            click.echo()
            echo_table([name, ""], part)
    if "loop_stalls" in mount:
        click.echo()
        echo_table(["event loop", ""], _stalls(mount["loop_stalls"]))
    _work((mount.get("filesystem") or {}).get("operations") or {}, "operation")
    _work((mount.get("client") or {}).get("requests_by_api") or {}, "request to the store")
    identities = mount.get("identities") or []
    if identities:
        click.echo()
        echo_table(
            ["identity", "uid", "gid", "signs by", "credentials expire", "last error"],
            [
                [
                    row["name"],
                    str(row["uid"]),
                    str(row["gid"]),
                    row["signs_by"],
                    _lifetime(row),
                    row["last_error"] or "",
                ]
                for row in identities
            ],
        )


def _summary(mounts: Sequence[Mapping[str, Any]]) -> None:
    """A line a mount, where there are several."""
    echo_table(
        ["mountpoint", "source", "health", "not in S3 yet"],
        [
            [
                mount["mountpoint"],
                mount.get("source", _NONE),
                mount["health"],
                _left(mount) if "pid" in mount else _NONE,
            ]
            for mount in mounts
        ],
    )


def _print(mountpoint: str | None, as_json: bool) -> None:
    mounts = collect(mountpoint)
    if as_json:
        echo_json(mounts[0] if mountpoint is not None else mounts)
        return
    if not mounts:
        click.echo("no s3posixfs mounts")
    if len(mounts) > 1:
        _summary(mounts)
    for number, mount in enumerate(mounts):
        if number or len(mounts) > 1:
            click.echo()
        _show_mount(mount)


def _repeat(show: Callable[[], None], seconds: float) -> None:
    while True:
        click.clear()  # on a terminal; nothing where the output goes elsewhere
        show()
        time.sleep(seconds)


@click.command(short_help="Health, identities, dirty files, cache use, counters.")
@click.argument("mountpoint", required=False)
@click.option("--watch", is_flag=True, help="Show it again and again, until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@json_option
def status(mountpoint: str | None, watch: bool, interval: float, as_json: bool) -> None:
    """Show the mount at MOUNTPOINT, or all mounts."""
    if watch:
        _repeat(lambda: _print(mountpoint, as_json), interval)
    _print(mountpoint, as_json)
