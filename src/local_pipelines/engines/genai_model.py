"""Runs an exported model with OpenVINO GenAI's continuous batching; neither torch nor transformers.

Prompts of any length share each step of the model: as soon as one answer ends, the next prompt
takes its place. Stop strings are looked for here. The engine's own search ends at a token's border
and gives away what lies before it in the same token (openvino-genai 2026.4: asked to stop at
" of ", "… capital of France" ends as "… capital of"). Looking at each token costs less than a
hundredth of computing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from local_pipelines.engines.genai_grammar import for_xgrammar
from local_pipelines.engines.grammar import Grammar
from local_pipelines.engines.options import with_sampling
from local_pipelines.engines.prompts import context_of
from local_pipelines.engines.stopping import checked_stop
from local_pipelines.errors import failure
from local_pipelines.models.checkpoint import read_json
from local_pipelines.openvino.config import last_line
from local_pipelines.openvino.signal_stack import kept_signal_stack

_STEP_TOKENS = 1024  # of all prompts together in one step: what a call to stop may have to wait for
_MOST_AT_A_TIME = 1024
_WORTH_KEEPING = 64  # tokens: reading fewer again costs less than loading the model anew

# Generation options that OpenVINO GenAI has, and calls as transformers does.
_SAMPLING = {"do_sample", "min_p", "temperature", "top_k", "top_p"}
_BEAMS = {"diversity_penalty", "length_penalty", "num_beam_groups", "num_beams"}
_NAMES = _SAMPLING | _BEAMS | {"min_new_tokens", "no_repeat_ngram_size", "repetition_penalty"}
# Settled here: lengths, seeds and ends are counted for each prompt.
_SETTLED = {"early_stopping", "max_length", "max_new_tokens", "min_length", "seed", "stop_strings"}
# transformers writes 0 for "not at all", OpenVINO GenAI the largest number that there is.
_OFF = {"top_k": 2**64 - 1, "no_repeat_ngram_size": 2**64 - 1}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ParameterError for options that transformers has and OpenVINO GenAI has not."""
    known = _NAMES | _SETTLED
    unknown = [name for name, value in options.items() if value is not None and name not in known]
    if unknown:
        raise failure("genai-lacks-option", name=unknown[0])
    if options.get("no_repeat_ngram_size") and (options.get("num_beams") or 1) == 1:
        raise failure("genai-repeats")


class GenAIEngine:
    """An exported model in a folder that `read_export` has found whole, loaded."""

    def __init__(self, folder: Path, device: str, config: Mapping[str, Any]) -> None:
        self._genai = _import_genai()
        self._folder = folder
        self._exact_tokenizer = _read_tokenizer(folder / "tokenizer.json")
        self._device, self._ov_config = device, config
        self._last_alone: list[int] = []  # the last prompt that was answered alone
        self.tokenizer = self._made(self._genai.Tokenizer, str(folder))
        self._load(prefix_caching=True)
        # A tokenizer without a padding token cannot decode lists of different lengths together.
        self._pads = self.tokenizer.get_pad_token_id() >= 0

    def _load(self, *, prefix_caching: bool) -> None:
        scheduler = self._genai.SchedulerConfig()
        scheduler.max_num_seqs = _MOST_AT_A_TIME
        scheduler.max_num_batched_tokens = _STEP_TOKENS
        scheduler.enable_prefix_caching = prefix_caching
        self._pipeline: Any = None  # two at a time would need twice the memory
        self._pipeline = self._made(
            self._genai.ContinuousBatchingPipeline,
            str(self._folder),
            self.tokenizer,
            scheduler,
            self._device,
            **self._ov_config,
        )
        self.prefix_caching = prefix_caching

    @property
    def pipeline(self) -> Any:
        """OpenVINO's pipeline."""
        if self._pipeline is None:  # to load it anew has failed, perhaps for want of memory
            self._load(prefix_caching=True)
        return self._pipeline

    def _made(self, make: Any, *arguments: Any, **options: Any) -> Any:
        try:
            with kept_signal_stack():
                return make(*arguments, **options)
        except RuntimeError as error:
            raise failure("genai-cannot-load", last_line(error), folder=self._folder) from error

    def prepare(self, rows: list[list[int]], *, beams: bool) -> None:
        """Load the model anew where its way of keeping prompts does not suit these ones.

        With prefix caching a conversation is not read again from its beginning at each turn, which
        halves its time. But of two prompts that are answered together and begin like an earlier
        one, one gets the other's answer (openvino-genai 2026.4; tests/package/test_upstream.py
        shows it). So prompts that come together are answered without it, and it is there again as
        soon as a conversation goes on.
        """
        if len(rows) > 1 or beams:
            if self.prefix_caching:
                self._load(prefix_caching=False)
        elif rows:
            goes_on = _common(rows[0], self._last_alone) >= _WORTH_KEEPING
            if goes_on and not self.prefix_caching:
                self._load(prefix_caching=True)
            self._last_alone = rows[0]

    def encode(self, prompts: list[str], *, special: bool) -> list[list[int]]:
        """Turn prompts into tokens, with the special tokens before and behind a text or without."""
        if not prompts:
            return []
        if self._exact_tokenizer is not None:
            batch = self._exact_tokenizer.encode_batch(prompts, add_special_tokens=special)
            return [list(encoding.ids) for encoding in batch]
        encoded = self.tokenizer.encode(prompts, add_special_tokens=special)
        ids, masks = encoded.input_ids.data, encoded.attention_mask.data
        return [row[mask == 1].tolist() for row, mask in zip(ids, masks, strict=True)]

    def decode(self, rows: list[list[int]]) -> list[str]:
        """Turn rows of tokens into text, without special tokens."""
        if not rows:
            return []
        if not self._pads and len({len(row) for row in rows}) > 1:
            return [self.tokenizer.decode(row) for row in rows]
        texts: list[str] = self.tokenizer.decode(rows)
        return texts

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Tokens that no text shows, by their names."""
        if self._exact_tokenizer is not None:
            added = self._exact_tokenizer.get_added_tokens_decoder()
            return {token.content: number for number, token in added.items() if token.special}
        added = self.tokenizer_config.get("added_tokens_decoder", {})
        return {each["content"]: int(n) for n, each in added.items() if each.get("special")}

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """`tokenizer_config.json`."""
        return self._read("tokenizer_config.json")

    def _read(self, name: str) -> dict[str, Any]:
        file = self._folder / name
        return read_json(file) if file.is_file() else {}

    @cached_property
    def _config(self) -> dict[str, Any]:
        config = self._read("config.json")
        return config.get("text_config") or config

    @cached_property
    def context(self) -> int:
        """How many tokens the model can take."""
        return context_of(self._config.get, self.tokenizer_config.get("model_max_length"))

    @cached_property
    def vocabulary(self) -> int | None:
        """How many tokens the model has vectors for; None where that is not known."""
        return self._config.get("vocab_size")

    @cached_property
    def first_token(self) -> int | None:
        """The token that begins a text; None if the model has none."""
        for name in ("generation_config.json", "config.json"):
            if isinstance(token := self._read(name).get("bos_token_id"), int):
                return token
        return None

    @cached_property
    def stop_strings(self) -> tuple[str, ...]:
        """The stop strings that the model's authors have put into its configuration."""
        return checked_stop(sorted(self.pipeline.get_config().stop_strings))

    def generation_config(self, options: Mapping[str, Any]) -> Any:
        """The model's own configuration, changed by options that have their names here."""
        config = self.pipeline.get_config()
        # These would be obeyed: the model's prompt before its answer, the engine's own search for
        # stop strings, and a list of probabilities for each token.
        config.echo, config.include_stop_str_in_output, config.logprobs = False, False, 0
        config.stop_strings = set()
        for name, value in with_sampling(options).items():
            if name in _NAMES and value is not None:
                _set(config, name, _OFF.get(name, value) if value == 0 else value)
        if (early := options.get("early_stopping")) is not None:
            criteria = self._genai.StopCriteria
            known = {True: criteria.EARLY, False: criteria.HEURISTIC}
            config.stop_criteria = known.get(early, criteria.NEVER)
        config.apply_chat_template = False
        return config

    def hold(self, config: Any, grammar: Grammar) -> None:
        """Let a configuration hold its answer to a grammar; xgrammar, inside GenAI, keeps it."""
        text = for_xgrammar(grammar, frozenset(self.special_tokens))
        try:
            form = self._genai.StructuredOutputConfig(grammar=text)
            config.structured_output_config = form
        except (AttributeError, RuntimeError, TypeError) as error:
            raise failure("genai-grammar", last_line(error)) from error

    def start(self, number: int, ids: list[int], config: Any) -> Any:
        """Put a prompt into the running batch and give its handle."""
        return self.pipeline.add_request(number, _tensor(ids), config)

    def clear(self) -> None:
        """Take the next step after handles were cancelled, which is when their rows are let go."""
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()

    def stream(self, ids: list[int], config: Any, on_tokens: Any) -> None:
        """Generate one answer; `on_tokens` says whether to go on. Other threads run meanwhile."""
        streamer = _streamer(self._genai, on_tokens)
        self.pipeline.generate([_tensor(ids)], [config], streamer)
        if streamer.error is not None:
            raise streamer.error

    def is_finished(self, handle: Any) -> bool:
        """Whether a row has ended by itself."""
        return bool(handle.get_status() != self._genai.GenerationStatus.RUNNING)


def _import_genai() -> Any:
    try:
        import openvino_genai
    except ImportError as error:
        raise failure("no-genai") from error
    return openvino_genai


def _read_tokenizer(file: Path) -> Any:
    """The tokenizer that torch's prompts go through; None where the folder has none.

    Its converted copy cuts some texts elsewhere, such as digits behind a blank line
    (openvino-tokenizers 2026.4), and other tokens have another answer.
    """
    from tokenizers import Tokenizer

    if not file.is_file():
        return None
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # it has no class of its own for its errors
        raise failure("tokenizer-unreadable", last_line(error), file=file) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _common(one: list[int], other: list[int]) -> int:
    """How many tokens two prompts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _tensor(ids: list[int]) -> Any:
    import numpy as np

    import openvino

    return openvino.Tensor(np.array([ids], dtype=np.int64))


def _streamer(genai: Any, on_tokens: Any) -> Any:
    class Streamer(genai.StreamerBase):  # type: ignore[misc] # openvino_genai is not typed here
        error: BaseException | None = None

        def write(self, tokens: int | list[int]) -> Any:
            # An exception that leaves this method ends the whole process.
            try:
                going = on_tokens([tokens] if isinstance(tokens, int) else list(tokens))
            except BaseException as error:  # noqa: BLE001 - raised again by `stream`
                self.error, going = error, False
            return genai.StreamingStatus.RUNNING if going else genai.StreamingStatus.CANCEL

        def end(self) -> None:
            pass

    return Streamer()


def _set(config: Any, name: str, value: Any) -> None:
    try:
        setattr(config, name, value)
    except (TypeError, ValueError) as error:
        raise failure("genai-value", name=name, value=value) from error
