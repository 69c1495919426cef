"""Installed as pip installs it, without our constraints, the course answers on torch.

What pip, Colab and `git+https` give is the newest version of everything. The environment is kept
in `build/newest` for a week; it takes torch from where `make` takes it. The lowest versions that
pyproject.toml allows are tried where `LOWEST_VERSIONS=1` asks for it and uv is there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import venv
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from course_kit import bootstrap

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "newest"
WEEK = 7 * 24 * 3600
NO_INDEX = ("NewConnectionError", "No matching distribution found", "Could not fetch URL")

SCRIPT = """
import json
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
import local_pipelines as lp

llm = lp.load_llm(backend="torch", max_new_tokens=48)
text = "Question: {question}\\n\\nAnswer: Let's think step by step."
prompt = PromptTemplate.from_template(text)
chain = prompt | llm.bind(stop=["\\n\\n"]) | StrOutputParser()
asked = {"question": "What is the capital of France?"}
batch = [{"question": f"What is the number {n} in French?"} for n in (1, 2, 3)]
chat = lp.LocalChat(llm=llm)
own = lp.LocalPipeline.from_model_id("pocket", pipeline_kwargs={"max_new_tokens": 16})
print(json.dumps({
    "invoke": llm.invoke(prompt.format(**asked)),
    "stop": chain.invoke(asked),
    "batch": chain.batch(batch),
    "stream": "".join(chain.stream(asked)),
    "chat": chat.invoke("What is the capital of France?").content,
    "usage": chat.invoke("What is a token?").usage_metadata["output_tokens"],
    "from_model_id": own.invoke("What is the capital of Italy?"),
}))
"""


def is_fresh(stamp: Path) -> bool:
    """Say whether the kept environment was made this week, from this pyproject.toml."""
    if not stamp.is_file() or time.time() - stamp.stat().st_mtime > WEEK:
        return False
    return stamp.read_text(encoding="utf-8") == needs()


def needs() -> str:
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def torch_words() -> list[str]:
    """Say which torch to take: the CPU build of the installed version where no index has others."""
    environ = dict(os.environ)
    wheels = bootstrap.find_links(sys.executable, environ)
    index, _ = bootstrap.torch_index(wheels, environ)
    pinned = "torch==" + metadata.version("torch").partition("+")[0]
    return [*index, "torch"] if index else [pinned]


def install(python: Path, *words: str) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    flags = ["--disable-pip-version-check", "--no-input", "--upgrade"]
    flags += ["--upgrade-strategy", "eager"]
    done = subprocess.run([*command, *flags, *words], capture_output=True, text=True, cwd=ROOT)
    if done.returncode and any(mark in done.stderr for mark in NO_INDEX):
        pytest.skip("no package index can be reached, so there are no newest versions to try")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def newest_python(wheel: Path) -> Path:
    """Give a Python with the wheel and the newest version of all that it needs."""
    python = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = FOLDER / "needs.txt"
    if not is_fresh(stamp):
        venv.create(FOLDER, with_pip=False, clear=True)
        install(python, *torch_words(), str(wheel))
        stamp.write_text(needs(), encoding="utf-8")
    install(python, "--force-reinstall", "--no-deps", "--no-index", str(wheel))
    return python


@pytest.fixture(scope="module")
def lowest_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a Python with the wheel and the lowest versions that pip would accept."""
    uv = shutil.which("uv")
    if os.environ.get("LOWEST_VERSIONS") != "1" or uv is None:
        pytest.skip("the lowest versions are tried where LOWEST_VERSIONS=1 is set and uv is there")
    folder = tmp_path_factory.mktemp("lowest")
    venv.create(folder, with_pip=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    command = [uv, "pip", "install", "--python", str(python), "--resolution", "lowest-direct"]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def answers(python: Path, folder: Path) -> dict[str, Any]:
    """Ask the embedded model in that environment, offline and far from the checkout."""
    kept = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "PYTHONUTF8": "1"}
    environ |= {"OMP_WAIT_POLICY": "passive"}
    command = [str(python), "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def check_answers(said: dict[str, Any]) -> None:
    steps = " The country is: France. The question asks for its capital."
    paris = "The capital of France is Paris."
    assert said["stop"] == said["stream"] == f"{steps} {paris}"
    assert said["invoke"].startswith(f"{steps} {paris}\n\nQuestion:")
    ends = [answer.rsplit(" ", 1)[-1] for answer in said["batch"]]
    assert ends == ["un.", "deux.", "trois."]
    assert said["chat"] == paris
    assert said["usage"] > 5
    assert said["from_model_id"].strip() == "The capital of Italy is Rome."


def test_the_wheel_answers_with_the_newest_versions(newest_python: Path, tmp_path: Path) -> None:
    """Invoke, stop, batch, stream and chat say on the newest versions what they say on ours."""
    check_answers(answers(newest_python, tmp_path))


def test_the_wheel_answers_with_the_lowest_versions(lowest_python: Path, tmp_path: Path) -> None:
    """The lower bounds in pyproject.toml are versions that work."""
    check_answers(answers(lowest_python, tmp_path))
