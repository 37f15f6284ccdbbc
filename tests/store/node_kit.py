"""Programs of Node.js with packages from npm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class NodeProgram:
    """A script beside the tests, in a folder of its own with the packages that it imports."""

    def __init__(self, folder: Path, script: Path, packages: Sequence[str]) -> None:
        npm, node = shutil.which("npm"), shutil.which("node")
        assert npm is not None, "npm is missing; scripts/test installs it"
        assert node is not None, "node is missing; scripts/test installs it"
        self._node = node
        self._folder = folder
        self._script = script.name
        folder.mkdir()
        (folder / "package.json").write_text('{"private": true, "type": "module"}')
        installed = self._run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
        )
        assert installed.returncode == 0, f"npm could not install {packages}: {installed.stderr}"
        shutil.copy(script, folder)

    def run(
        self, text: str = "", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it with ``text`` as standard input."""
        return self._run([self._node, self._script], text, environment)

    def _run(
        self,
        command: Sequence[str],
        text: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self._folder,
            env=environment,
            input=text,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
