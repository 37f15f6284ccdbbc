"""The benchmarks run, and say of each store and mount what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def test_the_benchmark_of_the_store_measures_the_embedded_one(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.store", "--tiny", "--without", "rgw", "moto"),
            *("--connections", "1", "8", "--folder", str(tmp_path), "--json", str(file)),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(file.read_text())
    assert len(rows) == 14  # eight kinds of work, two of them with one number of connections
    for row in rows:
        assert {figure["store"] for figure in row["figures"]} == {"s3posixfs -1", "s3posixfs -2"}
        assert all(figure["rate"] > 0 for figure in row["figures"])
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.mount
def test_the_benchmark_of_the_mount_measures_it_in_both_modes(tmp_path: Path) -> None:
    figures, bars = tmp_path / "figures.json", tmp_path / "bars.svg"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.mount", "--tiny", "--store", "embedded"),
            *("--without", "s3fs-fuse", "rclone", "--only", "read", "list", "create8", "edit"),
            *("write", "--folder", str(tmp_path), "--json", str(figures), "--svg", str(bars)),
        ],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed:" not in done.stdout
    (results,) = json.loads(figures.read_text())
    mounts = {"s3posixfs", "s3posixfs, writeback"}
    assert set(results["mount_seconds"]) == mounts
    assert set(results["samples"]) == {"read", "list", "create8", "edit", "write"}
    for samples in results["samples"].values():
        assert set(samples) == mounts | {"local"}
        assert all(sample["rate"] > 0 for (sample,) in samples.values())
    assert bars.read_text().startswith("<svg")
    assert {path.name for path in tmp_path.iterdir()} == {"figures.json", "bars.svg"}
