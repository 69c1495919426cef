"""Downloads a model's files in bounded time: what breaks is tried again, what is here stays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_pipelines import _checkpoint
from local_pipelines._access import ask, check_access, explain_refusal, is_passing
from local_pipelines._grammar import gigabytes
from local_pipelines._messages import tr
from local_pipelines._names import ModelName, locate
from local_pipelines.errors import CacheError, LocalPipelinesError, ModelError, OfflineError

__all__ = ["damaged_file", "fetch_model", "is_damaged"]

PAUSES = (1.0, 2.0, 4.0)  # seconds before a broken download is tried again
STANDSTILL = 120.0  # seconds without a new piece (the client writes 10 MB at a time)

_SMALL_FILE = re.compile(r"[\w.-]+\.(json|jinja|model|txt)", re.ASCII)
_PART = re.compile(r"model-\d+-of-\d+\.safetensors", re.ASCII)
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    sha256: str | None  # told for large files only


def fetch_model(model_id: ModelName, *, revision: str | None = None) -> Path:
    """Make sure that a model is on this machine, whole.

    Args:
        model_id: An id of the Hub, "pocket", or a folder.
        revision: A branch, tag or commit of the Hub; the main branch if not given.

    Returns:
        The folder that it lies in. What was downloaded before is not asked for again.

    Raises:
        LocalPipelinesError: No access, no way to the Hub, no such model or no room, a
            sentence each.
    """
    model = locate(model_id)
    if model.folder is not None:
        return model.folder
    found = model.name
    if (folder := _cached(found, revision)) is not None:
        return folder
    commit = check_access(found, revision=revision)
    wanted = _list_files(found, commit)
    # By its own name first: that is how the cache learns which commit the revision stands for.
    first = wanted.pop("config.json", _File("config.json", 0, None))
    config = _download(found, first, revision or "main")
    for name, file in wanted.items():
        path = _download(found, file, commit)
        if name == _INDEX:
            _check_index(found, path, wanted.keys())
    return config.parent


def damaged_file(folder: Path) -> str | None:
    """Find the weight file whose bytes are not those the Hub has, if there is one."""
    for file in _checkpoint.weight_files(folder):
        # The cache names a large file by its SHA-256; elsewhere only the header can be judged.
        sum_told = file.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", sum_told) and _sha256(file) != sum_told:
            return file.name
        try:
            _checkpoint.read_tensors([file])
        except ModelError:
            return file.name
    return None


def is_damaged(model_id: str, file: str) -> ModelError:
    """Make the error that names a damaged file and the command that repairs it."""
    return ModelError(
        tr("The file {file} of {model_id} is damaged.").format(file=file, model_id=model_id),
        tr("It has the right size and wrong bytes, so the download looked complete."),
        tr(
            "Fetch it again with `hf download {model_id} {file} --force-download`, then run the"
            " cell again."
        ).format(model_id=model_id, file=file),
    )


def _cached(model_id: str, revision: str | None) -> Path | None:
    """The folder of a model that was downloaded whole."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(model_id, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    if not any((folder / name).is_file() for name in _TOKENIZER):
        return None
    with suppress(ModelError):
        _checkpoint.weight_files(folder)
        return folder
    return None


def _list_files(model_id: str, commit: str) -> dict[str, _File]:
    """The files that loading needs, small ones first; nothing outside the top folder."""
    from huggingface_hub import HfApi

    def look() -> Any:
        return HfApi().model_info(model_id, revision=commit, files_metadata=True, timeout=10)

    siblings = ask(model_id, look).siblings or []
    files = {
        s.rfilename: _File(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else None)
        for s in siblings
    }
    small = {name: file for name, file in files.items() if _SMALL_FILE.fullmatch(name)}
    weights = _choose_weights(model_id, files)
    _check_disk(model_id, sum(file.size for file in weights.values()))
    return {**small, **weights}


def _choose_weights(model_id: str, files: Mapping[str, _File]) -> dict[str, _File]:
    if "model.safetensors" in files:
        return {"model.safetensors": files["model.safetensors"]}
    parts = {name: file for name, file in files.items() if _PART.fullmatch(name)}
    if _INDEX in files and parts:
        return parts
    raise ModelError(
        tr("{model_id} has no weights in the safetensors format.").format(model_id=model_id),
        tr("Its .bin files are Python pickles, which can run anything when they are opened.")
        if any(name.endswith(".bin") for name in files)
        else tr("It is no model for transformers, perhaps a GGUF file or an adapter."),
        tr("Take a model with model.safetensors."),
    )


def _check_index(model_id: str, index: Path, names: Collection[str]) -> None:
    """Refuse an index that points at files which were not asked for."""
    try:
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise is_damaged(model_id, index.name) from None
    if not named <= set(names):
        raise ModelError(
            tr("The index of {model_id} names weight files that the model does not have.").format(
                model_id=model_id
            ),
            tr("It is broken, or meant to read other files of this machine."),
            tr("Take another model, or another revision."),
        )


def _check_disk(model_id: str, size: int) -> None:
    free = _disk_free()
    if free is not None and size > free:
        raise CacheError(
            tr("{model_id} does not fit on the disk: it takes {size} and {free} are free.").format(
                model_id=model_id, size=gigabytes(size), free=gigabytes(free)
            ),
            tr("Downloads go to {cache}.").format(cache=_cache()),
            tr(
                "Free some space, or set HF_HOME to a folder on another disk and restart the"
                " kernel."
            ),
        )


def _download(model_id: str, file: _File, revision: str) -> Path:
    """Fetch one file, again if it breaks in a way that the client gives up on."""
    problem: Exception | None = None
    for pause in (0.0, *PAUSES):
        time.sleep(pause)
        try:
            path = _download_once(model_id, file.name, revision)
        except Exception as error:  # noqa: BLE001 - all the client's errors, of several libraries
            problem = error
            if not _may_pass(error):
                break
            continue
        if file.sha256 is None or _sha256(path) == file.sha256:
            return path
        problem = is_damaged(model_id, file.name)
        _remove(path)
    raise _explain_download(model_id, file, problem) from None


def _download_once(model_id: str, name: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    with _watched(model_id, name):
        return Path(hf_hub_download(model_id, name, revision=revision))


def _may_pass(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EACCES, errno.EROFS}:
        return False
    return is_passing(error)


def _explain_download(model_id: str, file: _File, error: Exception | None) -> Exception:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return CacheError(
            tr("The disk is full: {name} of {model_id} takes {size}.").format(
                name=file.name, model_id=model_id, size=gigabytes(file.size)
            ),
            tr("Downloads go to {cache}; the files before it are whole and stay.").format(
                cache=_cache()
            ),
            tr("Free some space and run the cell again."),
        )
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EROFS}:
        return CacheError(
            tr("The download of {model_id} cannot be kept in {cache}.").format(
                model_id=model_id, cache=_cache()
            ),
            f"{error.strerror}.",
            tr("Set HF_HOME to a folder that you may write to, and restart the kernel."),
        )
    if error is None or isinstance(error, LocalPipelinesError):
        return error or AssertionError("unreachable")
    if is_passing(error) or isinstance(error, TimeoutError):
        return OfflineError(
            tr("The download of {name} of {model_id} broke off {number} times.").format(
                name=file.name, model_id=model_id, number=len(PAUSES) + 1
            ),
            tr("The connection or the Hub has a fault ({kind}).").format(kind=type(error).__name__),
            tr("Run the cell again: the files before it are whole and stay, this one starts anew."),
        )
    return explain_refusal(model_id, error)


@contextmanager
def _watched(model_id: str, name: str) -> Iterator[None]:
    """Break a download off that stands still without ever being silent for long.

    The client's time limit starts anew with every byte, so that a byte now and then keeps it
    waiting without end. Closing its connections is what ends it.
    """
    over, stopped = threading.Event(), threading.Event()

    def watch() -> None:
        size, since = -1, time.monotonic()
        while not over.wait(min(1.0, STANDSTILL / 4)):
            if (now := _downloaded(model_id)) != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > STANDSTILL:
                stopped.set()
                _close_connections()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except Exception:
        if stopped.is_set():
            raise _stands_still(model_id, name) from None
        raise
    finally:
        over.set()


def _stands_still(model_id: str, name: str) -> OfflineError:
    return OfflineError(
        tr("The download of {name} of {model_id} all but stands still.").format(
            name=name, model_id=model_id
        ),
        tr("Less than 10 MB came in {standstill:g} seconds.").format(standstill=STANDSTILL),
        tr("Try again on a faster connection; the files before it are whole and stay."),
    )


def _close_connections() -> None:
    import huggingface_hub

    if close := getattr(huggingface_hub, "close_session", None):  # not in versions before 1.0
        close()


def _downloaded(model_id: str) -> int:
    """Bytes of a model that are here, those of unfinished files included."""
    from huggingface_hub.file_download import repo_folder_name

    folder = _cache() / repo_folder_name(repo_id=model_id, repo_type="model") / "blobs"
    size = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            with suppress(OSError):  # it was renamed while we looked
                size += entry.stat().st_size
    return size


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _disk_free() -> int | None:
    folder = _cache()
    with suppress(OSError):
        return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _remove(file: Path) -> None:
    """Take a file out of the cache: its name in the snapshot and the bytes behind it."""
    blob = file.resolve()
    file.unlink(missing_ok=True)
    blob.unlink(missing_ok=True)
