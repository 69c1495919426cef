"""The report of a notebook's first cell: what this machine has, and what to know about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from local_pipelines.wording.columns import columns, fold, html_table
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.addresses import without_home
from local_pipelines.workbench.devices import select_device
from local_pipelines.workbench.packages import OPTIONAL
from local_pipelines.workbench.settings import shown_path

if TYPE_CHECKING:
    from local_pipelines.workbench.devices import Device

_LINE = 88  # characters in a line of the plain report


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What `setup_environment` found; in a notebook it shows as a table.

    Args:
        python: Python's version.
        platform: System and processor family, such as `Linux x86_64`.
        cpu_cores: How many cores this process may use.
        ram_total: RAM in bytes; in a container, what the container may take.
        ram_free: Free RAM in bytes.
        hf_home: The folder in which the Hub's client keeps models and token.
        disk_free: Free bytes on the disk with the downloaded models.
        packages: For each package of the course its version, or `None`.
        env_file: The `.env` that was read, or `None`.
        token: Where a token was found, or `None`; never the token.
        online: Whether models may be downloaded.
        tracing: Whether LangChain sends prompts and answers to LangSmith.
        notes: What the learner should know or do, one or two sentences each.
        language: The language of the notebook, or `None`.
    """

    python: str
    platform: str
    cpu_cores: int
    ram_total: int
    ram_free: int
    hf_home: Path
    disk_free: int
    packages: dict[str, str | None]
    env_file: Path | None
    token: str | None
    online: str
    tracing: str
    notes: tuple[str, ...] = ()
    language: str | None = None

    @cached_property
    def device(self) -> Device:
        """The device that models will run on; asking for it imports torch, about two seconds.

        Raises:
            DeviceError: If no device can be selected.
        """
        return select_device()

    def _rows(self) -> list[tuple[str, str]]:
        python, memory = tr("{version} on {system}"), tr("{free} of {total} RAM free")
        total = _gigabytes(self.ram_total)
        token = (
            tr("found: {source}").format(source=self.token)
            if self.token
            else tr("none; only gated models need one")
        )
        settings = (
            tr("read from {file}").format(file=shown_path(self.env_file))
            if self.env_file
            else tr("no .env found; none is needed")
        )
        rows = [
            ("Python", python.format(version=self.python, system=self.platform)),
            (tr("Memory"), memory.format(free=_gigabytes(self.ram_free), total=total)),
            (tr("Disk"), tr("{free} free for models").format(free=_gigabytes(self.disk_free))),
            (tr("Cores"), str(self.cpu_cores)),
            (tr("Device"), self._device_line()),
            (tr("Packages"), ", ".join(f"{name} {v}" for name, v in self.packages.items() if v)),
            (tr("Not installed"), self._missing_line()),
            (tr("Settings"), settings),
            (tr("Models in"), f"{without_home(str(self.hf_home))} (HF_HOME)"),
            (tr("Token"), token),
            ("Hub", self.online),
            (tr("Tracing"), self.tracing),
            (tr("Language"), self.language or ""),
            *((tr("Note"), note) for note in self.notes),
        ]
        return [row for row in rows if row[1]]

    def _missing_line(self) -> str:
        missing = [name for name, version in self.packages.items() if not version]
        extras = sorted({OPTIONAL[name] for name in missing if name in OPTIONAL})
        calls = " ".join(f'install_packages("{extra}")' for extra in extras)
        names = ", ".join(missing)
        text = tr("{names}; lessons that need them: {calls}") if calls else "{names}"
        return text.format(names=names, calls=calls)

    def _device_line(self) -> str:
        try:
            device = self.device
        except (ImportError, OSError, RuntimeError, ValueError) as error:
            # A report is wanted most where torch is missing or broken.
            return tr("unknown: {reason}").format(reason=without_home(str(error)))
        facts = ", ".join(filter(None, (device.name, device.dtype, device.hardware)))
        return tr("{facts}. {reason}").format(facts=facts, reason=device.reason)

    def __repr__(self) -> str:
        rows = self._rows()
        width = max(columns(name) for name, _ in rows) + 2
        return "\n".join(fold(text, _LINE, head=name, indent=width) for name, text in rows)

    def _repr_html_(self) -> str:
        return html_table(self._rows(), row_heads=True)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
