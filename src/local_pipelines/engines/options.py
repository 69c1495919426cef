"""Checks generation options before anything is loaded or computed, and says what to write instead.

Libraries accept some of these silently, ignore others, and fail on the rest minutes later.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from local_pipelines.errors import LocalPipelinesError, ParameterError, failure
from local_pipelines.models.checkpoint import read_json
from local_pipelines.models.contents import cannot_be
from local_pipelines.wording.grammar import listed, nearest
from local_pipelines.workbench.checks import is_finite, whole_number

SAMPLING_OPTIONS = frozenset(
    {"temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff"}
)
_MOST_BEAMS = 256  # each is a row of the batch: thousands compute for hours, or end the process
BACKENDS = ("auto", "torch", "openvino", "genai")  # what `backend` of `load_llm` may be
_COUNTS: dict[str, tuple[int, int | None, int]] = {  # whole numbers: lowest, highest, an example
    "max_length": (1, None, 64),
    "max_new_tokens": (1, None, 64),
    "min_length": (0, None, 0),
    "min_new_tokens": (0, None, 0),
    "no_repeat_ngram_size": (0, None, 3),
    "num_beam_groups": (1, _MOST_BEAMS, 1),
    "num_beams": (1, _MOST_BEAMS, 4),
    "num_return_sequences": (1, _MOST_BEAMS, 1),
    "top_k": (0, None, 50),
}
_ANY_SIZE = {"diversity_penalty", "length_penalty", "max_time", "repetition_penalty"}
_NUMBERS = (SAMPLING_OPTIONS - _COUNTS.keys() - {"temperature"}) | _ANY_SIZE
GENERATION_OPTIONS = frozenset(
    SAMPLING_OPTIONS
    | _COUNTS.keys()
    | _NUMBERS
    | {"do_sample", "early_stopping", "guidance_scale", "penalty_alpha", "seed", "sequence_bias"}
    | {"encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "prompt_lookup_num_tokens"}
    | {"bad_words_ids", "begin_suppress_tokens", "force_words_ids", "suppress_tokens"}
    | {"exponential_decay_length_penalty", "forced_bos_token_id", "forced_eos_token_id"}
    | {"logits_processor", "stop_strings", "stopping_criteria"}
)
_MISPLACED = GENERATION_OPTIONS | {"return_full_text", "skip_prompt", "stop", "stop_sequence"}
_DEFAULTS = "generation_config.json"  # in a model's folder
_TOKEN_OPTIONS = frozenset(
    {"begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "suppress_tokens"}
)  # which are checked with the model's other files
_LENGTHS = frozenset({"max_length", "max_new_tokens"})
_TOKEN_NAMES = {"api_token", "hf_token", "huggingfacehub_api_token", "token", "use_auth_token"}
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{20}")  # whatever name it is given by


def check_no_token(options: Mapping[str, Any] | None) -> None:
    """Raise CredentialError for a token: LangChain shows options in `print(llm)` and traces."""
    for name, value in (options or {}).items():
        if isinstance(value, Mapping):
            check_no_token(value)
        named = name in _TOKEN_NAMES and not isinstance(value, bool | None)
        if named or (isinstance(value, str) and _TOKEN.search(value)):
            raise failure("token-as-option", name=name)


def check_model_kwargs(model_kwargs: Mapping[str, Any] | None) -> None:
    """Raise ParameterError for generation options among those for loading, as for a token."""
    check_no_token(model_kwargs)
    given = model_kwargs or {}
    here = {name: given[name] for name in sorted(_MISPLACED & given.keys())}
    names = listed(list(here))
    if "stop" in here or "stop_sequence" in here:
        raise failure("misplaced-stop", names=names)
    if "skip_prompt" in here:
        raise failure("misplaced-skip-prompt", names=names, value=here["skip_prompt"])
    kwargs = with_sampling(here) if here.get("temperature") == 0 else dict(here)
    if isinstance(length := kwargs.pop("max_length", None), int):
        kwargs.setdefault("max_new_tokens", length)
    if here:
        raise failure("misplaced-options", names=names, kwargs=kwargs)


def check_generation_options(options: Mapping[str, Any]) -> None:
    """Check options, written by hand, that contradict each other or mean nothing.

    Raises:
        CredentialError: There is a token.
        ParameterError: Some of them cannot work.
    """
    check_no_token(options)
    _check_length(options)
    for name, (low, high, example) in _COUNTS.items():
        if options.get(name) is not None:
            whole_number(name, options[name], low, high=high, example=example)
    for name in sorted(_NUMBERS & options.keys()):
        _check_number(name, options[name])
    _check_kinds(options)
    _check_temperature(options.get("temperature"), options.get("do_sample"))
    idle = [name for name in sorted(SAMPLING_OPTIONS) if options.get(name) is not None]
    if options.get("temperature") == 0:
        idle.remove("temperature")
    if idle and options.get("do_sample") is False:
        raise failure("sampling-idle", names=listed(idle), switch="do_sample=False")


def check_generation_defaults(folder: Path) -> None:
    """Raise ModelError for what no model can do: thousands of beams, a temperature in words.

    Each is looked at by itself, as many models have defaults that others cancel.
    """
    given = read_json(folder / _DEFAULTS) if (folder / _DEFAULTS).is_file() else {}
    for name in sorted((GENERATION_OPTIONS - _TOKEN_OPTIONS) & given.keys()):
        try:
            check_generation_options({name: given[name]})
        except ParameterError as error:
            raise cannot_be(folder, _DEFAULTS, name, given[name]) from error


def _check_length(options: Mapping[str, Any]) -> None:
    length, new = options.get("max_length"), options.get("max_new_tokens")
    if length is not None and new is not None:
        raise failure("two-lengths", length=length, new=new)


def _check_number(name: str, value: Any) -> None:
    low = -math.inf if name == "length_penalty" else 0
    high = 1 if name in SAMPLING_OPTIONS else math.inf
    if value is None or (is_finite(value) and low <= value <= high):
        return
    raise failure("no-fraction" if high == 1 else "no-amount", name=name, value=value)


def _check_kinds(options: Mapping[str, Any]) -> None:
    for name in ("logits_processor", "stopping_criteria"):
        if not isinstance(options.get(name), Sequence | None):
            raise failure("hooks-no-list", name=name, value=options[name])
    sampling, seed = options.get("do_sample"), options.get("seed")
    if not isinstance(sampling, bool | None):
        raise failure("do-sample-value", value=sampling)
    if isinstance(seed, bool) or not isinstance(seed, int | None):
        raise failure("seed-value", seed=seed)


def _check_temperature(temperature: Any, sampling: object) -> None:
    if temperature is None:
        return
    if not is_finite(temperature) or temperature < 0:
        raise failure("temperature-value", temperature=temperature)
    if temperature == 0 and sampling:
        raise failure("temperature-and-sampling")


def merged(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a call over those of the model, which must not switch off what the call asks for.

    A call's limit replaces any limit, and a call that switches sampling off does so whatever
    temperature the model has.

    >>> merged({"max_new_tokens": 64, "temperature": 0.7}, {"max_length": 9, "do_sample": False})
    {'max_length': 9, 'do_sample': False}
    """
    dropped = set[str]()
    if any(options.get(name) is not None for name in _LENGTHS):
        dropped |= _LENGTHS
    if _switch(options):
        dropped |= SAMPLING_OPTIONS | {"do_sample"}
    kept = {name: value for name, value in defaults.items() if name not in dropped}
    _check_switched_off(kept, options)
    return kept | dict(options)


def _switch(options: Mapping[str, Any]) -> str:
    """What switches sampling off; empty if nothing does."""
    if options.get("do_sample") is False:
        return "do_sample=False"
    return "temperature=0" if options.get("temperature") == 0 else ""


def _check_switched_off(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    switch = "" if _switch(options) else _switch({**defaults, **options})
    names = sorted((SAMPLING_OPTIONS | {"do_sample"}) & options.keys())
    given = [f"{name}={options[name]!r}" for name in names if options[name] is not None]
    if not switch or not given:
        return
    way = "do_sample=True" if switch == "do_sample=False" else "temperature=0.7"
    raise failure("sampling-switched-off", names=listed(given), switch=switch, option=way)


def with_sampling(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settle whether to sample: who gives a temperature means to, and 0 means not to.

    >>> with_sampling({"temperature": 0.7}), with_sampling({"temperature": 0, "top_p": 0.9})
    ({'temperature': 0.7, 'do_sample': True}, {'do_sample': False})
    """
    if _switch(options):
        kept = {name: v for name, v in options.items() if name not in SAMPLING_OPTIONS}
        return kept | {"do_sample": False}
    given = any(options.get(name) is not None for name in SAMPLING_OPTIONS)
    if given and options.get("do_sample") is None:
        return {**options, "do_sample": True}
    return dict(options)


def unknown_option(name: str, known: frozenset[str]) -> LocalPipelinesError:
    """The error for an option that nothing here reads."""
    near = nearest(name, known)
    return failure("misspelt-option" if near else "unknown-option", name=name, near=near)
