"""What a check found, one line each: the verdict and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from s3posixfs.cli.common import echo_json, echo_table

# S3 refuses what is signed 15 minutes off; AWS's SDKs and this client then correct themselves.
_CLOCK_REFUSED = 900.0
_CLOCK_CLOSE = 60.0
# As a person reads them; programs get the verdict's own name.
_SHOWN = {"ok": "OK", "note": "NOTE", "warning": "WARN", "failed": "FAIL"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``verdict`` is ok, note (nothing to do), warning or failed;
    ``remedy`` is empty when ok."""

    subject: str
    verdict: str
    found: str
    remedy: str = ""


def failed(subject: str, error: Exception) -> Finding:
    """What an error says: the part behind its semicolon is what to do."""
    text, _, remedy = str(error).partition("; ")
    return Finding(subject, "failed", text, remedy or "see the message")


def clock(off: float) -> Finding:
    """This host's clock, which the store's is ``off`` seconds ahead of."""
    if abs(off) < _CLOCK_CLOSE:
        return Finding("clock", "ok", "close to the store's")
    verdict = "failed" if abs(off) >= _CLOCK_REFUSED else "warning"
    remedy = "set this host's clock, or the store's: timedatectl set-ntp on"
    return Finding("clock", verdict, f"{off:+.0f} s off the store's", remedy)


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """All findings on standard output."""
    if as_json:
        echo_json([asdict(finding) for finding in findings])
        return
    # In one column, so that a long line makes no other one longer.
    echo_table(
        ["verdict", "", "found → what to do"],
        [
            [_SHOWN[f.verdict], f.subject, f"{f.found} → {f.remedy}" if f.remedy else f.found]
            for f in findings
        ],
    )
