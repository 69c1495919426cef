"""The exports that the course keeps in `HF_HOME`: each is made when it is first used."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local_pipelines._messages import tr
from local_pipelines.errors import ExportError

__all__ = ["exported"]


def exported(model_id: str | os.PathLike[str], weight_format: str) -> Path:
    """The folder with the export of a model, which is made if it is not there or outdated."""
    from local_pipelines.openvino import export_openvino

    target = _cache_folder() / _cache_name(model_id, weight_format)
    try:
        return export_openvino(model_id, target, weight_format=weight_format)
    except ExportError:
        if not target.exists():
            raise
    with _set_aside(target):  # of another version of the model, by another OpenVINO, or damaged
        return export_openvino(model_id, target, weight_format=weight_format)


def _cache_folder() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    home = Path(os.environ.get("HF_HOME") or default).expanduser()
    return home / "local_pipelines" / "openvino"


def _cache_name(model_id: str | os.PathLike[str], weight_format: str) -> str:
    """A name for a model and a format; two folders of one name do not share it."""
    from local_pipelines.models import _locate

    located = _locate(model_id)
    if isinstance(located, str):
        return f"{located.replace('/', '--')}-{weight_format}"
    if str(model_id).strip() == "pocket":
        return f"pocket-{weight_format}"
    place = hashlib.sha256(str(located).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]", "_", located.name)
    return f"{name}-{place}-{weight_format}"


@contextmanager
def _set_aside(folder: Path) -> Iterator[None]:
    """Give a folder another name while its successor is made, and its own back if that fails."""
    aside = folder.with_name(f".{folder.name}.old-{secrets.token_hex(3)}")
    try:
        folder.rename(aside)
    except OSError as error:
        raise ExportError(
            tr("{folder} is outdated and cannot be replaced.").format(folder=folder),
            f"{error.strerror or error}.",
            tr("Close the programs that use it, or delete it yourself."),
        ) from error
    try:
        yield
    except BaseException:
        if not folder.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
