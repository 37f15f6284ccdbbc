"""The man pages are clean to man(1) and mandoc(1), and show commands as they are typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from s3posixfs.cli.option_table import OPTIONS

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    target = tmp_path_factory.mktemp("man")
    script = CHECKOUT / "scripts" / "lib" / "manual.py"
    subprocess.run(
        [sys.executable, str(script), str(CHECKOUT / "packaging" / "man"), str(target)],
        check=True,
        timeout=60,
    )
    return sorted(target.iterdir())


@pytest.mark.parametrize("words", [["groff", "-man", "-Tutf8", "-ww", "-k"], ["mandoc", "-Tlint"]])
def test_nothing_is_wrong_with_them(pages: list[Path], words: list[str]) -> None:
    assert len(pages) == 4
    for page in pages:
        done = subprocess.run(
            [*words, str(page)], capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), page.name
        assert words[0] == "groff" or done.stdout == "", page.name
        assert all(line.isprintable() for line in page.read_text().splitlines())


def test_examples_in_help_are_typed_as_they_stand(pages: list[Path]) -> None:
    (page,) = (page for page in pages if page.name == "s3posixfs.1")
    examples = re.findall(r"^\.EX\n(.*?)\n\.EE", page.read_text(), re.M | re.S)
    assert any(text.startswith('eval "$(s3posixfs sts assume\\-role') for text in examples)


def test_every_mount_option_is_in_the_manual(pages: list[Path]) -> None:
    (page,) = (page for page in pages if page.name == "mount.s3posixfs.8")
    text = page.read_text()
    for option in OPTIONS:
        assert f"\\fB{option.name}" in text
