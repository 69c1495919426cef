"""The README: what it tells the reader to type is run, what it shows is there."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import safetensors

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|bat)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for _, block in BLOCKS for line in block.splitlines() if line]
CI = "\n".join(path.read_text("utf-8") for path in (ROOT / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_in_the_readme_is_run_by_ci(command: str) -> None:
    """A command that nothing runs goes stale unseen."""
    assert re.search(re.escape(command) + r"(?![\w/.-])", CI)


def test_the_two_commands_come_before_everything_else() -> None:
    """A reader in a hurry finds `make run` in the first block."""
    assert "make run" in BLOCKS[0][1]


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_every_relative_link_of_the_readme_leads_somewhere(link: str) -> None:
    """Pictures, lessons and pages that the README names exist."""
    assert (ROOT / link).is_file()


@pytest.mark.parametrize("lesson", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=str)
def test_every_lesson_has_its_row_with_a_badge(lesson: Path) -> None:
    """The table lists each notebook, with a link that opens it in Colab."""
    assert f"(notebooks/{lesson.name})" in README
    assert f"/blob/main/notebooks/{lesson.name})" in README


def test_the_figures_of_the_embedded_model_are_true() -> None:
    """The numbers of parameters and terms in the README are those of the files."""
    pocket = Path(str(files("local_pipelines") / "pocket"))
    with safetensors.safe_open(pocket / "model.safetensors", "np") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
    parameters = sum(rows * (columns[0] if columns else 1) for rows, *columns in shapes)
    terms = [
        json.loads(line)
        for path in (pocket / "facts").glob("terms_*.jsonl")
        for line in path.read_text("utf-8").splitlines()
    ]
    assert f"{parameters / 1e6:.1f} million parameters" in README
    assert f"{len(terms)} terms" in README
