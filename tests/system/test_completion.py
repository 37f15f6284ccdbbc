"""Completion as a person at a terminal has it: real shells, real TABs."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.shell_completion import get_completion_class

from s3posixfs.cli.main import cli

BIN = Path(sys.executable).parent


class Shell:
    """An interactive shell with a folder of its own, on a terminal of its own."""

    def __init__(self, home: Path, *words: str, **environment: str) -> None:
        master, slave = pty.openpty()
        self.terminal = master
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={
                "PATH": f"{BIN}:/usr/bin:/bin",
                "TERM": "dumb",
                "PS1": "",
                "HOME": str(home),
                "LC_ALL": "C.UTF-8",
                **environment,
            },
            cwd=home,
        )
        os.close(slave)

    def types(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def until(self, word: str, *, seconds: float = 60.0) -> str:
        """What the terminal shows until ``word`` is there."""
        shown = ""
        deadline = time.monotonic() + seconds
        while word not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"no {word!r} in {shown!r}"
            if select.select([self.terminal], [], [], left)[0]:
                shown += os.read(self.terminal, 4096).decode()
        return shown

    def completed(self, begun: str) -> str:
        """The command line that a TAB after ``begun`` makes."""
        # At Ctrl-G the shell shows its line and begins a new one.
        self.types(f"{begun}\t\x07")
        shown = self.until("|END")
        return shown[: shown.rindex("|END")].rpartition("LINE|")[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(20)
        os.close(self.terminal)


def script_of(shell: str) -> str:
    found = get_completion_class(shell)
    assert found is not None
    return found(cli, {}, "s3posixfs", "_S3POSIXFS_COMPLETE").source()


class Bash(Shell):
    def __init__(self, home: Path) -> None:
        script = home / "completion"
        script.write_text(script_of("bash"))
        super().__init__(home, "/bin/bash", "--norc", "--noprofile", "-i", INPUTRC="/dev/null")
        self.types(f"bind 'set bell-style none'; source {script}; echo loa''ded\n")
        self.until("loaded")

    def completed(self, begun: str) -> str:
        """The command line that a TAB after ``begun`` makes; bash itself says what it is then."""
        # Ctrl-A, a word that prints the rest, Ctrl-E, Enter.
        self.types(f"{begun}\t\x01printf '%s|' \x05 END''OF\n")
        shown = self.until("ENDOF|")
        return re.sub(r"\s+", " ", shown.splitlines()[-1]).removesuffix("|ENDOF|").replace("|", " ")


class Zsh(Shell):
    """Finds the script in ``fpath``, as scripts/install puts it there."""

    def __init__(self, home: Path) -> None:
        functions = home / "functions"
        functions.mkdir()
        (functions / "_s3posixfs").write_text(script_of("zsh"))
        (home / ".zshrc").write_text(
            f"fpath=({functions} $fpath); autoload -Uz compinit; compinit -u -d {home}/dump\n"
            "setopt no_beep; unsetopt prompt_cr prompt_sp; PS1=\n"
            'show() { zle -I; print -r -- "LINE|$BUFFER|END"; BUFFER=; }\n'
            "zle -N show; bindkey '^G' show; print loa''ded\n"
        )
        super().__init__(home, "/usr/bin/zsh", "-d", "-i", ZDOTDIR=str(home))
        self.until("loaded")


class Fish(Shell):
    def __init__(self, home: Path) -> None:
        configuration = home / ".config" / "fish"
        (configuration / "completions").mkdir(parents=True)
        (configuration / "completions" / "s3posixfs.fish").write_text(script_of("fish"))
        (configuration / "config.fish").write_text(
            "function fish_prompt; end; function fish_greeting; end\n"
            'function show; echo "LINE|"(commandline)"|END"; commandline ""; end\n'
            "bind \\cg show; echo loa''ded\n"
        )
        super().__init__(home, "/usr/bin/fish", "-i")
        self.until("loaded")


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bash]:
    bash = Bash(tmp_path_factory.mktemp("home"))
    yield bash
    bash.close()


@pytest.mark.parametrize("shell", [Zsh, Fish])
def test_tabs_in_the_other_shells(shell: type[Shell], tmp_path: Path) -> None:
    terminal = shell(tmp_path)
    try:
        # One after the other: zsh loads the script at the first.
        for begun, completed in (
            ("s3posixfs docto", "s3posixfs doctor "),
            ("s3posixfs mount b m -o endp", "s3posixfs mount b m -o endpoint_url="),
            ("s3posixfs mount b m -o ro,access=po", "s3posixfs mount b m -o ro,access=posix "),
            (
                "s3posixfs mount b m -o endpoint_url=http://127.0.0.1:9000,sign_",
                "s3posixfs mount b m -o endpoint_url=http://127.0.0.1:9000,sign_as=",
            ),
        ):
            assert terminal.completed(begun) == completed
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("begun", "completed"),
    [
        ("s3posixfs docto", "s3posixfs doctor"),
        ("s3posixfs identities imp", "s3posixfs identities import"),
        ("s3posixfs user add --posix-u", "s3posixfs user add --posix-uid"),
        ("s3posixfs user add x --role a", "s3posixfs user add x --role admin"),
        ("s3posixfs mount b m -o endp", "s3posixfs mount b m -o endpoint_url="),
        ("s3posixfs mount b m -o access=po", "s3posixfs mount b m -o access=posix"),
        ("s3posixfs mount b m -o ro,unm", "s3posixfs mount b m -o ro,unmapped="),
        (
            "s3posixfs mount b m -o endpoint_url=http://127.0.0.1:9000,sign_as=da",
            "s3posixfs mount b m -o endpoint_url=http://127.0.0.1:9000,sign_as=daemon",
        ),
        ("s3posixfs doctor b -o ro,noex", "s3posixfs doctor b -o ro,noexec"),
        ("s3posixfs mount b m -o config=compl", "s3posixfs mount b m -o config=completion"),
    ],
)
def test_a_tab(bash: Bash, begun: str, completed: str) -> None:
    assert bash.completed(begun) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    found = get_completion_class(shell)
    assert found is not None
    text = found(cli, {}, "s3posixfs", "_S3POSIXFS_COMPLETE").source()
    assert f"_S3POSIXFS_COMPLETE={shell}_complete" in text
    # A script of click's that has changed would lose what was put into it.
    assert ("compopt -o nospace" in text) == (shell == "bash")
    assert (text.count("open_with_descriptions"), text.count("compdef ")) == (
        (4, 3) if shell == "zsh" else (0, 0)
    )
    assert ('split -m 1 ","' in text) == (shell == "fish")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_answered(shell: str) -> None:
    """By the environment that their scripts hand over; they cut no words."""
    line = "s3posixfs mount b m -o ro,access=p"
    done = subprocess.run(
        [str(BIN / "s3posixfs")],
        env={
            **os.environ,
            "_S3POSIXFS_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": line,
            "COMP_CWORD": "5" if shell == "zsh" else "ro,access=p",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ro,access=posix" in done.stdout
    assert "access=both" not in done.stdout
