"""From a model's name to what `from_pretrained` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_pipelines.errors import LocalPipelinesError, failure
from local_pipelines.models.access import host, within
from local_pipelines.models.catalogue import catalogue
from local_pipelines.models.download import fetch_model
from local_pipelines.models.names import (
    ModelName,
    cached_folder,
    cached_model,
    did_you_mean,
    locate,
)
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.credentials import place_token

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

PATIENCE = 5.0  # seconds for one question to the Hub, name look-up and slow answers included


def model_path(model: ModelName, *, revision: str | None = None) -> str:
    """Turn a model's name into what every `from_model_id` and `from_pretrained` takes.

    Args:
        model: "pocket" (the embedded model), "smollm2" (a real one, out of the package index), a
            folder with a model in it, a GGUF file, or an id of the Hub.
        revision: A branch, tag or commit of the Hub; the main branch if not given.

    Returns:
        The absolute path of the folder that the model lies in. A model of the Hub is downloaded
        first, if it is not in the cache: safetensors only, every file compared with its sum. A
        GGUF file is converted when it is first used; its checkpoint is kept in `HF_HOME`.

    Raises:
        ModelError: There is no such model, or the folder holds none.
        CredentialError: The model is gated and there is no token, or not the right one.
        AccessError: The model is gated and its licence is not accepted.
        OfflineError: The model has to be downloaded and the Hub cannot be reached, which is known
            after 5 seconds at most, or the download does not get through.
        CacheError: The disk is full, or cannot be written to.
    """
    found = locate(model)
    is_here = found.folder or found.packaged or found.gguf or cached_model(found.name, revision)
    if not is_here:  # what comes out of a package or a file is no matter of the Hub
        ask_hub(found.name)
    return str(fetch_model(found, revision=revision))


def ask_hub(model_id: str) -> ModelInfo | None:
    """Ask the Hub once about a model; None if it answers but refuses: `check_access` says why.

    Raises:
        LocalPipelinesError: No token that can be one, no such model, or no way to the Hub.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise _offline(model_id)
    place_token()  # refuses what cannot be one

    def look() -> ModelInfo:
        return HfApi().model_info(model_id, files_metadata=True, timeout=PATIENCE)

    try:
        return within(PATIENCE, look)
    except GatedRepoError:
        return None
    except RepositoryNotFoundError:
        hint = did_you_mean(model_id) or tr("The id is misspelt, or the model is private.")
        refused = failure("no-such-model", hint, model_id=model_id)
    except HfHubHTTPError:
        return None
    except LocalPipelinesError as error:
        refused = error.with_traceback(None)
    except Exception:  # noqa: BLE001 - no route, no name, no time, or a Wi-Fi log-in page
        refused = _offline(model_id, host())
    raise refused  # outside the handler: the client's error may hold the header with the token


def _offline(model_id: str, host: str = "") -> LocalPipelinesError:
    """The error for a model that is not here whole, where its Hub is forbidden or out of reach."""
    hint = "" if catalogue().find(model_id) else did_you_mean(model_id)
    is_absent = cached_folder(model_id) is None
    if host:
        reason = "not-here" if is_absent else "partly-here"
    else:
        reason = "not-here-offline" if is_absent else "partly-here-offline"
    return failure(reason, hint, model_id=model_id, host=host)
