"""Runs an exported model with OpenVINO GenAI's continuous batching; neither torch nor transformers.

Prompts of any length share each step of the model: as soon as one answer ends, the next prompt
takes its place. Stop strings are looked for here. The engine's own search ends at a token's border
and gives away what lies before it in the same token (openvino-genai 2026.4: asked to stop at
" of ", "… capital of France" ends as "… capital of"). Looking at each token costs less than a
hundredth of computing it.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from local_pipelines._batch_report import BatchReport
from local_pipelines._decoding import CONTEXT
from local_pipelines._growing import Ends, GrowingAnswer, Reason
from local_pipelines._local_llm import Answer, Request
from local_pipelines._messages import tr
from local_pipelines._options import SAMPLING_OPTIONS, merged
from local_pipelines._ov_config import last_line
from local_pipelines._prompt_tokens import checked_tokens
from local_pipelines._stopping import StopStrings, checked_stop
from local_pipelines._turns import is_wanted
from local_pipelines.errors import EngineError, MissingPackageError, ParameterError

__all__ = ["GenAIEngine", "GenAIRun", "check_options", "exact_config"]

_UNLIMITED = 1 << 30
_STEP_TOKENS = 1024  # of all prompts together in one step: what a call to stop may have to wait for
_MOST_AT_A_TIME = 1024

# Generation options that OpenVINO GenAI has, and calls as transformers does.
_NAMES = {
    "diversity_penalty",
    "do_sample",
    "length_penalty",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
}
# Settled here: lengths, seeds and ends are counted for each prompt.
_SETTLED = {"early_stopping", "max_length", "max_new_tokens", "min_length", "seed", "stop_strings"}
# transformers writes 0 for "not at all", OpenVINO GenAI the largest number that there is.
_OFF = {"top_k": 2**64 - 1, "no_repeat_ngram_size": 2**64 - 1}


def check_options(options: Mapping[str, Any]) -> None:
    """Find options that transformers has and OpenVINO GenAI has not.

    Raises:
        ParameterError: There is one, with a value.
    """
    for name, value in options.items():
        if value is not None and name not in _NAMES | _SETTLED:
            raise ParameterError(
                tr("OpenVINO GenAI has no option {name}.").format(name=name),
                tr("It would have no effect."),
                tr('Leave it out, or take load_llm(…, backend="torch").'),
            )
    if options.get("no_repeat_ngram_size") and (options.get("num_beams") or 1) == 1:
        raise ParameterError(
            tr("OpenVINO GenAI knows no_repeat_ngram_size with num_beams only."),
            tr("It would have no effect."),
            tr('Leave it out, or take load_llm(…, backend="torch").'),
        )


def exact_config(device: str, weight_format: str, ov_config: Mapping[str, Any]) -> dict[str, Any]:
    """Options with which weights that nobody has rounded are computed in 32 bits.

    Left to itself, OpenVINO computes in bfloat16 where the processor can, and an export in full
    width says that it wants 16-bit keys and values. Then answers differ from those of torch. Those
    of int8 and int4 weights do anyway: they get the speed.
    """
    config = dict(ov_config)
    chosen = {"INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT"} & config.keys()
    if device != "CPU" or weight_format in {"int8", "int4"} or chosen:
        return config
    return {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"} | config


class GenAIEngine:
    """An exported model, loaded.

    Args:
        folder: What `read_export` has found whole.
        device: As OpenVINO calls it: "CPU", "GPU".
        config: Its options.

    Raises:
        MissingPackageError: OpenVINO GenAI is not installed.
        EngineError: It cannot run this model.
    """

    def __init__(self, folder: Path, device: str, config: Mapping[str, Any]) -> None:
        self._genai = _import_genai()
        self._folder = folder
        try:
            self.tokenizer = self._genai.Tokenizer(str(folder))
            self.pipeline = self._genai.ContinuousBatchingPipeline(
                str(folder), self.tokenizer, self._scheduler(), device, **config
            )
        except RuntimeError as error:
            raise EngineError(
                tr("OpenVINO GenAI cannot load the model in {folder}.").format(folder=folder),
                last_line(error),
                tr("Export it again into another folder, or use load_llm(…, backend=…)."),
            ) from error
        # A tokenizer without a padding token cannot decode lists of different lengths together.
        self._pads = self.tokenizer.get_pad_token_id() >= 0

    def _scheduler(self) -> Any:
        scheduler = self._genai.SchedulerConfig()
        scheduler.max_num_seqs = _MOST_AT_A_TIME
        scheduler.max_num_batched_tokens = _STEP_TOKENS
        # Prefix caching stays off. A conversation of twelve turns took half the time with it, but
        # of two prompts that begin like an earlier one, one gets the other's answer
        # (tests/unit/test_upstream.py shows it with openvino-genai 2026.4).
        scheduler.enable_prefix_caching = False
        return scheduler

    # --- text and tokens ----------------------------------------------------------------------

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

    @cached_property
    def _exact_tokenizer(self) -> Any:
        """The tokenizer that torch's prompts go through; None where the folder has none.

        Its converted copy cuts some texts elsewhere, such as digits behind a blank line
        (openvino-tokenizers 2026.4), and other tokens have another answer.
        """
        from tokenizers import Tokenizer

        file = self._folder / "tokenizer.json"
        if not file.is_file():
            return None
        tokenizer = Tokenizer.from_file(str(file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

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
        added = _read_json(self._folder / "tokenizer.json").get("added_tokens") or [
            {**token, "id": int(number)}
            for number, token in self.tokenizer_config.get("added_tokens_decoder", {}).items()
        ]
        return {token["content"]: token["id"] for token in added if token.get("special")}

    # --- what the folder says -----------------------------------------------------------------

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """`tokenizer_config.json`."""
        return _read_json(self._folder / "tokenizer_config.json")

    @cached_property
    def context(self) -> int:
        """How many tokens the model can take."""
        config = _read_json(self._folder / "config.json")
        config = config.get("text_config") or config
        for name in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(size := config.get(name), int) and size > 0:
                return size
        return int(min(self.tokenizer_config.get("model_max_length") or _UNLIMITED, _UNLIMITED))

    @cached_property
    def first_token(self) -> int | None:
        """The token that begins a text; None if the model has none."""
        for name in ("generation_config.json", "config.json"):
            if isinstance(token := _read_json(self._folder / name).get("bos_token_id"), int):
                return token
        return None

    # --- computing ----------------------------------------------------------------------------

    def generation_config(self, options: Mapping[str, Any]) -> Any:
        """The model's own configuration, changed by options that have their names here."""
        config = self.pipeline.get_config()
        for name, value in _with_sampling(dict(options)).items():
            if name in _NAMES and value is not None:
                _set(config, name, _OFF.get(name, value) if value == 0 else value)
        if (early := options.get("early_stopping")) is not None:
            criteria = self._genai.StopCriteria
            config.stop_criteria = {True: criteria.EARLY, False: criteria.HEURISTIC}.get(
                early, criteria.NEVER
            )
        config.apply_chat_template = False
        return config

    def start(self, number: int, ids: list[int], config: Any) -> Any:
        """Put a prompt into the running batch and give its handle."""
        return self.pipeline.add_request(number, _tensor(ids), config)

    def clear(self) -> None:
        """Take the next step after handles were cancelled, which is when their rows are let go."""
        while self.pipeline.has_non_finished_requests():
            self.pipeline.step()

    def stream(self, ids: list[int], config: Any, take: Any) -> None:
        """Generate one answer; `take` gets its tokens and says whether to go on.

        Other threads run meanwhile, which `step` does not let them.
        """
        streamer = _streamer(self._genai, take)
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
        raise MissingPackageError(
            tr("OpenVINO GenAI is not installed."),
            tr("OpenVINO is an extra of this course."),
            tr('Run `install_packages("openvino")` and then this cell again.'),
        ) from error
    return openvino_genai


def _read_json(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _tensor(ids: list[int]) -> Any:
    import numpy as np
    import openvino

    return openvino.Tensor(np.array([ids], dtype=np.int64))


def _streamer(genai: Any, take: Any) -> Any:
    class Streamer(genai.StreamerBase):  # type: ignore[misc] # openvino_genai is not typed here
        error: BaseException | None = None

        def write(self, tokens: int | list[int]) -> Any:
            # An exception that leaves this method ends the whole process.
            try:
                going = take([tokens] if isinstance(tokens, int) else list(tokens))
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
        raise ParameterError(
            tr("{name}={value!r} cannot work.").format(name=name, value=value),
            next_step=tr("Correct the value, or leave it out."),
        ) from error


def _with_sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Settle whether to sample: who gives a temperature means to, and 0 means not to."""
    if options.get("temperature") == 0:
        return {n: v for n, v in options.items() if n not in SAMPLING_OPTIONS} | {
            "do_sample": False
        }
    if any(options.get(name) is not None for name in SAMPLING_OPTIONS):
        options.setdefault("do_sample", True)
    return options


def _checked_seed(seed: object) -> int:
    if seed is None:
        return secrets.randbelow(_UNLIMITED)
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ParameterError(
            tr("seed={seed!r} cannot work: it is a whole number.").format(seed=seed),
            next_step=tr("Write seed=0."),
        )
    return seed % (1 << 63)


@dataclass(eq=False)
class _Row:
    """A prompt on its way to an answer."""

    index: int
    ids: list[int]
    handle: Any = None
    growing: GrowingAnswer | None = None
    start: float = 0.0
    new: list[int] = field(default_factory=list)


_Ended = tuple[_Row, str, int, Reason]


class GenAIRun:
    """One request to one engine.

    Args:
        engine: The loaded model.
        request: What is asked.
        defaults: Options that count unless the request has its own.
    """

    def __init__(
        self, engine: GenAIEngine, request: Request, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self._engine = engine
        self.request = request
        self._options = merged(defaults or {}, request.options)
        check_options(self._options)
        self._config = engine.generation_config(self._options)
        stop = request.stop + checked_stop(self._options.get("stop_strings"))
        special = engine.special_tokens if stop else {}
        self._ends = Ends(
            StopStrings(dict.fromkeys(stop)),
            frozenset(special[string] for string in stop if string in special),
            frozenset(self._config.stop_token_ids),
        )
        self._seed = _checked_seed(self._options.get("seed"))
        self._answers: dict[int, Answer] = {}
        self.report: BatchReport | None = None

    # --- the prompts --------------------------------------------------------------------------

    def tokenize(self) -> list[_Row]:
        """Turn the prompts into tokens, and refuse what the model cannot read."""
        encoded = self._engine.encode(self.request.prompts, special=not self.request.templated)
        return [_Row(index, self._checked(ids)) for index, ids in enumerate(encoded)]

    def _checked(self, ids: list[int]) -> list[int]:
        engine = self._engine
        return checked_tokens(
            ids, first=engine.first_token, limit=self._limit, context=engine.context
        )

    @property
    def _limit(self) -> int:
        """Tokens of prompt and answer together."""
        new = self._options.get("max_new_tokens")
        total = self._options.get("max_length") if new is None else None
        return min(self._engine.context, total or _UNLIMITED)

    def _row_config(self, row: _Row) -> Any:
        """The configuration of one prompt: how far it may go, and its own random numbers."""
        config = self._engine.generation_config(self._options)
        room = self._limit - len(row.ids)
        config.max_new_tokens = min(room, self._options.get("max_new_tokens") or _UNLIMITED)
        shortest = self._options.get("min_length")
        if shortest is not None and self._options.get("min_new_tokens") is None:
            config.min_new_tokens = max(0, shortest - len(row.ids))
        config.min_new_tokens = min(config.min_new_tokens, config.max_new_tokens)
        config.rng_seed = self._seed + row.index
        config.stop_token_ids = set(self._ends.end_tokens | self._ends.stop_tokens)
        try:
            config.validate()
        except RuntimeError as error:
            raise ParameterError(
                tr("OpenVINO GenAI does not take these options."),
                last_line(error),
                tr("Change or leave out what it names."),
            ) from error
        return config

    # --- the answers --------------------------------------------------------------------------

    @property
    def _is_single(self) -> bool:
        """Whether a row is one text that grows; with several beams it changes until the end."""
        return bool(self._config.num_beams == 1)

    @property
    def _follows(self) -> bool:
        return self._is_single and (bool(self._ends.strings) or self.request.emit is not None)

    def answers(self) -> list[Answer]:
        """Answer all prompts of the request, in their order."""
        rows = self.tokenize()
        configs = [self._row_config(row) for row in rows]
        start = time.perf_counter()
        try:
            if self._streams(rows):
                self._stream(rows[0], configs[0])
            else:
                self._batch(rows, configs)
        finally:
            self.report = self._reported(time.perf_counter() - start)
        nothing = Answer("", 0, 0, 0.0, "stop")  # stopped before its turn: nobody will read it
        return [self._answers.get(row.index, nothing) for row in rows]

    def _streams(self, rows: list[_Row]) -> bool:
        """Whether a single answer is left to the engine.

        In the main thread it is not: only between steps does Python hear an interrupt.
        """
        elsewhere = threading.current_thread() is not threading.main_thread()
        return len(rows) == 1 and self._is_single and elsewhere

    def _reported(self, seconds: float) -> BatchReport:
        answers = self._answers.values()
        return BatchReport(
            prompts=len(self.request.prompts),
            requested=self.request.batch_size,
            engine="continuous",
            seconds=seconds,
            input_tokens=sum(answer.input_tokens for answer in answers),
            output_tokens=sum(answer.output_tokens for answer in answers),
        )

    def _stream(self, row: _Row, config: Any) -> None:
        self._begin(row, follow=True)

        def take(tokens: list[int]) -> bool:
            self._take(row, tokens)
            return not self._has_ended(row) and is_wanted(self.request.stopped)

        self._engine.stream(row.ids, config, take)
        self._finish([row])

    def _batch(self, rows: list[_Row], configs: list[Any]) -> None:
        """Keep `batch_size` rows at work until all are done."""
        waiting, active = deque(rows), dict[int, _Row]()
        try:
            while (waiting or active) and is_wanted(self.request.stopped):
                while waiting and len(active) < self.request.batch_size:
                    row = waiting.popleft()
                    self._begin(row, follow=self._follows)
                    row.handle = self._engine.start(row.index, row.ids, configs[row.index])
                    active[row.index] = row
                done = self._step(list(active.values()))
                self._finish(done)
                active = {n: row for n, row in active.items() if row not in done}
        finally:
            for row in active.values():
                row.handle.cancel()
            self._engine.clear()

    def _begin(self, row: _Row, *, follow: bool) -> None:
        row.start = time.perf_counter()
        if follow:
            row.growing = GrowingAnswer(row.ids, self._engine.decode, self._ends)

    def _step(self, rows: list[_Row]) -> list[_Row]:
        """Compute a token for each row and give the rows that are done.

        Other threads wait as long as the engine's `step` takes.
        """
        self._engine.pipeline.step()
        if self._follows:
            growing = [row for row in rows if row.handle.can_read()]
            self._take_all(growing, [_read(row.handle) for row in growing])
        done = []
        for row in rows:
            if self._engine.is_finished(row.handle):
                row.new = [] if self._follows else _best(row.handle)
                done.append(row)
            elif self._has_ended(row):
                row.handle.cancel()
                done.append(row)
        return done

    def _take(self, row: _Row, tokens: list[int]) -> None:
        self._take_all([row], [tokens])

    def _take_all(self, rows: list[_Row], tokens: list[list[int]]) -> None:
        """Give rows their new tokens, decoded together."""
        growing = [row.growing for row in rows if row.growing is not None]
        windows = [each.push(new) for each, new in zip(growing, tokens, strict=True)]
        for each, text in zip(growing, self._engine.decode(windows), strict=True):
            self._emit(each.take(text))

    def _has_ended(self, row: _Row) -> bool:
        return row.growing is not None and bool(row.growing.reason)

    def _finish(self, rows: list[_Row]) -> None:
        """Keep the answers of rows that are done."""
        now = time.perf_counter()
        ended = [self._followed(row) for row in rows if row.growing is not None]
        ended += self._cut([row for row in rows if row.growing is None])
        for row, text, count, reason in ended:
            seconds = now - row.start
            self._answers[row.index] = Answer(
                text, len(row.ids), count, seconds, reason or "length"
            )
        if rows:
            self.request.advance(len(rows))

    def _followed(self, row: _Row) -> _Ended:
        assert row.growing is not None  # noqa: S101 - for mypy
        self._emit(row.growing.finish())
        return row, row.growing.text, row.growing.count, row.growing.reason

    def _cut(self, rows: list[_Row]) -> list[_Ended]:
        """Text, count and reason of rows that nobody followed as they grew."""
        firsts = [self._ends.first(row.new) for row in rows]
        before = [row.ids[-CONTEXT:] for row in rows]
        new = [b + row.new[:n] for b, row, (n, _) in zip(before, rows, firsts, strict=True)]
        heads, wholes = self._engine.decode(before), self._engine.decode(new)
        ended: list[_Ended] = []
        for row, head, whole, (count, reason) in zip(rows, heads, wholes, firsts, strict=True):
            text, stopped = self._ends.cut(whole[len(head) :])
            self._emit(text)
            ended.append((row, text, count, "stop" if stopped else reason))
        return ended

    def _emit(self, text: str) -> None:
        if text and self.request.emit is not None:
            self.request.emit(text)


def _read(handle: Any) -> list[int]:
    """The tokens that are new since the last time."""
    tokens: list[int] = []
    while handle.can_read():
        for output in handle.read().values():
            tokens += output.generated_ids
    return tokens


def _best(handle: Any) -> list[int]:
    """All tokens of the most probable answer."""
    best = max(handle.read_all(), key=lambda output: output.score)
    return list(best.generated_ids)
