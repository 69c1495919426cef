"""Makes one configuration for transformers' `generate` of all that was given in several places."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from local_pipelines.engines.options import SAMPLING_OPTIONS, with_sampling
from local_pipelines.errors import LocalPipelinesError, failure

# What these are when nothing is sampled; others would make transformers warn.
_NEUTRAL = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0}


def echoes(pipeline: Any) -> bool:
    """Whether a pipeline was made with `return_full_text=True`, or the like."""
    kind = pipeline._postprocess_params.get("return_type")
    return getattr(kind, "name", None) == "FULL_TEXT"


def configured(pipeline: Any) -> Any:
    """A copy of the configuration that a pipeline generates with."""
    own = getattr(pipeline, "generation_config", None)
    if own is not None:
        return copy.deepcopy(own)
    # Since transformers 5.20 it has none of its own: it keeps what it was made with, and its
    # defaults, and joins them with the model's at each call.
    config = copy.deepcopy(pipeline.model.generation_config)
    given = dict(pipeline._prepare_generate_kwargs({}))
    if (base := given.pop("generation_config", None)) is not None:
        config.update(**base.to_diff_dict())
    config.update(**given)
    return config


def generation_config(
    pipeline: Any, options: Mapping[str, Any], config: Any = None
) -> tuple[Any, dict[str, Any]]:
    """The complete configuration for `generate`, and the options that are no part of it.

    It is `config`, or the pipeline's own, with `options` over it.
    """
    options = dict(options)
    given = options.pop("generation_config", None)
    config = copy.deepcopy(given) if given is not None else config or configured(pipeline)
    if options.get("max_length") is not None:
        config.max_new_tokens = None
    elif options.get("max_new_tokens") is not None:
        config.max_length = None
    with explained_options():
        extra = config.update(**with_sampling(options))
    if not config.do_sample:
        for name in SAMPLING_OPTIONS:
            if hasattr(config, name):
                setattr(config, name, _NEUTRAL.get(name))
    if config.min_new_tokens is not None:
        config.min_length = None
    for name in ("eos_token_id", "bos_token_id"):
        if getattr(config, name, None) is None:
            setattr(config, name, getattr(pipeline.model.generation_config, name, None))
    return config, extra


@contextmanager
def explained_options(are_to_blame: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Say in one sentence what transformers says about options, if they can be to blame."""
    try:
        yield
    except (IndexError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, LocalPipelinesError) or not are_to_blame():
            raise
        line = str(error).strip().partition("\n")[0].rstrip(".")
        raise failure("transformers-options", f"{line or type(error).__name__}.") from error
