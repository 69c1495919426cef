"""Installs packages into the running kernel, and says which are there and whether they fit.

Everything is read from the packages' metadata; none of them is imported.
"""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from local_pipelines.errors import failure
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.wording.sentences import told
from local_pipelines.workbench.addresses import without_home
from local_pipelines.workbench.versions import installed_version

NEEDED = (
    "langchain-core",
    "langchain-huggingface",
    "transformers",
    "torch",
    "huggingface_hub",
    "accelerate",
    "safetensors",
    "ipywidgets",
    "matplotlib",
)
OPTIONAL = {  # package: the extra that brings it
    "optimum-intel": "openvino",
    "openvino": "openvino",
    "openvino-genai": "openvino",
    "jsonschema": "structured",
    "llguidance": "structured",
    "ray": "scale",
}
_COURSE = "local-pipelines"
# Named here because "openvino" is a package, too: without the course's metadata we could not tell.
_EXTRAS = ("docs", "lab", "openvino", "scale", "structured", "test")


@dataclass(frozen=True)
class Installation:
    """What `install_packages` did."""

    installed: tuple[str, ...] = ()  # what is new, as `name version`
    present: tuple[str, ...] = ()  # what was asked for and is there already
    restart: tuple[str, ...] = ()  # what was replaced while the kernel uses it

    def __repr__(self) -> str:
        if not self.installed:
            return tr("Nothing to do, already here: {names}.").format(names=", ".join(self.present))
        done = tr("Installed: {names}.").format(names=", ".join(self.installed))
        advice = tr("Restart the kernel: it still uses the old {names}.").format(
            names=", ".join(self.restart)
        )
        return paragraph(done, advice if self.restart else "")


def install_packages(*requirements: str) -> Installation:
    """Install what is missing into the running kernel, and nothing that is there already.

    Args:
        requirements: Names as pip takes them (`"ray>=2.40"`), or the course's extras (`"openvino"`,
            `"scale"`); none at all means the course's basic packages.

    Returns:
        What was done, and whether the kernel must be restarted.

    Raises:
        ParameterError: If a requirement is not written as pip understands it.
        MissingPackageError: If pip fails; the cause is what pip said last.
    """
    asked = [need for text in requirements or ("",) for need in _requirements(text)]
    missing = [str(need) for need in asked if not _is_met(need)]
    present = tuple(_shown(need) for need in asked if str(need) not in missing)
    if not missing:
        return Installation(present=present)
    before, used = _all_versions(), _in_use()
    run_installer(missing)
    importlib.invalidate_caches()
    after = _all_versions()
    new = sorted(name for name, version in after.items() if before.get(name) != version)
    return Installation(
        installed=tuple(f"{name} {after[name]}" for name in new),
        present=present,
        restart=tuple(name for name in new if name in before and name in used),
    )


def installed_versions(names: Iterable[str] = (*NEEDED, *OPTIONAL)) -> dict[str, str | None]:
    """Look up the installed versions: for each name its version, `None` if it is not there."""
    return {name: installed_version(name) for name in names}


def unmet_requirements() -> list[str]:
    """List the course's basic requirements that are not met here, as pip takes them.

    None are known where the course is run from a clone that is not installed.
    """
    return [str(need) for need in _needs(_COURSE, "") if not _is_met(need)]


def torchvision_fault() -> str:
    """Recognise a torchvision that makes every import of transformers fail; torch is not imported.

    torchvision is compiled against one torch. A wrong version, or the build for NVIDIA GPUs beside
    a torch for the CPU, ends in `operator torchvision::nms does not exist`.

    Returns:
        One or two sentences with the command that mends it; empty when nothing is wrong.
    """
    torch, vision = installed_version("torch"), installed_version("torchvision")
    if not torch or not vision:
        return ""
    wanted = [need for need in _needs("torchvision", "") if need.name == "torch"]
    fits = all(need.specifier.contains(torch, prereleases=True) for need in wanted)
    if fits and not _other_build(torch, vision):
        return ""
    return told("torchvision-misfit", vision=vision, torch=torch)


def _other_build(torch: str, vision: str) -> bool:
    """Compare the labels behind the versions' plus sign, such as cpu and cu130."""
    labels = {Version(torch).local, Version(vision).local}
    # A build without a label is for CUDA on Linux, and for the CPU on macOS and Windows.
    different = len(labels) == 2 and (None not in labels or "cpu" in labels)
    return different and platform.system() == "Linux"


def _requirements(text: str) -> list[Requirement]:
    """Read one word of the learner's; none come back where its marker leaves this system out."""
    if text in ("", *_EXTRAS):
        if installed_version(_COURSE):  # else pip would look for a stranger's package of our name
            return [Requirement(f"{_COURSE}[{text}]")]
        raise failure("needs-unknown", extra=text or tr("the course"), course=_COURSE)
    try:
        need = Requirement(text)
    except InvalidRequirement:
        raise failure("no-package-name", text=text) from None
    return [need] if need.marker is None or need.marker.evaluate() else []


def _shown(need: Requirement) -> str:
    return ", ".join(sorted(need.extras)) or str(need) if need.name == _COURSE else str(need)


def _needs(package: str, extra: str) -> list[Requirement]:
    """Read what a package, or an extra of it, asks for on this system."""
    try:
        lines = [Requirement(line) for line in metadata.requires(package) or []]
    except metadata.PackageNotFoundError:
        return []
    needs = [line for line in lines if _applies(line, extra) and not (extra and _applies(line, ""))]
    for need in needs:
        need.marker = None  # it is settled
    return needs


def _applies(line: Requirement, extra: str) -> bool:
    return line.marker is None or line.marker.evaluate({"extra": extra})


def _is_met(need: Requirement) -> bool:
    version = installed_version(need.name)
    if version is None or not need.specifier.contains(version, prereleases=True):
        return False
    extras = need.extras or ({""} if need.name == _COURSE else set())
    return all(_is_met(line) for extra in extras for line in _needs(need.name, extra))


def _all_versions() -> dict[str, str]:
    found = metadata.distributions()  # a half-removed package has no name
    return {str(canonicalize_name(each.name)): each.version for each in found if each.name}


def _in_use() -> set[str]:
    """Name the packages of which the kernel has imported something."""
    owners = metadata.packages_distributions()
    modules = {name.partition(".")[0] for name in sys.modules}
    return {str(canonicalize_name(name)) for module in modules for name in owners.get(module, [])}


def run_installer(needs: list[str]) -> None:
    """Run pip, or uv, and show a failure."""
    if fault := what_failed([*installer_command(), *needs]):
        raise failure("not-installed", without_home(fault), names=", ".join(needs))


def what_failed(command: list[str]) -> str:
    """Run pip, or uv, and give what it said last if it failed; else nothing."""
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,  # nobody could answer a question
    )
    if not result.returncode:
        return ""
    lines = [line.strip() for line in result.stdout.splitlines()]
    errors = [line for line in lines if "error" in line.lower()] or [*filter(None, lines)]
    return " ".join(errors[-3:]) or str(result.returncode)


def installer_command() -> list[str]:
    """The command that installs packages here."""
    if importlib.util.find_spec("pip"):
        quiet = ["--disable-pip-version-check", "--no-color", "--no-input"]
        return [sys.executable, "-m", "pip", "install", *quiet]
    if uv := shutil.which("uv"):  # an environment made by uv has no pip inside
        return [uv, "pip", "install", "--color", "never", "--python", sys.executable]
    raise failure("no-installer", name=Path(sys.executable).name)
