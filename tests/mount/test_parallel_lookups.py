"""Names of one folder are looked up at once, not one after the other."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.cuttable_proxy import CuttableProxy
from tests.mount.bed import Bed

pytestmark = pytest.mark.mount
NAMES = 6
DEADLINE = 30.0


def test_lookups_in_one_folder_do_not_wait_for_each_other(bed: Bed, open_folder: Path) -> None:
    with CuttableProxy(urlsplit(bed.endpoint).port or 80) as proxy:
        options = {"endpoint_url": proxy.url}
        with bed.mount(open_folder, bed.bucket, options) as mount:
            proxy.hang()  # what is asked for now is not answered
            before = proxy.connections
            looking = [
                subprocess.Popen(
                    ["stat", str(mount.mountpoint / f"missing-{number}")],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
                for number in range(NAMES)
            ]
            try:
                end = time.monotonic() + DEADLINE
                while proxy.connections - before < NAMES:
                    assert time.monotonic() < end, "they wait for each other"
                    time.sleep(0.01)
            finally:
                proxy.mend()
                said = [look.communicate(timeout=DEADLINE)[1] for look in looking]
            assert all(b"No such file" in text for text in said), said
