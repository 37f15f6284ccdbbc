"""What a check found, one line each: the verdict and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from s3posixfs.cli.common import echo_json, echo_table


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``verdict`` is ok, note (nothing to do), warning or failed;
    ``remedy`` is empty when ok."""

    subject: str
    verdict: str
    found: str
    remedy: str = ""


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """All findings on standard output."""
    if as_json:
        echo_json([asdict(finding) for finding in findings])
        return
    echo_table(
        ["", "verdict", "found", "what to do"],
        [[f.subject, f.verdict, f.found, f.remedy or "-"] for f in findings],
    )
