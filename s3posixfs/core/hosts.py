"""What the name of a host tells. No I/O."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether it is this host itself: a loopback address without brackets, or ``localhost``."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
