"""Runs a model with transformers' `generate`, for torch and for OpenVINO's drop-in models.

The pipeline object stays what LangChain knows it as, and what was configured in it counts. Its
call is not used: it runs prompts of a batch in the order they come, cannot stop rows on their own,
and decodes each text together with its prompt.
"""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_pipelines._decoding import CONTEXT
from local_pipelines._growing import Ends, GrowingAnswer, Reason
from local_pipelines._local_llm import Answer, Request
from local_pipelines._options import SAMPLING_OPTIONS
from local_pipelines._stopping import StopStrings, checked_stop
from local_pipelines._turns import is_wanted
from local_pipelines.errors import ParameterError

if TYPE_CHECKING:
    import torch

__all__ = ["TorchRun", "echoes", "generation_config"]

_UNLIMITED = 1 << 30
# What these are when nothing is sampled; others would make transformers warn.
_NEUTRAL = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "typical_p": 1.0}
_TOKENIZER_OPTIONS = ("add_special_tokens", "truncation")


def echoes(pipeline: Any) -> bool:
    """Whether a pipeline was made with `return_full_text=True`, or the like."""
    kind = pipeline._postprocess_params.get("return_type")
    return getattr(kind, "name", None) == "FULL_TEXT"


@dataclass(frozen=True)
class _Row:
    """A prompt as tokens, and its place among the others."""

    index: int
    ids: list[int]


class TorchRun:
    """One request to one pipeline.

    Args:
        pipeline: A transformers pipeline for text generation.
        request: What is asked.
        defaults: Options that count unless the request has its own.
    """

    def __init__(
        self, pipeline: Any, request: Request, defaults: dict[str, Any] | None = None
    ) -> None:
        self._pipeline = pipeline
        self._model = pipeline.model
        self._tokenizer = pipeline.tokenizer
        self.request = request
        self._read_options(_merged(defaults or {}, request.options))

    def _read_options(self, options: dict[str, Any]) -> None:
        """Sort options as the pipeline itself does: for the tokenizer, the model, the text."""
        options = {name: value for name, value in options.items() if name != "batch_size"}
        self._seed = options.pop("seed", None)
        stop = self.request.stop + checked_stop(options.pop("stop_strings", None))
        before, during, after = self._pipeline._sanitize_parameters(**options)
        self._tokenizing = {**self._pipeline._preprocess_params, **before}
        self._finishing = {**self._pipeline._postprocess_params, **after}
        generating = {**self._pipeline._forward_params, **during}
        for name in ("tokenizer", "prefix_length"):  # for `stop_strings`, and for the pipeline
            generating.pop(name, None)
        self._criteria = list(generating.pop("stopping_criteria", None) or ())
        self._config, self._extra = generation_config(self._pipeline, generating)
        special = self._special_tokens() if stop else {}
        self.ends = Ends(
            StopStrings(dict.fromkeys(stop)),
            frozenset(special[string] for string in stop if string in special),
            frozenset(_as_list(self._config.eos_token_id)),
        )

    def _special_tokens(self) -> dict[str, int]:
        """Tokens that no text shows: a stop string among them is found by its id."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        return {str(token): number for number, token in added.items() if token.special}

    # --- the prompts --------------------------------------------------------------------------

    def tokenize(self) -> list[_Row]:
        """Turn the prompts into tokens, and refuse what the model cannot read."""
        if not self.request.prompts:
            return []
        options: dict[str, Any] = {
            name: self._tokenizing[name] for name in _TOKENIZER_OPTIONS if name in self._tokenizing
        }
        if options.get("truncation") and self._tokenizing.get("max_length"):
            options["max_length"] = self._tokenizing["max_length"]
        options |= self._tokenizing.get("tokenizer_encode_kwargs") or {}
        if self.request.templated:
            options["add_special_tokens"] = False  # the template has written them
        prefix = self._tokenizing.get("prefix") or ""
        prompts = [prefix + prompt for prompt in self.request.prompts]
        encoded = self._tokenizer(prompts, verbose=False, **options)["input_ids"]
        return [_Row(index, self._checked(list(ids))) for index, ids in enumerate(encoded)]

    def _checked(self, ids: list[int]) -> list[int]:
        if not ids:
            if self._config.bos_token_id is None:
                raise ParameterError(
                    "The prompt is empty.",
                    "This model has no token to begin a text with.",
                    "Write at least one word.",
                )
            return [self._config.bos_token_id]
        if self._tokenizing.get("handle_long_generation") == "hole" and self._new:
            ids = ids[-max(1, self.context - self._new) :]
        if len(ids) >= self._limit:
            raise ParameterError(
                f"The prompt has {len(ids):,} tokens; {self._limit - 1:,} is the most here.",
                f"This model reads {self.context:,} tokens, prompt and answer together."
                if self._limit == self.context
                else f"max_length={self._limit} counts the prompt too.",
                "Shorten the prompt, or split it into several."
                if self._limit == self.context
                else "Write max_new_tokens instead of max_length.",
            )
        return ids

    @property
    def context(self) -> int:
        """How many tokens the model can take."""
        config = self._model.config
        config = config.get_text_config() if hasattr(config, "get_text_config") else config
        for name in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(size := getattr(config, name, None), int) and size > 0:
                return size
        return int(min(getattr(self._tokenizer, "model_max_length", _UNLIMITED), _UNLIMITED))

    @property
    def _new(self) -> int | None:
        value: int | None = self._config.max_new_tokens
        return value

    @property
    def _limit(self) -> int:
        """Tokens of prompt and answer together."""
        total = self._config.max_length if self._new is None else None
        return min(self.context, total or _UNLIMITED)

    @property
    def follows(self) -> bool:
        """Whether text is needed while it is generated.

        With several beams a row's tokens change until the end, and its text is cut afterwards.
        """
        config = self._config
        single = (config.num_beams or 1) == 1 and (config.num_return_sequences or 1) == 1
        return single and (bool(self.ends.strings) or self.request.emit is not None)

    def _room(self, row: _Row) -> int:
        return min(self._limit - len(row.ids), self._new or _UNLIMITED)

    # --- the batches --------------------------------------------------------------------------

    def answers(self) -> list[Answer]:
        """Answer all prompts of the request, in their order."""
        if self._seed is not None:
            import torch

            torch.manual_seed(self._seed)
        rows = self.tokenize()
        answers: dict[int, Answer] = {}
        for batch in self._batches(rows):
            if not is_wanted(self.request.stopped):
                break
            answers.update(self._answer_batch(batch))
            self.request.advance(len(batch))
        nothing = Answer("", 0, 0, 0.0, "stop")  # stopped before its turn: nobody will read it
        return [answers.get(row.index, nothing) for row in rows]

    def _batches(self, rows: list[_Row]) -> Iterator[list[_Row]]:
        """Put prompts of similar length together, the longest first.

        Little padding is computed then, and if memory is too small that is known at once. Rows of
        one batch may all grow by the same number of tokens: else a short prompt would be cut off
        earlier beside a long one than alone.
        """
        batch: list[_Row] = []
        for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
            if batch and (
                len(batch) == self.request.batch_size or self._room(row) != self._room(batch[0])
            ):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _answer_batch(self, rows: list[_Row]) -> dict[int, Answer]:
        watch = _Watch(self, rows)
        start = time.perf_counter()
        tokens = self._generate(rows, watch)
        ended = watch.ended() if watch.follows else self._ended(rows, tokens)
        seconds = time.perf_counter() - start
        return {
            row.index: Answer(text, len(row.ids), count, seconds, reason or "length")
            for row, (text, count, reason) in zip(rows, ended, strict=True)
        }

    def _generate(self, rows: list[_Row], watch: _Watch) -> list[list[int]]:
        """The new tokens of each row, with what `generate` fills up behind its end."""
        import torch
        from transformers import StoppingCriteriaList

        width = max(len(row.ids) for row in rows)
        pad = self._pad_id()
        ids = torch.tensor([[pad] * (width - len(row.ids)) + row.ids for row in rows])
        mask = torch.tensor([[0] * (width - len(r.ids)) + [1] * len(r.ids) for r in rows])
        config = copy.deepcopy(self._config)
        self._set_limit(config, width, self._room(rows[0]))
        config.pad_token_id = pad
        watch.seen = width
        output = self._model.generate(
            input_ids=ids.to(self._pipeline.device),
            attention_mask=mask.to(self._pipeline.device),
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([*self._criteria, watch.criterion()]),
            **self._extra,
        )
        output = getattr(output, "sequences", output)
        each = output.shape[0] // len(rows)  # num_return_sequences: the first is the best
        tokens: list[list[int]] = output[::each, width:].tolist()
        return tokens

    def _set_limit(self, config: Any, width: int, room: int) -> None:
        """Write the limit in the form that the model's own configuration has.

        transformers fills in the other form from there, and then warns that there are two.
        """
        own = self._model.generation_config
        config.max_new_tokens, config.max_length = room, None
        if own.max_length is not None and own.max_new_tokens is None:
            config.max_new_tokens, config.max_length = None, width + room

    def _ended(self, rows: list[_Row], tokens: list[list[int]]) -> list[tuple[str, int, Reason]]:
        """Text, count and reason of rows that nobody followed as they grew."""
        firsts = [self.ends.first(row) for row in tokens]
        new = [row[:count] for row, (count, _) in zip(tokens, firsts, strict=True)]
        ended: list[tuple[str, int, Reason]] = []
        for text, (count, reason) in zip(self._decode_new(rows, new), firsts, strict=True):
            cut, stopped = self.ends.cut(text)
            if self.request.emit is not None and cut:
                self.request.emit(cut)
            ended.append((cut, count, "stop" if stopped else reason))
        return ended

    def _pad_id(self) -> int:
        for candidate in (self._config.pad_token_id, self._tokenizer.pad_token_id):
            if candidate is not None:
                return int(candidate)
        return min(self.ends.end_tokens, default=0)  # it is masked, so that any would do

    # --- the text -----------------------------------------------------------------------------

    @property
    def skips_special(self) -> bool:
        """Whether special tokens are left out of the text."""
        return self._finishing.get("skip_special_tokens") is not False

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Decode rows of tokens."""
        # The Rust tokenizer itself, where nothing wraps its decoding, is four times as fast.
        if _is_plain(type(self._tokenizer)):
            texts: list[str] = self._tokenizer.backend_tokenizer.decode_batch(
                rows, skip_special_tokens=self.skips_special
            )
            return texts
        # Cleaning up blanks would change text that has been streamed already.
        return list(
            self._tokenizer.batch_decode(
                rows, skip_special_tokens=self.skips_special, clean_up_tokenization_spaces=False
            )
        )

    def _decode_new(self, rows: list[_Row], new: list[list[int]]) -> list[str]:
        before = [row.ids[-CONTEXT:] for row in rows]
        heads = self.decode(before)
        wholes = self.decode([b + n for b, n in zip(before, new, strict=True)])
        return [whole[len(head) :] for head, whole in zip(heads, wholes, strict=True)]


class _Watch:
    """Looks at each token as it is generated, decides which rows are done, and emits text.

    Args:
        run: The run that it belongs to.
        rows: The rows of its batch.
    """

    def __init__(self, run: TorchRun, rows: list[_Row]) -> None:
        self.seen = 0  # columns that have been read, at first those of the prompt
        self.follows = run.follows
        self._run = run
        self._answers = [
            GrowingAnswer(row.ids, run.decode, run.ends) for row in rows if self.follows
        ]

    def criterion(self) -> Any:
        """What transformers asks after each token which rows are done."""
        import torch
        from transformers import StoppingCriteria

        watch = self

        class Criterion(StoppingCriteria):  # type: ignore[misc] # transformers is not typed
            def __call__(
                self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any
            ) -> torch.Tensor:
                return torch.tensor(watch.done(input_ids), device=input_ids.device)

        return Criterion()

    def done(self, ids: torch.Tensor) -> list[bool]:
        """Take the tokens of all rows so far and say which rows are done."""
        if not is_wanted(self._run.request.stopped):
            return [True] * len(ids)
        if not self.follows:
            return [False] * len(ids)
        tokens: list[list[int]] = ids[:, self.seen :].tolist()  # usually one in each row
        self.seen = ids.shape[1]
        growing = [(a, t) for a, t in zip(self._answers, tokens, strict=True) if not a.reason]
        decoded = self._run.decode([answer.push(new) for answer, new in growing])
        for (answer, _), text in zip(growing, decoded, strict=True):
            self._emit(answer.take(text))
        return [bool(answer.reason) for answer in self._answers]

    def ended(self) -> list[tuple[str, int, Reason]]:
        """Text, count and reason of each row, after the last token."""
        for answer in self._answers:
            self._emit(answer.finish())
        return [(answer.text, answer.count, answer.reason) for answer in self._answers]

    def _emit(self, text: str) -> None:
        if text and self._run.request.emit is not None:
            self._run.request.emit(text)


def _as_list(value: Any) -> list[int]:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


def _is_plain(kind: type) -> bool:
    """Whether a tokenizer's decoding is the Rust tokenizer's, without anything around it."""
    for name in ("TokenizersBackend", "PreTrainedTokenizerFast"):
        base = next((b for b in kind.__mro__ if b.__name__ == name), None)
        if base is not None:
            return all(
                getattr(kind, method, None) is getattr(base, method, None)
                for method in ("_decode", "decode")
            )
    return False


def _merged(defaults: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options of a call over those of the model; a call's limit replaces any limit."""
    lengths = {"max_length", "max_new_tokens"}
    drop = lengths if any(options.get(name) is not None for name in lengths) else set()
    return {name: v for name, v in defaults.items() if name not in drop} | options


def generation_config(pipeline: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The complete configuration for `generate`, and the options that are no part of it."""
    given = options.pop("generation_config", None)
    config = copy.deepcopy(given if given is not None else pipeline.generation_config)
    if options.get("max_length") is not None:
        config.max_new_tokens = None
    elif options.get("max_new_tokens") is not None:
        config.max_length = None
    options = _with_sampling(config, options)
    extra = config.update(**options)
    if config.min_new_tokens is not None:
        config.min_length = None
    for name in ("eos_token_id", "bos_token_id"):
        if getattr(config, name, None) is None:
            setattr(config, name, getattr(pipeline.model.generation_config, name, None))
    if "use_model_defaults" in inspect.signature(pipeline.model.generate).parameters:
        extra["use_model_defaults"] = False  # transformers 4: else the model's sampling comes back
    return config, extra


def _with_sampling(config: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Settle whether to sample: who gives a temperature means to, and 0 means not to."""
    if options.get("temperature") == 0:
        options["do_sample"] = False
    elif any(options.get(name) is not None for name in SAMPLING_OPTIONS):
        options.setdefault("do_sample", True)
    if options.get("do_sample", config.do_sample):
        return options
    for name in SAMPLING_OPTIONS:
        if hasattr(config, name):
            setattr(config, name, _NEUTRAL.get(name))
    kept = {name: value for name, value in options.items() if name not in SAMPLING_OPTIONS}
    return kept | {"do_sample": False}
