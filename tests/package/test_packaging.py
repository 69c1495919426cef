"""The files around the package agree with it and with each other."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

import dotenv
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import local_pipelines
from course_kit import __main__ as front
from course_kit import bootstrap

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED_EXTRAS = tuple(PROJECT["optional-dependencies"])
CUDA = ("nvidia-", "cuda-", "triton")
CONDA_EXTRAS = ("lab", "openvino")

# Set by the system or the platform, never by a reader.
SYSTEM_VARIABLES = {"PATH", "HOME", "XDG_CACHE_HOME", "VERTEX_PRODUCT"}
VARIABLE = re.compile(
    r"(HF|HUGGING_?FACE(HUB)?|LANGSMITH|LANGCHAIN|LOCAL_PIPELINES|TRANSFORMERS|TOKENIZERS|RAY|CUDA|OMP)"
    r"_[A-Z_]+[A-Z0-9]|DISABLE_SAFETENSORS_CONVERSION"
)


def requirements(*extras: str) -> list[Requirement]:
    """Return what pyproject.toml asks for, itself left out."""
    texts = [*PROJECT["dependencies"]]
    texts += [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    found = [Requirement(text) for text in texts]
    return [each for each in found if each.name != PROJECT["name"]]


def bounds(found: list[Requirement]) -> dict[str, tuple[SpecifierSet, set[str]]]:
    """Return all that is asked of each package: versions and extras."""
    asked: dict[str, tuple[SpecifierSet, set[str]]] = {}
    for each in found:
        specifier, extras = asked.get(canonicalize_name(each.name), (SpecifierSet(), set()))
        asked[canonicalize_name(each.name)] = (specifier & each.specifier, extras | each.extras)
    return asked


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt."""
    lines = [line for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")]
    return dict(line.partition(" ;")[0].split("==") for line in lines)


# ------------------------------------------------------------------------------- versions


def test_the_version_is_the_same_everywhere() -> None:
    """The package, pyproject.toml and the changelog's newest heading name one version."""
    headings = re.findall(
        r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M
    )
    assert local_pipelines.__version__ == PROJECT["version"]
    assert headings[0] in {"Unreleased", PROJECT["version"]}


def test_constraints_are_exact_pins_without_addresses() -> None:
    """Each line is `name==version`, perhaps for one system: no address, no local label, no path."""
    lines = [line for line in CONSTRAINTS.splitlines() if line and not line.startswith("#")]
    assert lines
    assert [
        line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^/]+)?", line)
    ] == []
    assert "://" not in CONSTRAINTS
    assert len(pins()) == len(lines), "a package is listed twice"


def test_constraints_satisfy_every_requirement() -> None:
    """Each requirement of the pinned extras has a pin, inside its bounds."""
    versions = pins()
    for name, (specifier, _) in bounds(requirements(*PINNED_EXTRAS)).items():
        assert name in versions, f"constraints.txt lacks {name}: run the command in its first lines"
        assert specifier.contains(versions[name]), f"{name} {versions[name]} is not {specifier}"


def test_all_that_a_pinned_package_needs_is_pinned() -> None:
    """Nothing comes along in a version that nobody has tested; only CUDA's libraries are free."""
    versions, missing = pins(), set()
    for name in versions:
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for each in map(Requirement, needs):
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                missing |= {canonicalize_name(each.name)} - versions.keys()
    assert {name for name in missing if not name.startswith(CUDA)} == set()
    left = [name for name in versions if name.startswith(CUDA)]
    assert left == [], "name them in pyproject.toml's no-emit-package"


def test_every_pin_installs_on_the_oldest_python() -> None:
    """No pinned package refuses the first release of the oldest Python that the course admits."""
    oldest = Requirement(f"python{PROJECT['requires-python']}").specifier
    first = next(iter(oldest)).version + ".0"
    refusing = []
    for name, version in pins().items():
        try:
            found = distribution(name)
        except ModuleNotFoundError:
            continue
        needs = SpecifierSet(found.metadata.get("Requires-Python") or "")
        if found.version.split("+")[0] == version and not needs.contains(first):
            refusing.append(f"{name} {version} needs Python {needs}")
    assert refusing == []


# ---------------------------------------------------------------------------- environment.yml


def conda() -> tuple[list[str], list[str]]:
    """Return what environment.yml takes from conda and what from pip."""
    asked = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    (by_pip,) = (each["pip"] for each in asked if isinstance(each, dict))
    return [each for each in asked if isinstance(each, str)], by_pip


def test_conda_asks_for_the_same_packages() -> None:
    """environment.yml names the packages of pyproject.toml with the same bounds and extras."""
    by_conda, by_pip = conda()
    listed = [Requirement(text) for text in by_pip if not text.startswith("-")]
    assert bounds(listed) == bounds(requirements(*CONDA_EXTRAS))
    assert {"-c constraints.txt", "-e ."} <= set(by_pip)
    python = next(Requirement(text) for text in by_conda if text.startswith("python"))
    assert PROJECT["requires-python"] in str(python.specifier)


def test_conda_says_what_each_dependency_is_for() -> None:
    """Each dependency in environment.yml has a comment of a few words."""
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    entries = [line.strip() for line in lines if re.match(r"\s+- [a-z]", line)]
    entries = [line for line in entries if line not in {"- conda-forge", "- pip:"}]
    assert len(entries) >= len(requirements())
    assert [line for line in entries if not re.search(r" # \w+( \S+){2,}", line)] == []


# ------------------------------------------------------------------------------ .env.example


def example_names() -> set[str]:
    """Return the variables that .env.example explains."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    return set(re.findall(r"^#? ?([A-Z][A-Z0-9_]+)=", text, re.M))


def constants(tree: ast.Module) -> dict[str, str]:
    """Return the module's names for strings."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }


def keys(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a node looks up in an environment."""
    if isinstance(node, ast.Subscript) and mentions_environ(node.value):
        yield node.slice
    elif isinstance(node, ast.Compare) and any(mentions_environ(each) for each in node.comparators):
        yield node.left
    elif isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
        asks = node.func.attr == "getenv" or mentions_environ(node.func.value)
        yield from node.args[:1] if asks else []


def mentions_environ(node: ast.AST) -> bool:
    """Tell whether an expression is `os.environ` or a mapping handed on under that name."""
    return getattr(node, "attr", getattr(node, "id", None)) == "environ"


def variables_read(path: Path) -> set[str]:
    """Return the environment variables that a module names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = constants(tree)
    looked_up = chain.from_iterable(keys(node) for node in ast.walk(tree))
    found = {
        str(key.value) if isinstance(key, ast.Constant) else names.get(getattr(key, "id", ""), "")
        for key in looked_up
    }
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    found |= {text for text in strings if isinstance(text, str) and VARIABLE.fullmatch(text)}
    return found - {""} - SYSTEM_VARIABLES


# It sets every setting of the Hub's client aside, and back again: none of them is the course's.
SETS_ASIDE = ROOT / "src/local_pipelines/practice_hub/client.py"


@pytest.mark.parametrize(
    "path",
    sorted(set((ROOT / "src").rglob("*.py")) - {SETS_ASIDE}),
    ids=lambda path: f"{path.parent.name}.{path.stem}",
)
def test_every_variable_that_is_read_is_explained(path: Path) -> None:
    """A variable that the code reads stands in .env.example with a comment."""
    assert variables_read(path) - example_names() == set()


def test_the_example_changes_nothing_by_itself() -> None:
    """Copying .env.example to .env sets no variable."""
    assert dict(dotenv.dotenv_values(ROOT / ".env.example")) == {}


def test_each_variable_of_the_example_has_a_comment() -> None:
    """Each group of variables in .env.example follows a sentence."""
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    for group in re.split(r"\n\n+", text):
        lines = group.splitlines()
        if any(re.match(r"#? ?[A-Z][A-Z0-9_]+=", line) for line in lines):
            assert re.match(r"# \S+ \S+", lines[0]), group


# ------------------------------------------------------------------------ commands and CI


def makefile_targets() -> list[str]:
    """Return the targets that the Makefile declares."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.search(r"^TARGETS := (.+)$", text, re.M)[1].split()


def test_make_and_bootstrap_know_the_same_commands() -> None:
    """What `make` can do, bootstrap.py can do on a machine without make."""
    assert makefile_targets() == [*bootstrap.COMMANDS]


def test_make_alone_lists_every_target() -> None:
    """`make` without a target names each target with a few words."""
    try:
        shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no make on this machine")
    for name, command in bootstrap.COMMANDS.items():
        assert re.search(rf"make {name} +{re.escape(command.help)}", shown.stdout)


def test_each_step_is_a_command_that_there_is() -> None:
    """What bootstrap.py asks of `course_kit` stands in that one's list of commands."""
    for command in bootstrap.COMMANDS.values():
        for step in command.steps([]):
            assert step[0] != "course_kit" or step[1] in front.COMMANDS


def test_the_guide_names_commands_that_there_are() -> None:
    """CONTRIBUTING.md and the README say `make …` and `course_kit …` of what exists only."""
    for name in ("CONTRIBUTING.md", "README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.M)) <= {*bootstrap.COMMANDS}
        assert set(re.findall(r"-m course_kit ([a-z-]+)", text)) <= {*front.COMMANDS}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_pin_actions_and_ask_for_little(path: Path) -> None:
    """A workflow names actions by commit and version, may only read, and cannot run for ever."""
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (.+)", text)
    assert used
    pinned = re.compile(r"\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in used if not pinned.fullmatch(line)] == []
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert "permissions" not in job


def test_ci_covers_all_systems_and_pythons() -> None:
    """CI runs the tests on three systems, with each Python that bootstrap.py calls tested."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert set(matrix["python"]) == set(bootstrap.TESTED_PYTHONS)
    classified = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: 3." in line}
    assert classified == set(bootstrap.TESTED_PYTHONS)


def test_pre_commit_uses_the_same_ruff() -> None:
    """What pre-commit tidies, CI accepts: both use one version of ruff."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["rev"] for repo in hooks["repos"]] == [f"v{pins()['ruff']}"]
