"""Checks the defaults for generating that a model's folder brings."""

from __future__ import annotations

from pathlib import Path

from local_pipelines.engines.options import GENERATION_OPTIONS, check_generation_options
from local_pipelines.errors import ParameterError
from local_pipelines.models.checkpoint import read_json
from local_pipelines.models.contents import cannot_be

_FILE = "generation_config.json"
_TOKENS = frozenset(
    {"begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens"}
)  # which are checked with the model's other files


def check_generation_defaults(folder: Path) -> None:
    """Raise ModelError for what no model can do: thousands of beams, a temperature in words.

    Each is looked at by itself, as many models have defaults that others cancel.
    """
    if not (folder / _FILE).is_file():
        return
    given = read_json(folder / _FILE)
    for name in sorted((GENERATION_OPTIONS - _TOKENS) & given.keys()):
        try:
            check_generation_options({name: given[name]})
        except ParameterError as error:
            raise cannot_be(folder, _FILE, name, given[name]) from error
