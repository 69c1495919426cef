"""The wheel holds all that a learner needs, the embedded model among it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "README.md")
QUESTION = "What is the capital of France?"
ANSWER = "The capital of France is Paris."

SCRIPT = f"""
import local_pipelines
print(local_pipelines.__file__)

from transformers import AutoModelForCausalLM, AutoTokenizer

folder = local_pipelines.model_path("pocket")
print(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": {QUESTION!r}}}],
    add_generation_prompt=True, return_dict=True, return_tensors="pt",
)
tokens = model.generate(**inputs, do_sample=False, max_new_tokens=32)
print(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip())
"""


def pip(*words: str) -> None:
    """Run this environment's pip, which needs no network for what is asked of it here."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def fresh_python(folder: Path, wheel: Path) -> Path:
    """Make an environment with the wheel in it, which borrows only its dependencies from here."""
    venv.create(folder, with_pip=False)
    scripts = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    python = folder / scripts
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    (packages,) = folder.rglob("site-packages")
    # The folder's own .pth files, this checkout's among them, are not read through such a line.
    lines = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (packages / "dependencies.pth").write_text("\n".join(lines), encoding="utf-8")
    return python


def test_the_wheel_holds_the_embedded_model(wheel: Path) -> None:
    """Weights, tokenizer, model card, licence and facts are in the wheel, and within 12 MB."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {each.filename: each.file_size for each in archive.infolist()}
    pocket = {
        name.removeprefix("local_pipelines/pocket/"): size
        for name, size in sizes.items()
        if name.startswith("local_pipelines/pocket/")
    }
    assert {*MODEL_FILES, "LICENSE"} - pocket.keys() == set()
    assert [name for name in pocket if name.startswith("facts/") and name.endswith(".jsonl")]
    assert sum(pocket.values()) <= 12e6
    assert "local_pipelines/py.typed" in sizes
    for language in ("es", "fr", "zh_CN"):
        assert f"local_pipelines/locale/{language}/LC_MESSAGES/local_pipelines.po" in sizes
    assert {name.split("/")[0] for name in sizes if ".dist-info/" not in name} == {
        "local_pipelines"
    }
    assert not [name for name in sizes if name.endswith("entry_points.txt")]


def test_an_editable_installation_finds_both_packages(tmp_path: Path) -> None:
    """A maintainer's installation, as `make install` makes it, has course_kit as well."""
    command = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    subprocess.run([sys.executable, "-c", command, str(tmp_path)], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (paths,) = (archive.read(name) for name in archive.namelist() if name.endswith(".pth"))
    folder = Path(paths.decode("utf-8").strip())
    assert (folder / "local_pipelines").is_dir()
    assert (folder / "course_kit/__main__.py").is_file()


def test_the_embedded_model_answers_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """Installed in a fresh environment, far from the checkout and offline, the model answers."""
    python = fresh_python(tmp_path / "env", wheel)
    kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONUTF8": "1"}
    result = subprocess.run(
        [str(python), "-c", SCRIPT], cwd=tmp_path, env=environ, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    imported, folder, answer = result.stdout.splitlines()[-3:]
    assert (tmp_path / "env").resolve() in Path(imported).resolve().parents
    assert (tmp_path / "env").resolve() in Path(folder).resolve().parents
    assert answer == ANSWER
