"""The benchmark of the store runs, and says of each store what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
