"""Clients that share no code with boto3's signer or ours put, get, list and send by parts.

The AWS command line, the AWS SDK for C++ (in pyarrow), object_store in Rust (obstore) and the AWS
SDK for Go (in rclone): each is told the endpoint and the key pair, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store
from pyarrow import fs as arrow

from tests.store_process import REGION, StoreProcess, User

MIB = 1024 * 1024
LARGE = 12 * MIB + 17


@pytest.fixture(scope="module")
def store(module_folder: Path) -> Iterator[StoreProcess]:
    with StoreProcess(module_folder / "store") as store:
        yield store


@pytest.fixture(scope="module")
def alice(store: StoreProcess) -> User:
    return store.add_user("alice", 1001, policy="readwrite")


@pytest.fixture
def bucket(store: StoreProcess, alice: User, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name).replace("test_", "").replace("_", "-")[:60]
    client = store.s3(alice)
    client.create_bucket(Bucket=name)
    client.close()
    return name


def run(*command: str, environment: Mapping[str, str]) -> str:
    """Standard output of a client that must succeed."""
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_aws_cli(store: StoreProcess, alice: User, bucket: str, tmp_path: Path) -> None:
    environment = {
        "AWS_ENDPOINT_URL": store.endpoint,
        "AWS_ACCESS_KEY_ID": alice.access_key,
        "AWS_SECRET_ACCESS_KEY": alice.secret_key,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    program = [sys.executable, str(Path(sys.executable).with_name("aws"))]

    def aws(*arguments: str) -> str:
        return run(*program, *arguments, environment=environment)

    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(b"small")
    large.write_bytes(os.urandom(LARGE))  # above the 8 MiB from which the CLI sends parts
    aws("s3", "cp", str(small), f"s3://{bucket}/folder/small")
    aws("s3", "cp", str(large), f"s3://{bucket}/folder/large")
    listing = aws("s3", "ls", f"s3://{bucket}/folder/")
    assert [line.split()[2:] for line in listing.splitlines()] == [
        [str(LARGE), "large"],
        ["5", "small"],
    ]
    for path in (small, large):
        back = tmp_path / f"{path.name}.back"
        aws("s3", "cp", f"s3://{bucket}/folder/{path.name}", str(back))
        assert back.read_bytes() == path.read_bytes()
    tag = aws("s3api", "head-object", "--bucket", bucket, "--key", "folder/large")
    assert '-2\\""' in tag, "the large object did not go by parts"
    aws("s3", "rm", "--recursive", f"s3://{bucket}")
    aws("s3", "rb", f"s3://{bucket}")
    assert bucket not in aws("s3", "ls")


def test_pyarrow(store: StoreProcess, alice: User, bucket: str) -> None:
    files = arrow.S3FileSystem(
        access_key=alice.access_key,
        secret_key=alice.secret_key,
        endpoint_override=store.endpoint,
        region=REGION,
    )
    body = os.urandom(LARGE)
    with files.open_output_stream(f"{bucket}/folder/small") as stream:
        stream.write(b"small")
    with files.open_output_stream(f"{bucket}/folder/large") as stream:
        for offset in range(0, LARGE, 6 * MIB):
            stream.write(body[offset : offset + 6 * MIB])
    with files.open_input_stream(f"{bucket}/folder/small") as stream:
        assert stream.read() == b"small"
    with files.open_input_file(f"{bucket}/folder/large") as stream:
        assert stream.size() == LARGE
        stream.seek(7 * MIB)
        assert stream.read(1000) == body[7 * MIB : 7 * MIB + 1000]
        stream.seek(0)
        assert stream.read() == body
    found = files.get_file_info(arrow.FileSelector(bucket, recursive=True))
    # pyarrow writes a marker for the folder, or leaves the folder implicit, as it likes.
    sizes = {info.path: info.size for info in found if info.type == arrow.FileType.File}
    assert sizes == {f"{bucket}/folder/small": 5, f"{bucket}/folder/large": LARGE}
    files.move(f"{bucket}/folder/small", f"{bucket}/folder/moved")
    assert files.get_file_info(f"{bucket}/folder/small").type == arrow.FileType.NotFound
    files.delete_dir_contents(bucket)
    assert files.get_file_info(arrow.FileSelector(bucket, recursive=True)) == []


def test_obstore(store: StoreProcess, alice: User, bucket: str) -> None:
    remote = S3Store(
        bucket,
        endpoint=store.endpoint,
        access_key_id=alice.access_key,
        secret_access_key=alice.secret_key,
        region=REGION,
        client_options={"allow_http": True},
    )
    body = os.urandom(LARGE)
    obstore.put(remote, "folder/small", b"small")
    obstore.put(remote, "folder/large", body, use_multipart=True, chunk_size=5 * MIB)
    assert bytes(obstore.get(remote, "folder/small").bytes()) == b"small"
    assert bytes(obstore.get(remote, "folder/large").bytes()) == body
    part = obstore.get_range(remote, "folder/large", start=6 * MIB, length=100)
    assert bytes(part) == body[6 * MIB : 6 * MIB + 100]
    rows = [row for rows in obstore.list(remote, "folder") for row in rows]
    assert {row["path"]: row["size"] for row in rows} == {
        "folder/small": 5,
        "folder/large": LARGE,
    }
    assert str(obstore.head(remote, "folder/large")["e_tag"]).endswith('-3"')
    obstore.copy(remote, "folder/small", "folder/copy")
    obstore.rename(remote, "folder/copy", "folder/renamed")
    obstore.delete(remote, ["folder/small", "folder/large", "folder/renamed"])
    assert [row for rows in obstore.list(remote) for row in rows] == []


def test_rclone(store: StoreProcess, alice: User, bucket: str, tmp_path: Path) -> None:
    program = shutil.which("rclone")
    assert program is not None, "rclone is not installed: scripts/test installs it"
    environment = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_OURS_TYPE": "s3",
        "RCLONE_CONFIG_OURS_PROVIDER": "Other",
        "RCLONE_CONFIG_OURS_ENDPOINT": store.endpoint,
        "RCLONE_CONFIG_OURS_ACCESS_KEY_ID": alice.access_key,
        "RCLONE_CONFIG_OURS_SECRET_ACCESS_KEY": alice.secret_key,
        "HOME": str(tmp_path),
    }

    def rclone(*arguments: str) -> str:
        parts = ("--s3-upload-cutoff=5Mi", "--s3-chunk-size=5Mi")
        return run(program, *parts, *arguments, environment=environment)

    source, target = tmp_path / "source", tmp_path / "target"
    (source / "folder").mkdir(parents=True)
    (source / "small").write_bytes(b"small")
    (source / "folder" / "large").write_bytes(os.urandom(LARGE))
    rclone("copy", str(source), f"ours:{bucket}")
    rclone("check", str(source), f"ours:{bucket}")
    listed = rclone("lsf", "-R", f"ours:{bucket}").split()  # in no order
    assert sorted(listed) == ["folder/", "folder/large", "small"]
    rclone("copy", f"ours:{bucket}", str(target))
    assert (target / "small").read_bytes() == b"small"
    assert (target / "folder" / "large").read_bytes() == (source / "folder" / "large").read_bytes()
    (source / "small").unlink()
    rclone("sync", str(source), f"ours:{bucket}")
    listed = rclone("lsf", "-R", f"ours:{bucket}").split()
    assert sorted(listed) == ["folder/", "folder/large"]
