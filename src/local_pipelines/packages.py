"""Which packages are installed, whether they fit together, and how to get the missing ones.

Everything is read from the installed packages' metadata; none of them is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
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

from local_pipelines._grammar import paragraph
from local_pipelines._messages import tr
from local_pipelines.errors import MissingPackageError, ParameterError

__all__ = ["Installation", "install_packages", "installed_versions", "torchvision_fault"]

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
    "ray": "scale",
}
_COURSE = "local-pipelines"
# Named here because "openvino" is a package, too: without the course's metadata we could not tell.
_EXTRAS = ("docs", "lab", "openvino", "scale", "test")


@dataclass(frozen=True)
class Installation:
    """What `install_packages` did.

    Args:
        installed: What is new, as `name version`.
        present: The requirements that were met already.
        restart: The packages replaced while the kernel uses them: restart it before going on.
    """

    installed: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __repr__(self) -> str:
        if not self.installed:
            return tr("Nothing to do, already here: {names}.").format(names=", ".join(self.present))
        done = tr("Installed: {names}.").format(names=", ".join(self.installed))
        if not self.restart:
            return done
        advice = tr("Restart the kernel: it still uses the old {names}.").format(
            names=", ".join(self.restart)
        )
        return paragraph(done, advice)


def installed_versions(names: Iterable[str] = (*NEEDED, *OPTIONAL)) -> dict[str, str | None]:
    """Look up the installed versions.

    Args:
        names: Names of packages; the course's own when left out.

    Returns:
        For each name its version, or `None` where it is not installed.
    """
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torchvision_fault() -> str:
    """Recognise a torchvision that makes every import of transformers fail; torch is not imported.

    torchvision is compiled against one torch. A wrong version, or the build for NVIDIA GPUs beside
    a torch for the CPU, ends in `operator torchvision::nms does not exist`.

    Returns:
        One or two sentences with the command that mends it; empty when nothing is wrong.
    """
    torch, vision = _version("torch"), _version("torchvision")
    if not torch or not vision:
        return ""
    wanted = [
        need
        for need in map(Requirement, metadata.requires("torchvision") or [])
        if need.name == "torch"
    ]
    fits = all(need.specifier.contains(torch, prereleases=True) for need in wanted)
    if fits and not _other_build(torch, vision):
        return ""
    return tr(
        "torchvision {vision} does not fit torch {torch}: where transformers fails with `Could not"
        " import module` or `operator torchvision::nms does not exist`, this is why. The course"
        " needs no torchvision: run `%pip uninstall -y torchvision` and restart the kernel."
    ).format(vision=vision, torch=torch)


def _other_build(torch: str, vision: str) -> bool:
    """Compare the labels behind the versions' plus sign, such as cpu and cu130.

    A build without a label is for CUDA on Linux, and for the CPU on macOS and Windows.
    """
    if platform.system() != "Linux":
        return False
    labels = {Version(torch).local, Version(vision).local}
    return len(labels) == 2 and (None not in labels or "cpu" in labels)


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
    wanted = [need for text in requirements or ("",) for need in _expand(text)]
    missing = [need for need in wanted if not _is_met(need)]
    present = tuple(str(need) for need in wanted if need not in missing)
    if not missing:
        return Installation(present=present)
    before = _all_versions()
    _run_installer([str(need) for need in missing])
    importlib.invalidate_caches()
    new = {name: v for name, v in _all_versions().items() if before.get(name) != v}
    return Installation(
        installed=tuple(f"{name} {version}" for name, version in sorted(new.items())),
        present=present,
        restart=tuple(sorted(name for name in new if name in before and name in _in_use())),
    )


def unmet_requirements() -> list[str]:
    """List the course's basic requirements that this environment does not meet.

    Returns:
        Requirements as pip takes them; empty as well where the course is run from a clone that is
        not installed, so that its requirements are unknown.
    """
    if _version(_COURSE) is None:
        return []
    return [str(need) for need in _course_needs("") if not _is_met(need)]


def _expand(text: str) -> list[Requirement]:
    if text in ("", *_EXTRAS):
        return _course_needs(text)
    try:
        need = Requirement(text)
    except InvalidRequirement:
        raise ParameterError(
            tr("{text!r} names no package.").format(text=text),
            next_step=tr('Write a name as pip takes it, such as "ray" or "ray>=2.40".'),
        ) from None
    return [need] if need.marker is None or need.marker.evaluate() else []


def _course_needs(extra: str) -> list[Requirement]:
    """Read what the course, or one of its extras, asks for; the markers are settled here."""
    try:
        needs = [Requirement(line) for line in metadata.requires(_COURSE) or []]
    except metadata.PackageNotFoundError:
        raise MissingPackageError(
            tr("What {extra} needs is unknown, as {course} is not installed here.").format(
                extra=extra or tr("the course"), course=_COURSE
            ),
            next_step=tr("Run `%pip install -e .` from the course's folder, then this cell again."),
        ) from None
    chosen = [need for need in needs if _belongs(need, extra)]
    for need in chosen:
        need.marker = None
    return chosen


def _belongs(need: Requirement, extra: str) -> bool:
    """Say whether a line of metadata belongs to the extra, or to the basis for an empty one."""
    if need.marker is None:
        return not extra
    basic = need.marker.evaluate({"extra": ""})
    return not basic and need.marker.evaluate({"extra": extra}) if extra else basic


def _is_met(need: Requirement) -> bool:
    version = _version(need.name)
    if version is None or not need.specifier.contains(version, prereleases=True):
        return False
    lines = [Requirement(line) for line in metadata.requires(need.name) or []]
    return all(_is_met(line) for extra in need.extras for line in lines if _belongs(line, extra))


def _all_versions() -> dict[str, str]:
    found = {}
    for package in metadata.distributions():
        if package.name:  # a half-removed package has none
            found[str(canonicalize_name(package.name))] = package.version
    return found


def _in_use() -> set[str]:
    """Name the packages of which the kernel has imported something."""
    owners = metadata.packages_distributions()
    return {
        str(canonicalize_name(package))
        for module in {name.partition(".")[0] for name in sys.modules}
        for package in owners.get(module, [])
    }


def _run_installer(needs: list[str]) -> None:
    result = subprocess.run(
        [*_installer(), *needs],
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,  # nobody could answer a question
    )
    if result.returncode:
        raise MissingPackageError(
            tr("Installing {names} failed.").format(names=", ".join(needs)),
            _last_words(result.stdout + result.stderr),
            tr("Check the spelling and the network, then run this cell again."),
        )


def _installer() -> list[str]:
    if importlib.util.find_spec("pip"):
        quiet = ["--disable-pip-version-check", "--no-color", "--no-input"]
        return [sys.executable, "-m", "pip", "install", *quiet]
    if uv := shutil.which("uv"):  # an environment made by uv has no pip inside
        return [uv, "pip", "install", "--color", "never", "--python", sys.executable]
    raise MissingPackageError(
        tr("Neither pip nor uv was found, so nothing can be installed from here."),
        next_step=tr(
            "Run `{name} -m ensurepip` in a terminal with this environment switched on,"
            " then this cell again."
        ).format(name=Path(sys.executable).name),
    )


def _last_words(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()] or lines
    return without_home(" ".join(errors[-3:]))


def without_home(text: str) -> str:
    """Write `~` for the home folder, so that a stored output does not tell whose machine it was.

    Args:
        text: A path, or a text with paths inside.

    Returns:
        The text with `~` in place of the home folder.
    """
    home = str(Path.home())
    if home == Path(home).anchor:
        return text
    return "~" if text == home else text.replace(home + os.sep, "~" + os.sep)
