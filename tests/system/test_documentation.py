"""The documents name what there is, and nothing that there is not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from s3posixfs.cli.main import NOUNS
from s3posixfs.cli.option_table import OPTIONS
from s3posixfs.cli.serve import serve

CHECKOUT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_files_of_the_package_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:s3posixfs|tests|scripts|benchmarks)/[\w./-]+)`", path.read_text())
    for name in named:
        assert (CHECKOUT / name).exists(), f"{path.name}: {name}"


def test_every_mount_option_is_documented() -> None:
    text = (CHECKOUT / "docs" / "CONFIGURATION.md").read_text()
    documented = set(re.findall(r"`(\w+)`", text))
    assert {option.name for option in OPTIONS} <= documented


def test_the_table_of_mount_options_is_the_programs(tmp_path: Path) -> None:
    """Else run ``.venv/bin/python scripts/lib/options.py docs/CONFIGURATION.md``."""
    text = (CHECKOUT / "docs" / "CONFIGURATION.md").read_text()
    page = tmp_path / "page.md"
    page.write_text(text.replace("seconds that attributes", "hours that attributes"))
    program = CHECKOUT / "scripts" / "lib" / "options.py"
    subprocess.run([sys.executable, program, page], check=True, timeout=60)
    assert page.read_text() == text


def test_every_option_of_the_store_is_documented() -> None:
    text = (CHECKOUT / "docs" / "CONFIGURATION.md").read_text()
    shown = {name for option in serve.params for name in option.opts}
    documented = set(re.findall(r"`(--[a-z-]+)`", text))
    assert shown <= documented


def test_every_command_that_is_shown_exists() -> None:
    for path in DOCUMENTS:
        shown = re.findall(r"^(?:sudo )?s3posixfs (\w[\w-]*)", path.read_text(), re.MULTILINE)
        assert set(shown) <= set(NOUNS), path.name


def test_the_readme_leads_to_every_document() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#]+)", (CHECKOUT / "README.md").read_text()))
    for path in sorted((CHECKOUT / "docs").glob("*.md")):
        assert str(path.relative_to(CHECKOUT)) in linked


def test_the_defaults_that_are_documented_are_the_programs() -> None:
    """Of the options of a mount; those that are words about where something comes from are not
    told by the table of options."""
    text = (CHECKOUT / "docs" / "CONFIGURATION.md").read_text().partition("### fstab")[0]
    rows = re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", text, re.M)
    documented: dict[str, str] = {}
    for names, defaults in rows:
        options, values = re.findall(r"`(\w+)`", names), defaults.split(", ")
        shared = len(values) == len(options)
        documented |= zip(options, values if shared else [defaults] * len(options), strict=True)
    compared = 0
    for option in OPTIONS:
        said = documented[option.name].strip("` ")
        if option.default is False:
            assert said == "off", option.name
        elif option.default is None or option.default == ():
            assert not re.fullmatch(r"\d+[KMG]?", said), option.name
        else:
            assert option.parse(said) == option.default, option.name
            compared += 1
    assert compared > 12


def test_the_readme_is_short() -> None:
    assert len((CHECKOUT / "README.md").read_text().splitlines()) < 200
