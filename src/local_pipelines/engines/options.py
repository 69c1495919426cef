"""Checks generation options before anything is loaded or computed, and says what to write instead.

Libraries accept some of these silently, ignore others, and fail on the rest minutes later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from local_pipelines.errors import CredentialError, ParameterError
from local_pipelines.wording.grammar import listed, nearest
from local_pipelines.wording.messages import tr
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
            raise CredentialError(
                tr("A token ({name}=…) is no option of a model here.").format(name=name),
                tr("It would show up in outputs, logs and traces."),
                tr("Run `login()`, or set HF_TOKEN."),
            )


def check_model_kwargs(model_kwargs: Mapping[str, Any] | None) -> None:
    """Raise ParameterError for generation options among those for loading, as for a token."""
    check_no_token(model_kwargs)
    given = model_kwargs or {}
    if here := {name: given[name] for name in sorted(_MISPLACED & given.keys())}:
        raise ParameterError(
            tr("{names} in model_kwargs would not work.").format(names=listed(list(here))),
            tr("model_kwargs are for loading a model; how it generates stands in pipeline_kwargs."),
            _instead(here),
        )


def _instead(options: Mapping[str, Any]) -> str:
    if "stop" in options or "stop_sequence" in options:
        return tr('Write llm.bind(stop=["\\n\\n"]).')
    if "skip_prompt" in options:
        return tr("Write llm.bind(skip_prompt={value!r}).").format(value=options["skip_prompt"])
    kwargs = dict(options)
    if kwargs.get("temperature") == 0:
        del kwargs["temperature"]
        kwargs["do_sample"] = False
    if isinstance(length := kwargs.pop("max_length", None), int):
        kwargs.setdefault("max_new_tokens", length)
    return tr("Write pipeline_kwargs={kwargs!r}.").format(kwargs=kwargs)


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
    idle = sorted(name for name in SAMPLING_OPTIONS if options.get(name) is not None)
    if options.get("temperature") == 0:
        idle.remove("temperature")
    if idle and options.get("do_sample") is False:
        raise ParameterError(
            _no_effect(idle, "do_sample=False"),
            tr("Without sampling the model always takes the most probable token."),
            tr("Write do_sample=True, or leave out what has no effect."),
        )


def _no_effect(names: list[str], switch: str) -> str:
    fact = tr("{names} would have no effect with {switch}.")
    return fact.format(names=listed(names), switch=switch)


def _check_length(options: Mapping[str, Any]) -> None:
    length, new = options.get("max_length"), options.get("max_new_tokens")
    if length is not None and new is not None:
        fact = tr("max_length={length!r} and max_new_tokens={new!r} contradict each other.")
        raise ParameterError(
            fact.format(length=length, new=new),
            tr("max_length counts the prompt too, max_new_tokens only the answer."),
            tr("Write max_new_tokens={new!r} alone.").format(new=new),
        )


def _check_number(name: str, value: Any) -> None:
    is_part = name in SAMPLING_OPTIONS
    if value is None or (
        is_finite(value)
        and (value >= 0 or name == "length_penalty")
        and (value <= 1 or not is_part)
    ):
        return
    form = (
        tr("{name}={value!r} cannot work: it is a number from 0 to 1.")
        if is_part
        else tr("{name}={value!r} cannot work.")
    )
    raise ParameterError(
        form.format(name=name, value=value), next_step=tr("Correct the value, or leave it out.")
    )


def _check_kinds(options: Mapping[str, Any]) -> None:
    for name in ("logits_processor", "stopping_criteria"):
        if not isinstance(options.get(name), Sequence | None):
            raise ParameterError(
                tr("{name}={value!r} is no list.").format(name=name, value=options[name]),
                next_step=tr("Write {name}=[…].").format(name=name),
            )
    sampling, seed = options.get("do_sample"), options.get("seed")
    if not isinstance(sampling, bool | None):
        raise ParameterError(
            tr("do_sample={value!r} cannot work: it is True or False.").format(value=sampling),
            next_step=tr("Write do_sample=True, or leave it out."),
        )
    if isinstance(seed, bool) or not isinstance(seed, int | None):
        raise ParameterError(
            tr("seed={seed!r} cannot work: it is a whole number.").format(seed=seed),
            next_step=tr("Write seed=0."),
        )


def _check_temperature(temperature: Any, sampling: object) -> None:
    if temperature is None:
        return
    if not is_finite(temperature) or temperature < 0:
        fact = tr("temperature={temperature!r} cannot work: it is a number above 0.")
        step = tr("Write temperature=0.7, or do_sample=False for the same answer every time.")
        raise ParameterError(fact.format(temperature=temperature), next_step=step)
    if temperature == 0 and sampling:
        raise ParameterError(
            tr("temperature=0 and do_sample=True contradict each other."),
            tr("Sampling divides by the temperature; 0 stands for no sampling at all."),
            tr("Write do_sample=False and leave temperature out."),
        )


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
    switch = _switch({**defaults, **options})
    names = sorted((SAMPLING_OPTIONS | {"do_sample"}) & options.keys())
    given = [f"{name}={options[name]!r}" for name in names if options[name] is not None]
    if not switch or not given or _switch(options):
        return
    way = "do_sample=True" if switch == "do_sample=False" else "temperature=0.7"
    cause = tr("{switch} stands among the model's own options (pipeline_kwargs).")
    step = tr("Add {option} to the call, or take {switch} away there.")
    raise ParameterError(
        _no_effect(given, switch),
        cause.format(switch=switch),
        step.format(option=way, switch=switch),
    )


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


def unknown_option(name: str, known: frozenset[str]) -> ParameterError:
    """The error for an option that nothing here reads."""
    near = nearest(name, known)
    return ParameterError(
        tr("{name} is no option of this model.").format(name=name),
        tr("It would have no effect."),
        tr("Write {near}.").format(near=near) if near else tr("Leave it out."),
    )
