"""``s3posixfs serve``: the embedded S3 store."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from s3posixfs.cli.common import json_option, state_option
from s3posixfs.cli.logs import FORMATS, LEVELS, set_up
from s3posixfs.core.errors import OperatorError
from s3posixfs.metrics.address import Address, parse_address

_MAX_WORKERS = 64


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 address stands in brackets."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise OperatorError(f"--listen {text!r} is not HOST:PORT; give it as 127.0.0.1:9000")
    return host, int(port)


def _metrics_address(text: str | None) -> Address | None:
    try:
        return parse_address(text) if text is not None else None
    except ValueError as error:
        raise OperatorError(f"--metrics {error}") from None


@click.command()
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the objects: a bucket is a folder in it, an object a file.",
)
@state_option
@click.option(
    "--listen",
    default="127.0.0.1:9000",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to accept requests; port 0 takes a free one.",
)
@click.option(
    "--region", default="us-east-1", show_default=True, help="The region that clients sign for."
)
@click.option(
    "--domain", metavar="D", help="Also serve bucket B as host B.D (virtual-hosted style)."
)
@click.option(
    "--tls-cert", type=click.Path(path_type=Path), metavar="FILE", help="Certificate chain, PEM."
)
@click.option(
    "--tls-key", type=click.Path(path_type=Path), metavar="FILE", help="Its private key, PEM."
)
@click.option(
    "--workers",
    type=click.IntRange(1, _MAX_WORKERS),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that share the port.",
)
@click.option(
    "--audit-size",
    type=click.IntRange(0, 1024 * 1024),
    default=100,
    show_default=True,
    metavar="MIB",
    help="Set the audit log aside when it has grown so big; 0: never, another program does.",
)
@click.option(
    "--audit-keep",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    metavar="N",
    help="How many older audit logs stay.",
)
@click.option(
    "--metrics",
    metavar="ADDRESS",
    help="Where Prometheus may scrape: 127.0.0.1:PORT, or the path of a socket.",
)
@click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Least level that is logged.",
)
@click.option(
    "--log-format",
    type=click.Choice(FORMATS),
    default="auto",
    show_default=True,
    help="auto: the journal's fields where standard error is the journal, else text.",
)
@json_option
def serve(
    root: Path,
    state: Path,
    listen: str,
    region: str,
    domain: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    workers: int,
    audit_size: int,
    audit_keep: int,
    metrics: str | None,
    log_level: str,
    log_format: str,
    as_json: bool,
) -> None:
    """Run the embedded S3 store, with STS on the same port.

    Prints `ready: URL` once it accepts requests. SIGTERM finishes what is in flight, then
    exits 0. At the first start a user `admin` is made, whose keys are in
    STATE/admin-credentials.
    """
    # Imported here so that --help is quick.
    from s3posixfs.cli.notify import Notifier
    from s3posixfs.core.rotating import Rotation
    from s3posixfs.store.server import ServerConfig
    from s3posixfs.store.workers import run

    set_up(log_level, log_format, {"S3POSIXFS_ROOT": str(root.absolute())})
    host, port = parse_listen(listen)
    config = ServerConfig(
        root=root.absolute(),
        state=state.absolute(),
        host=host,
        port=port,
        region=region,
        domain=domain,
        tls_cert=tls_cert,
        tls_key=tls_key,
        audit_rotation=Rotation(audit_size * 1024 * 1024, audit_keep),
        metrics=_metrics_address(metrics),
    )

    notifier = Notifier.from_environment(os.environ)

    def ready(url: str) -> None:
        notifier.ready(f"serving {url}")
        if as_json:
            click.echo(json.dumps({"ready": url}))
        else:
            click.echo(f"ready: {url}")
        sys.stdout.flush()

    status = run(config, workers, ready)
    if status:
        raise SystemExit(status)
