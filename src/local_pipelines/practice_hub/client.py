"""Points the Hub's client at another Hub for a while, and back again.

The client reads its settings from the environment once, when it is imported. Where that has
happened already, what it keeps is replaced in place, in every module that holds a copy; this is
checked afterwards, so that it works with a version of the client or it says that it does not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from local_pipelines.errors import failure
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.settings import assign_variable

_ADDED = {
    "HF_HUB_OFFLINE": "0",
    "HF_HUB_DISABLE_XET": "1",  # the practice Hub speaks plain downloads only
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # it asks a service on the internet
    "PYTHON_DOTENV_DISABLED": "1",  # the token in your .env stays out, too
}
# Your own tokens and folders: they come back afterwards and never meet the practice Hub.
_REMOVED = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HUGGINGFACEHUB_API_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HUGGINGFACE_ASSETS_CACHE",
    "HF_XET_CACHE",
    "TRANSFORMERS_OFFLINE",
    "HUGGINGFACE_CO_STAGING",
    "HF_OIDC_RESOURCE",
)
_PROXY_EXCEPTIONS = ("NO_PROXY", "no_proxy")
_FAMILY = ("huggingface_hub", "transformers", "optimum", "langchain_huggingface")


class ClientSwitch:
    """The settings of a practice Hub, put in force by `enter` and taken back by `leave`.

    The real cache stays out, and an empty folder, `home`, gets the downloads: a practice model has
    a real one's name.
    """

    def __init__(self, url: str, home: Path) -> None:
        self._url = url
        self._environment = {"HF_ENDPOINT": url, "HF_HOME": str(home), **_ADDED}
        self._constants: dict[str, object] = {
            "ENDPOINT": url,
            "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HUGGINGFACE_HUB_CACHE": str(home / "hub"),
            "HF_ASSETS_CACHE": str(home / "assets"),
            "HF_XET_CACHE": str(home / "xet"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }
        self._variables_before: dict[str, str | None] = {}
        self._constants_before: dict[str, object] = {}

    def enter(self, *, refuse_frozen: bool) -> None:
        """Put the settings in force; with `refuse_frozen`, leave alone a client that has others.

        Raises:
            ModelError: The client was imported already and keeps its settings. What has changed by
                then is put back by `leave`, as after any other error.
        """
        frozen = sys.modules.get("huggingface_hub.constants")
        differs = frozen and (self._url != frozen.ENDPOINT or frozen.HF_HUB_OFFLINE)
        if refuse_frozen and differs:
            hint = tr("It reads them once, when it is imported.")
            raise failure("client-keeps-settings", hint)
        # Imported now, with the settings of before, so that these can be put back afterwards.
        from huggingface_hub import constants

        self._set_environment()
        self._constants_before = {
            name: getattr(constants, name) for name in self._constants if hasattr(constants, name)
        }
        _replace(self._constants_before, self._constants)
        if not _follows(self._constants):
            hint = tr("This version of the client could not be moved.")
            raise failure("client-keeps-settings", hint)

    def leave(self) -> None:
        """Put back whatever `enter` changed, the environment first: your token is in it."""
        for name, value in self._variables_before.items():
            assign_variable(name, value)
        before, self._variables_before, self._constants_before = self._constants_before, {}, {}
        _replace(self._constants, before)

    def _set_environment(self) -> None:
        names = [*self._environment, *_REMOVED, *_PROXY_EXCEPTIONS]
        self._variables_before = {name: os.environ.get(name) for name in names}
        for name in _REMOVED:
            os.environ.pop(name, None)
        os.environ.update(self._environment)
        for name in _PROXY_EXCEPTIONS:  # a school's proxy does not know this machine's loopback
            os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))


def _replace(old: Mapping[str, object], new: Mapping[str, object]) -> None:
    """Replace settings in every module of the family that holds a copy of them."""
    if not old or not new:
        return
    import huggingface_hub

    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__name__.split(".")[0] in _FAMILY:
            for name in vars(module).keys() & old.keys() & new.keys():
                if vars(module)[name] == old[name]:
                    setattr(module, name, new[name])
    for holder in _holders():
        if holder.endpoint == old["ENDPOINT"]:
            holder.endpoint = new["ENDPOINT"]
    huggingface_hub.close_session()  # connections, and a proxy setting, of before


def _holders() -> Iterator[Any]:
    """The client's own objects that were made at import and hold the endpoint."""
    if module := sys.modules.get("huggingface_hub.hf_api"):
        yield module.api
    if module := sys.modules.get("huggingface_hub.hf_file_system"):
        yield module.hffs
        yield module.hffs._api


def _follows(wanted: Mapping[str, object]) -> bool:
    """Ask the client for addresses, as its own functions make them."""
    import huggingface_hub

    url = str(wanted["ENDPOINT"])
    return (
        huggingface_hub.hf_hub_url("owner/name", "config.json").startswith(f"{url}/")
        and huggingface_hub.HfApi().endpoint == url
        and huggingface_hub.hf_api.api.endpoint == url
        and not huggingface_hub.constants.HF_HUB_OFFLINE
        and wanted["HF_HUB_CACHE"] == huggingface_hub.constants.HF_HUB_CACHE
    )
