"""Options: three spellings of one table, and a clear word for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3posixfs.cli.mount_options import MountOptions, parse_options
from s3posixfs.cli.option_table import OPTIONS
from s3posixfs.core.errors import OperatorError


def parse(*lists: str, **named: str | bool | None) -> MountOptions:
    return parse_options(lists, named)


def test_defaults_are_those_of_the_design() -> None:
    options = parse()
    assert (options.whole("uid"), options.whole("gid")) == (65534, 65534)
    assert options.number("metadata_ttl") == 1.0
    assert options.text("access") == "both"
    assert options.text("sign_as") == "caller"
    assert not options.flag("writeback")


def test_the_three_spellings_mean_the_same(tmp_path: Path) -> None:
    config = tmp_path / "mount.toml"
    config.write_text('metadata_ttl = 5\nfile_mode = "0600"\nallow_other = true\n')
    from_file = parse(f"config={config}")
    from_o = parse("metadata_ttl=5,file_mode=0600,allow_other")
    from_names = parse(metadata_ttl="5", file_mode="0600", allow_other=True)
    assert from_file == from_o == from_names
    assert from_file.whole("file_mode") == 0o600


def test_a_mode_written_as_toml_octal_is_octal(tmp_path: Path) -> None:
    config = tmp_path / "mount.toml"
    config.write_text("file_mode = 0o640\n")
    assert parse(f"config={config}").whole("file_mode") == 0o640


def test_the_command_line_wins_over_o_and_o_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "mount.toml"
    config.write_text("uid = 1\ngid = 1\nmetadata_ttl = 1\n")
    options = parse(f"config={config},uid=2,gid=2", uid="3")
    assert (options.whole("uid"), options.whole("gid")) == (3, 2)


def test_generic_mount_options_pass() -> None:
    options = parse("rw,_netdev,nofail,x-systemd.automount,noexec,nodev,noatime,user,defaults")
    assert options.kernel == {"noexec", "nodev", "noatime"}
    assert not options.flag("ro")


def test_rw_undoes_ro() -> None:
    assert parse("ro").flag("ro")
    assert not parse("ro,rw").flag("ro")


def test_a_comma_inside_a_value_is_escaped() -> None:
    assert parse(r"profile=a\,b").text("profile") == "a,b"


@pytest.mark.parametrize(
    ("text", "expected"), [("64M", 64 << 20), ("1g", 1 << 30), ("2GiB", 2 << 30), ("100", 100)]
)
def test_sizes(text: str, expected: int) -> None:
    assert parse(f"memory_limit={text}").whole("memory_limit") == expected


@pytest.mark.parametrize(("text", "expected"), [("900", 900), ("15m", 900), ("2d", 172800)])
def test_durations(text: str, expected: int) -> None:
    assert parse(f"session_duration={text}").whole("session_duration") == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour=red", "unknown option 'colour'"),
        ("secret_key=hunter22", "secret"),
        ("access=all", "one of both, posix, s3"),
        ("uid=alice", "whole number"),
        ("file_mode=999", "octal"),
        ("metadata_ttl=-1", "between"),
        ("endpoint_url=localhost:9000", "http://"),
        ("endpoint_url", "needs a value"),
        ("config=/nowhere/at.toml", "No such file"),
        ("ca_file=/nowhere.pem", "no such file"),
        ("memory_limit=much", "size"),
        ("writeback=perhaps", "on or off"),
        ("capabilities=teleport:yes", "there is no 'teleport'"),
        ("capabilities=rename:perhaps", "rename is yes or no"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(OperatorError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert "hunter22" not in str(caught.value)


def test_capabilities_in_each_spelling(tmp_path: Path) -> None:
    config = tmp_path / "mount.toml"
    config.write_text('capabilities = ["conditional_put:no", "rename:no"]\n')
    expected = "conditional_put:no rename:no"
    assert parse(f"config={config}").text("capabilities") == expected
    assert parse(r"capabilities=conditional_put:no\,rename:no").text("capabilities") == expected
    assert parse("capabilities=conditional_put:no;rename:no").text("capabilities") == expected
    assert parse().text("capabilities") is None


def test_every_option_says_what_it_does() -> None:
    assert all(option.help for option in OPTIONS)
