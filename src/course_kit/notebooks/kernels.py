"""Kernels for the notebooks: always this interpreter, and for stored outputs a clean room."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from traitlets import default

from course_kit.notebooks.pages import find_root

# The HF_HOME whose models out of packages clean rooms borrow, where it is not this process's own:
# tests have one of their own.
lender: Path | None = None


class _OwnKernelSpecs(KernelSpecManager):
    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=RESOURCES, **get_kernel_dict())


def kernel_manager(
    environment: Mapping[str, str], log: IO[bytes] | int = subprocess.DEVNULL
) -> type[AsyncKernelManager]:
    """Make a kernel manager class whose kernels run in this interpreter.

    Jupyter looks for the kernel `python3` in `JUPYTER_PATH` first and, outside a virtual
    environment, in the user's home next; what it finds there may belong to another project.

    Args:
        environment: All environment variables of the kernels.
        log: Where the processes' own messages go, those that belong to no cell.

    Returns:
        A class for nbclient's `kernel_manager_class`.
    """

    class OwnKernelManager(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _own_kernel_specs(self) -> KernelSpecManager:
            return _OwnKernelSpecs()

        def start_kernel(self, **options: Any) -> Any:
            own = {"env": dict(environment), "stdout": log, "stderr": log}
            return super().start_kernel(**{**options, **own})

    return OwnKernelManager


# What shapes a notebook's output on one machine only: accounts, models at other places,
# another look of plots, start-up files, seeds, the window's width.
_PERSONAL = re.compile(
    r"TOKEN|SECRET|PASSWORD|API_KEY"
    r"|^(HF|HUGGING\w*|TRANSFORMERS|LANGCHAIN|LANGSMITH|LOCAL_PIPELINES|XDG|JUPYTER|JPY|PYTEST)_"
    r"|^(HUGGINGFACE\w*|IPYTHONDIR|MPL\w+|MATPLOTLIBRC|COLUMNS|LINES|LANGUAGE|LC_\w+)$"
    r"|^PYTHON(HASHSEED|STARTUP|WARNINGS|_DOTENV_DISABLED)$"
)


@cache
def _matplotlib_folder() -> TemporaryDirectory[str]:
    """Make, once a process, matplotlib's list of fonts: in a lesson it takes long and warns."""
    folder = TemporaryDirectory(prefix="matplotlib-", ignore_cleanup_errors=True)
    environment = os.environ | {"MPLCONFIGDIR": folder.name}
    words = [sys.executable, "-c", "import matplotlib.font_manager"]
    subprocess.run(words, env=environment, capture_output=True, check=False)
    return folder


def clean_environment(home: Path) -> dict[str, str]:
    """Take from this process's environment what is nobody's own.

    Args:
        home: An empty folder, the home of the processes that get the environment: models,
            settings and tokens would be looked for below it.

    Returns:
        The variables: offline, no token, no GPU, English, this process's import path.
    """
    kept = {name: value for name, value in os.environ.items() if not _PERSONAL.search(name)}
    if "PYTHONPATH" in kept:  # it may be relative, and kernels start in another folder
        folders = kept["PYTHONPATH"].split(os.pathsep)
        kept["PYTHONPATH"] = os.pathsep.join(str(Path(f).resolve()) for f in folders if f)
    return kept | {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "LANG": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "DISABLE_SAFETENSORS_CONVERSION": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # stored, a bar is debris
        "HF_HUB_OFFLINE": "1",
        "LOCAL_PIPELINES_WIDGETS": "0",  # stored, a widget shows nothing
        "MPLCONFIGDIR": _matplotlib_folder().name,
        "OMP_WAIT_POLICY": "passive",  # else two kernels on few cores wait for each other
    }


@dataclass(frozen=True)
class CleanRoom:
    """A copy of a folder of notebooks in a home of its own.

    Attributes:
        folder: The copy of the notebooks' folder.
        environment: The variables for kernels that run there.
    """

    folder: Path
    environment: dict[str, str]


@contextmanager
def clean_room(folder: Path) -> Iterator[CleanRoom]:
    """Copy a folder of notebooks to where no `.env`, token, cache or setting is found.

    Args:
        folder: The folder with the notebooks; everything in it is copied.

    Yields:
        The room, removed at the end.
    """
    folder = folder.resolve()
    root = find_root(folder)
    with TemporaryDirectory(prefix="clean-room-", ignore_cleanup_errors=True) as temporary:
        home = Path(temporary).resolve()
        copy = home / "local-pipelines" / folder.relative_to(root)
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
        if (root / ".env.example").is_file():
            shutil.copy(root / ".env.example", home / "local-pipelines")
        lend_models(home / ".cache" / "huggingface")
        yield CleanRoom(copy, clean_environment(home))


def real_model_is_here() -> bool:
    """Whether the lessons' real model, smollm2, lies whole where models of whoever asks are."""
    return (_kept() / "models" / "smollm2" / "model.safetensors").is_file()


def lend_models(hf_home: Path) -> None:
    """Link the models out of packages, and the real one's exports, into another `HF_HOME`.

    They are fetched and made once; each run would take a minute or two for them.

    Args:
        hf_home: The folder; what it has under these names already stays.
    """
    for kept in (*_kept().glob("models/[!.]*"), *_kept().glob("openvino/smollm2-*")):
        there = hf_home / "local_pipelines" / kept.parent.name / kept.name
        if kept.is_dir() and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            there.symlink_to(kept.resolve(), target_is_directory=True)


def make_exports() -> None:
    """Make the exports of the real model that lessons load, where they can be lent from."""
    made = "from local_pipelines.openvino.kept import exported\n"
    made += "for form in ('fp32', 'int8', 'int4'): exported('smollm2', form)"
    environment = os.environ | {"HF_HOME": str(_hf_home())}
    subprocess.run([sys.executable, "-c", made], env=environment, capture_output=True, check=True)


def _kept() -> Path:
    return _hf_home() / "local_pipelines"


def _hf_home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return (lender or Path(os.environ.get("HF_HOME") or cache)).expanduser()
