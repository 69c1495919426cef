"""From a model's name to what `from_pretrained` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from local_pipelines.errors import LocalPipelinesError, ModelError, OfflineError
from local_pipelines.models.access import host, within
from local_pipelines.models.catalogue import catalogue
from local_pipelines.models.download import fetch_model
from local_pipelines.models.names import (
    LIST_STEP,
    ModelName,
    cached_folder,
    cached_model,
    did_you_mean,
    locate,
)
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.credentials import place_token

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

PATIENCE = 5.0  # seconds for one question to the Hub, name look-up and slow answers included


def model_path(model: ModelName, *, revision: str | None = None) -> str:
    """Turn a model's name into what every `from_model_id` and `from_pretrained` takes.

    Args:
        model: "pocket" (the embedded model), "smollm2" (a real one, out of the package index), a
            folder with a model in it, or an id of the Hub.
        revision: A branch, tag or commit of the Hub; the main branch if not given.

    Returns:
        The absolute path of the folder that the model lies in. A model of the Hub is downloaded
        first, if it is not in the cache: safetensors only, every file compared with its sum.

    Raises:
        ModelError: There is no such model, or the folder holds none.
        CredentialError: The model is gated and there is no token, or not the right one.
        AccessError: The model is gated and its licence is not accepted.
        OfflineError: The model has to be downloaded and the Hub cannot be reached, which is known
            after 5 seconds at most, or the download does not get through.
        CacheError: The disk is full, or cannot be written to.
    """
    found = locate(model)
    is_here = found.folder or found.packaged or cached_model(found.name, revision)
    if not is_here:  # what comes out of a package is no matter of the Hub
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
        refusal: LocalPipelinesError = _absent(model_id)
    except HfHubHTTPError:
        return None
    except LocalPipelinesError as error:
        refusal = error.with_traceback(None)
    except Exception:  # noqa: BLE001 - no route, no name, no time, or a Wi-Fi log-in page
        refusal = _offline(model_id, host())
    raise refusal  # outside the handler: the client's error may hold the header with the token


def _absent(model_id: str) -> ModelError:
    return ModelError(
        tr(
            'The Hub has no model "{model_id}" that you may see, and there is no such folder here.'
        ).format(model_id=model_id),
        did_you_mean(model_id) or tr("The id is misspelt, or the model is private."),
        tr(LIST_STEP),
    )


def _offline(model_id: str, host: str = "") -> OfflineError:
    """The error for a model that is not here whole, where its Hub is forbidden or out of reach."""
    if host:
        absent = tr('"{model_id}" is not on this machine, and the Hub ({host}) cannot be reached.')
        partly = tr(
            '"{model_id}" is only in part on this machine, and the Hub ({host}) cannot be reached.'
        )
        step = tr(
            'Write MODEL_ID = "pocket", which needs no download, or connect to the internet and'
            " run the cell once."
        )
    else:
        absent = tr('"{model_id}" is not on this machine, and HF_HUB_OFFLINE forbids downloads.')
        partly = tr(
            '"{model_id}" is only in part on this machine, and HF_HUB_OFFLINE forbids downloads.'
        )
        step = tr(
            'Write MODEL_ID = "pocket", which needs no download, or set HF_HUB_OFFLINE=0, restart'
            " the kernel and run the cells again with a connection."
        )
    fact = absent if cached_folder(model_id) is None else partly
    hint = "" if catalogue().find(model_id) else did_you_mean(model_id)
    cause = tr("A model of the Hub is downloaded once, when it is first used.")
    return OfflineError(fact.format(model_id=model_id, host=host), paragraph(cause, hint), step)
