"""The measurements of benchmarks/ run; what they tell is another matter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ENGINES = Path(__file__).parents[2] / "benchmarks" / "engines.py"


@pytest.mark.slow
def test_the_engines_are_measured(tmp_path: Path) -> None:
    """Tiny and once, each engine has its row, and table, record and plot are written."""
    pytest.importorskip("openvino_genai")
    pytest.importorskip("optimum.intel")
    done = subprocess.run(
        [sys.executable, str(ENGINES), "--quick", "--output", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stderr
    for name in ("HuggingFacePipeline", "LocalPipeline", "GenAIPipeline int8", "openvino_genai"):
        assert f"| {name}" in done.stdout
    assert (tmp_path / "engines.md").read_text().strip() == done.stdout.strip()
    assert (tmp_path / "engines.png").stat().st_size > 10_000
    assert (tmp_path / "engines.json").is_file()
