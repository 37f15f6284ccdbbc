"""Every message for the person at the command line says what to do, not only what is wrong.

Held twice: over the source, where each message that is raised must have a clause which begins with
what to do; and through the command itself for the mistakes that people make most.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

import s3posixfs
from tests.store_process import PROGRAM

PACKAGE = Path(s3posixfs.__file__).parent

# A clause of the message begins with one of these: after a semicolon, colon, comma, dash, an
# opening parenthesis, or the word "and", "or" or "so".
_DO = (
    "add|ask|check|choose|create|delete|detach|free|get|give|install|leave|let|load|make|mend|mount|name|"
    "put|remove|restore|run|save|see|send|set|split|start|take|try|unmount|use|write"
)
_REMEDY = re.compile(rf"(?:[;:,–(] |\(|\b(?:and|or|so|must) |^)(?:only )?(?:{_DO})\b")
# ... or it names a command to type, or a value that would be taken.
_COMMAND = re.compile(r"`[a-z0-9]+[ -][^`]*`|\{(?:remedy)\}")
_VALUE = re.compile(
    r"\bneeds (?:a|an|\{|127)|\bmust be\b|\bmust begin with\b|\bis one of\b|\bis on or off\b|"
    r"\bare allowed\b|\bat (?:least|most)\b|\bis what S3 takes\b|\bgo together\b|\bgo with\b"
)

# Raised with these. Of what AWS defines too (policies in IAM's language), the text is IAM's own
# way to name the mistake, and whoever shows it to a person adds what to do: see ``_PASSED_ON``.
RAISED = {
    "OperatorError": 0,
    "OptionError": 0,
    "UsageError": 0,
    "ClickException": 0,
    "BadParameter": 0,
    "Refused": 1,  # of the store's state: the first argument is IAM's code
}
# Messages that are another's, by the expression: each of those is looked at by itself.
_PASSED_ON = {
    # s3/check.py: every text that it returns is looked at below
    "explain(error, store, None)",
    "explain(error, store, bucket)",
    "explain(error, store, bucket_of(source))",
    # the daemon's own, which is an OperatorError's
    "str(answer.get('error') or f'the mount daemon ended early; see {log_path}')",
    # what the table of options says of a value (OptionError, ValueError)
    "f'{where}: {name} {error}'",
    "f'- {error}'",
    "str(error)",
    "f'--metrics {error}'",
    # identity/importing.py, with the name of the file
    "f'{file}: {error}'",
    # identity/map.py: the problems are arguments of ``places.error``, looked at below
    "f'{self._source}, line {self.line(index, name)}: {problem}'",
    "f'{self._source}: identity {index + 1}: {problem}'",
    "_NAMES_ONLY",
}
# s3/answers.py has a class of the same name, for what a store answered.
_OTHERS = {("s3/answers.py", "Refused")}


@dataclass(frozen=True, slots=True)
class Message:
    """A text for a person, with ``{…}`` where something is filled in, and its expression."""

    place: str
    text: str
    source: str


def _text(node: ast.expr) -> str:
    """The text of a literal, of an f-string with its holes, or of both put together."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body)
    return "{…}"


def _name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _of_file(path: Path) -> Iterator[Message]:
    name = str(path.relative_to(PACKAGE))
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = _name(node)
        if called in RAISED and (name, called) not in _OTHERS and len(node.args) > RAISED[called]:
            argument = node.args[RAISED[called]]
        elif name == "identity/map.py" and ast.unparse(node.func) == "places.error":
            argument = node.args[2]
        else:
            continue
        yield Message(f"{name}:{node.lineno}", _text(argument), ast.unparse(argument))


def _of_explain() -> Iterator[Message]:
    path = PACKAGE / "s3" / "check.py"
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef) and function.name == "explain":
            assigned = {
                ast.unparse(node.targets[0]): _text(node.value)
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
            }
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    text = _text(node.value)
                    text = assigned["text"] if text == "{…}" else text
                    yield Message(f"s3/check.py:{node.lineno}", text, ast.unparse(node.value))


def messages() -> list[Message]:
    found = [one for path in sorted(PACKAGE.rglob("*.py")) for one in _of_file(path)]
    return [*found, *_of_explain()]


def has_remedy(text: str) -> bool:
    return any(pattern.search(text) for pattern in (_REMEDY, _COMMAND, _VALUE))


def test_every_message_says_what_to_do() -> None:
    found = messages()
    assert len(found) > 130
    assert len({one.place for one in found if one.place.startswith("s3/check.py")}) > 15
    wrong = [
        f"{one.place}: {one.text}"
        for one in found
        if one.source not in _PASSED_ON and not has_remedy(one.text)
    ]
    assert wrong == []


def test_what_is_passed_on_is_still_there() -> None:
    assert {one.source for one in messages()} >= _PASSED_ON


@pytest.mark.parametrize(
    "text",
    [
        "there is no such thing",
        "{…} is busy: programs have files open there",
        "the makefile is wrong",
        "the name {…} cannot be given",
        "{…}: {…}",
    ],
)
def test_a_message_that_only_complains_is_found(text: str) -> None:
    assert not has_remedy(text)


def spoken(arguments: list[str]) -> tuple[int, str]:
    """Exit status and standard error of the installed program."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


class Mistakes:
    """What people do wrong most, each with what they are then told to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here = str(folder)

    def rows(self) -> list[tuple[list[str], int, str]]:
        here = self.here
        (self.folder / "file").write_text("x")
        (self.folder / "broken.toml").write_text("region = \n")
        (self.folder / "who.toml").write_text('[[identity]]\nname = "x"\nuid = "nobody-such"\n')
        (self.folder / "policy.json").write_text('{"Statement": {"Effect": "Maybe"}}')
        state = f"{here}/state"
        mount = ["mount", "bucket", f"{here}/mnt"]
        (self.folder / "mnt").mkdir()
        return [
            (["mount", "bucket", f"{here}/none"], 1, "make it: `mkdir -p"),
            (["mount", "bucket", f"{here}/file"], 1, "is not a folder; give one"),
            ([*mount, "-o", "colour=red"], 1, "see `s3posixfs mount --help`"),
            ([*mount, "-o", "secret_key=x"], 1, "put it in an AWS profile"),
            ([*mount, "-o", "uid=alice"], 1, "uid needs a whole number"),
            ([*mount, "-o", "access=all"], 1, "access is one of both, posix, s3"),
            ([*mount, "-o", "endpoint_url=here"], 1, "must begin with http:// or https://"),
            ([*mount, "-o", f"config={here}/none"], 1, "name a readable TOML file"),
            ([*mount, "-o", f"config={here}/broken.toml"], 1, "mend that line"),
            ([*mount, "-o", "ca_file=/none"], 1, "give the path of one that is there"),
            ([*mount, "-o", "endpoint_url=http://127.0.0.1:1,profile=none"], 1, "give profile="),
            (["mount", "bucket"], 2, "Try 's3posixfs mount --help'"),
            (["umount", here], 1, "`s3posixfs status`"),
            (["status", here], 1, "`s3posixfs status` lists all mounts"),
            (["log-level", here, "debug"], 1, "`s3posixfs status` lists them"),
            (["user", "list", "--state", f"{here}/nowhere"], 1, "start `s3posixfs serve` first"),
            (["user", "add", "a b", "--state", state], 1, "are allowed"),
            (["policy", "add", "p", f"{here}/policy.json", "--state", state], 1,
             "s3posixfs-policy(5) describes the language"),
            (["policy", "add", "p", f"{here}/none", "--state", state], 1, "check the name"),
            (["serve", "--root", f"{here}/file", "--state", state], 1, "name another with --root"),
            (["serve", "--root", here, "--listen", "9000"], 1, "give it as 127.0.0.1:9000"),
            (["serve", "--root", f"{here}/o", "--state", state, "--tls-cert", "x"], 1, "give both"),
            (["identities", "list", f"{here}/who.toml"], 1, "add that user, or give a number"),
            (["identities", "list", f"{here}/none"], 1, "check the name"),
            (["identities", "import", "--from", "weka", f"{here}/file"], 1, "give it what"),
            (["sts", "assume-role", "--endpoint-url", "http://127.0.0.1:1"], 2, "give either"),
            (["nothing"], 2, "Try 's3posixfs --help'"),
        ]  # fmt: skip


def test_the_commonest_mistakes_are_told_what_to_do(tmp_path: Path) -> None:
    rows = Mistakes(tmp_path).rows()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(spoken, [arguments for arguments, _, _ in rows]))
    for (arguments, status, remedy), (ended, text) in zip(rows, answers, strict=True):
        assert ended == status, (arguments, text)
        assert remedy in text, (arguments, text)
        if status == 1:
            assert text.splitlines()[-1].startswith("s3posixfs: "), text
            assert remedy in text.splitlines()[-1], text
