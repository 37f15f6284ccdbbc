"""The AWS SDK for JavaScript puts, reads, lists, copies, presigns and sends by parts."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.store.node_kit import NodeProgram
from tests.store_process import REGION, StoreProcess

PACKAGES = ("@aws-sdk/client-s3", "@aws-sdk/lib-storage", "@aws-sdk/s3-request-presigner")
VERSION = "3.966.0"  # runs on Debian 12's node 18

SCRIPT = Path(__file__).with_name("aws_sdk.mjs")


def test_aws_sdk_for_javascript(module_folder: Path) -> None:
    program = NodeProgram(
        module_folder / "node", SCRIPT, [f"{name}@{VERSION}" for name in PACKAGES]
    )
    with StoreProcess(module_folder / "store") as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        environment = {
            "PATH": os.environ["PATH"],
            "ENDPOINT": store.endpoint,
            "REGION": REGION,
            "ACCESS_KEY": alice.access_key,
            "SECRET_KEY": alice.secret_key,
        }
        done = program.run(environment=environment)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{store.log_tail()}"
        assert json.loads(done.stdout) == {"done": 9}
