"""The AWS SDK for JavaScript puts, reads, lists, copies, presigns and sends by parts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.store_process import REGION, StoreProcess

PACKAGES = ("@aws-sdk/client-s3", "@aws-sdk/lib-storage", "@aws-sdk/s3-request-presigner")
VERSION = "3.966.0"  # runs on Debian 12's node 18

SCRIPT = Path(__file__).with_name("aws_sdk.mjs")


def test_aws_sdk_for_javascript(module_folder: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    assert npm is not None, "npm is missing; scripts/test installs it"
    assert node is not None, "node is missing; scripts/test installs it"
    folder = module_folder / "node"
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    wanted = [f"{name}@{VERSION}" for name in PACKAGES]
    installed = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *wanted],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert installed.returncode == 0, f"npm could not install {wanted}: {installed.stderr}"
    shutil.copy(SCRIPT, folder)
    with StoreProcess(module_folder / "store") as store:
        alice = store.add_user("alice", 1001, policy="readwrite")
        environment = {
            "PATH": os.environ["PATH"],
            "ENDPOINT": store.endpoint,
            "REGION": REGION,
            "ACCESS_KEY": alice.access_key,
            "SECRET_KEY": alice.secret_key,
        }
        done = subprocess.run(
            [node, SCRIPT.name],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{store.log_tail()}"
        assert json.loads(done.stdout) == {"done": 9}
