"""LocalPipeline answers prompts, one or many, and ends where it is told to."""

from __future__ import annotations

import copy
import functools
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_huggingface import HuggingFacePipeline

from local_pipelines import LocalPipeline
from local_pipelines.engines.stopping import EmptyAnswerWarning, warn_of_empty_answer
from local_pipelines.errors import DeviceError, MissingPackageError, ModelError, ParameterError
from local_pipelines.workbench import versions

FRANCE = "What is the capital of France?"
PERU = "What is the capital of Peru?"
JAPAN = "What is the capital of Japan?"
COT = "Question: {}\n\nAnswer: Let's think step by step."
STEPS = COT.format(FRANCE)


@contextmanager
def counted_steps(llm: Any) -> Iterator[list[int]]:
    """Count how often the model computes, and the rows it computes each time."""
    model = llm.pipeline.model
    forward, rows = model.forward, []

    @functools.wraps(forward)
    def counting(*args: Any, **kwargs: Any) -> Any:
        rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    model.forward = counting
    try:
        yield rows
    finally:
        del model.forward


class TestAnswers:
    """What every engine promises, one prompt at a time."""

    def test_the_prompt_is_not_repeated(self, llm: Any) -> None:
        """`invoke` gives the answer alone; `bind(skip_prompt=False)` gives both."""
        answer = llm.invoke(FRANCE)
        assert answer.strip() == "The capital of France is Paris."
        assert llm.bind(skip_prompt=False).invoke(FRANCE) == FRANCE + answer

    def test_a_stop_string_of_several_tokens_ends_the_answer(self, llm: Any) -> None:
        """Without `stop` the model asks itself the next question; with it, it does not."""
        free = llm.invoke(STEPS)
        assert "\n\nQuestion:" in free
        assert llm.bind(stop=["\n\n"]).invoke(STEPS) == free.partition("\n\n")[0]

    def test_generation_really_ends_at_the_stop_string(self, llm: Any) -> None:
        """The tokens after a stop string are not cut off: they are never generated."""
        free = llm.generate([STEPS]).generations[0][0].generation_info
        stopped = llm.generate([STEPS], stop=["\n\n"]).generations[0][0].generation_info
        assert free["finish_reason"] == "length"
        assert stopped["finish_reason"] == "stop"
        assert stopped["output_tokens"] < free["output_tokens"]

    def test_an_answer_that_ends_before_it_begins_is_explained_once(self, llm: Any) -> None:
        """It stays empty, as LangChain means `stop`; a warning and the figures say why."""
        prompt = STEPS + llm.invoke(STEPS, stop=["\n\n"])
        warn_of_empty_answer.cache_clear()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            for stop in (["\n\n", "zebra"], ["\n\n"]):
                answer = llm.generate([prompt], stop=stop).generations[0][0]
                assert answer.text == ""
                assert answer.generation_info["stopped_at"] == "\n\n"
            assert "".join(llm.stream(prompt, stop=["\n\n"])) == ""
        assert [w.category for w in said if w.category is EmptyAnswerWarning] == [
            EmptyAnswerWarning
        ]

    def test_an_answer_that_has_text_is_no_empty_one(self, llm: Any) -> None:
        """Where something stands before the stop string, nobody is warned."""
        warn_of_empty_answer.cache_clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error", EmptyAnswerWarning)
            answer = llm.generate([STEPS], stop=["\n\n"]).generations[0][0]
        assert answer.generation_info["stopped_at"] == "\n\n"
        free = llm.generate([STEPS]).generations[0][0]
        assert "stopped_at" not in free.generation_info

    @pytest.mark.parametrize("stop", ["ital of", "f France", " is Par", "T", "France is Paris."])
    def test_a_stop_string_is_found_across_token_borders(self, llm: Any, stop: str) -> None:
        """A stop string may begin and end within a token."""
        answer = llm.invoke(FRANCE)
        assert stop in answer
        assert llm.invoke(FRANCE, stop=[stop]) == answer.partition(stop)[0]

    def test_the_first_of_several_stop_strings_counts(self, llm: Any) -> None:
        """Of several stop strings the one that is complete first ends the answer."""
        answer = llm.invoke(FRANCE, stop=["Paris", "nowhere", " of"])
        assert answer == llm.invoke(FRANCE).partition(" of")[0]

    def test_a_special_token_can_be_a_stop_string(self, llm: Any) -> None:
        """A chat model's own end mark works, although no text ever shows it."""
        prompt = f"<|user|>\n{FRANCE}<|end|>\n<|assistant|>\n"
        result = llm.generate([prompt], stop=["<|end|>"]).generations[0][0]
        assert result.text == "The capital of France is Paris."
        assert result.generation_info["finish_reason"] == "stop"

    def test_an_answer_knows_what_it_cost(self, llm: Any) -> None:
        """Tokens, seconds and the reason of the end are in LangChain's own places."""
        result = llm.generate([FRANCE, STEPS])
        first, second = (generation[0].generation_info for generation in result.generations)
        assert first["finish_reason"] == "eos"
        assert second["finish_reason"] == "length"
        for info in (first, second):
            assert info["input_tokens"] > 5
            assert info["output_tokens"] > 5
            assert info["total_tokens"] == info["input_tokens"] + info["output_tokens"]
            assert info["seconds"] > 0
            assert info["tokens_per_second"] == info["output_tokens"] / info["seconds"]
        usage = result.llm_output["token_usage"]
        assert usage["total_tokens"] == first["total_tokens"] + second["total_tokens"]
        assert result.llm_output["model_name"] == llm.model_id

    def test_a_chain_takes_it_like_any_other(self, llm: Any) -> None:
        """A prompt template, the model and a parser are one chain."""
        chain = PromptTemplate.from_template(COT.replace("{}", "{q}")) | llm.bind(stop=["\n\n"])
        assert (chain | StrOutputParser()).invoke({"q": FRANCE}).endswith("Paris.")

    def test_an_option_counts_for_one_call(self, llm: Any) -> None:
        """Generation options work bound, called, and in `pipeline_kwargs`; then they are gone."""
        whole = llm.invoke(FRANCE)
        for short in (
            llm.bind(max_new_tokens=2).invoke(FRANCE),
            llm.invoke(FRANCE, max_new_tokens=2),
            llm.invoke(FRANCE, pipeline_kwargs={"max_new_tokens": 2}),
        ):
            assert short
            assert whole.startswith(short)
            assert short != whole
        assert llm.invoke(FRANCE) == whole


class TestBatch:
    """What every engine promises for many prompts."""

    PROMPTS = (FRANCE, STEPS, "法国的首都是哪里？", PERU, JAPAN, COT.format(PERU), "Quito?")

    @pytest.mark.parametrize("size", [1, 2, 5, 64])
    def test_a_batch_equals_single_answers_in_order(self, llm: Any, size: int) -> None:
        """Greedy answers do not depend on the company that a prompt has."""
        single = [llm.invoke(prompt) for prompt in self.PROMPTS]
        assert llm.bind(batch_size=size).batch(list(self.PROMPTS)) == single

    def test_each_row_of_a_batch_stops_on_its_own(self, llm: Any) -> None:
        """Rows stop at their own place, and a row that needs no stop string is left alone."""
        single = [llm.invoke(prompt, stop=["\n\n", "Lima"]) for prompt in self.PROMPTS]
        assert llm.bind(stop=["\n\n", "Lima"], batch_size=8).batch(list(self.PROMPTS)) == single
        assert single[3] == llm.invoke(PERU).partition("Lima")[0]

    def test_an_empty_batch_is_an_empty_list(self, llm: Any) -> None:
        """No prompts, no answers, no error."""
        assert llm.batch([]) == []
        assert llm.generate([]).generations == []

    def test_a_bad_prompt_does_not_spoil_the_others(self, llm: Any) -> None:
        """With `return_exceptions` the error stands in the place of its own answer only."""
        outputs = llm.batch([FRANCE, "", PERU], return_exceptions=True)
        assert outputs[0].strip() == "The capital of France is Paris."
        assert isinstance(outputs[1], ParameterError)
        assert "Lima" in outputs[2]

    def test_a_bad_prompt_is_an_error_before_anything_is_computed(self, llm: Any) -> None:
        """Without `return_exceptions` the error is raised."""
        with pytest.raises(ParameterError, match="empty"):
            llm.batch([FRANCE, ""])

    def test_max_concurrency_limits_what_runs_together(self, llm: Any) -> None:
        """LangChain's limit gives the same answers."""
        prompts = list(self.PROMPTS[:4])
        assert llm.batch(prompts, {"max_concurrency": 2}) == llm.batch(prompts)


class TestBadInput:
    """Every engine meets bad input with one clear error."""

    @pytest.mark.parametrize("way", ["invoke", "stream", "batch", "generate"])
    def test_an_empty_prompt(self, llm: Any, way: str) -> None:
        """A model that has no token to begin with says so."""
        call: dict[str, Callable[[], Any]] = {
            "invoke": lambda: llm.invoke(""),
            "stream": lambda: list(llm.stream("")),
            "batch": lambda: llm.batch([""]),
            "generate": lambda: llm.generate([""]),
        }
        with pytest.raises(ParameterError, match="prompt is empty"):
            call[way]()

    def test_a_prompt_longer_than_the_context(self, llm: Any) -> None:
        """The error names both numbers, and nothing is logged."""
        with pytest.raises(ParameterError, match=r"[23],\d{3} tokens; 1,023 is the most"):
            llm.invoke("Quito " * 1200)

    def test_a_prompt_that_leaves_little_room(self, llm: Any) -> None:
        """An answer ends where the context ends, in company as well as alone."""
        long = " one" * 1010
        tokens = llm.generate([long]).generations[0][0].generation_info
        assert tokens["input_tokens"] + tokens["output_tokens"] <= 1024
        outputs = llm.bind(batch_size=4).batch([long, FRANCE])
        assert outputs == [llm.invoke(long), llm.invoke(FRANCE)]

    def test_an_empty_stop_string(self, llm: Any) -> None:
        """It would end everything at once, which nobody means."""
        with pytest.raises(ParameterError, match="empty string"):
            llm.invoke(FRANCE, stop=["\n", ""])

    @pytest.mark.parametrize("stop", [[1], 5, b"x", [b"x"]])
    def test_a_stop_that_is_no_text(self, llm: Any, stop: Any) -> None:
        """Numbers and bytes are refused."""
        with pytest.raises(ParameterError, match="stop"):
            llm.invoke(FRANCE, stop=stop)

    def test_a_thousand_stop_strings(self, llm: Any) -> None:
        """A long list works, and the right one is found."""
        stop = [f"never {number}" for number in range(999)] + ["Paris"]
        assert llm.invoke(FRANCE, stop=stop) == llm.invoke(FRANCE).partition("Paris")[0]

    def test_half_a_character(self, llm: Any) -> None:
        """It is named with its place, and the other prompts of a batch get their answers."""
        with pytest.raises(ParameterError, match="no character at place 4"):
            llm.invoke("What\ud83d")
        answers = llm.batch([FRANCE, "\ud800"], return_exceptions=True)
        assert "Paris" in answers[0]
        assert isinstance(answers[1], ParameterError)

    @pytest.mark.parametrize("prompt", [b"bytes", bytearray(b"x")])
    def test_bytes_instead_of_text(self, llm: Any, prompt: Any) -> None:
        """LangChain takes bytes for messages; here the error says `decode`."""
        for call in (llm.invoke, lambda p: list(llm.stream(p)), lambda p: llm.generate([p])):
            with pytest.raises(ParameterError, match="decode"):
                call(prompt)

    def test_emoji_and_right_to_left_text(self, llm: Any) -> None:
        """Text outside the tokenizer's words is read and repeated unharmed."""
        prompt = "مرحبا 👩‍👩‍👧 שלום 😀"
        answer = llm.bind(skip_prompt=False, max_new_tokens=8).invoke(prompt)
        assert answer.startswith(prompt)

    def test_an_unknown_option_is_not_ignored(self, llm: Any) -> None:
        """A misspelt option names the right one."""
        with pytest.raises(ParameterError, match="Write max_new_tokens"):
            llm.invoke(FRANCE, max_new_token=5)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"min_length": "many"}, "from 0 upward"),
            ({"num_beams": 0}, "from 1 to 256"),
            ({"num_beams": 5000}, "from 1 to 256"),
            ({"max_new_tokens": True}, "from 1 upward"),
            ({"top_k": False}, "from 0 upward"),
            ({"top_k": -1}, "from 0 upward"),
            ({"temperature": 0, "do_sample": True}, "do_sample=False"),
            ({"temperature": -1}, "do_sample=False"),
            ({"temperature": 0.5, "do_sample": False}, "do_sample=True"),
            ({"max_length": 9, "max_new_tokens": 9}, "max_new_tokens=9 alone"),
            ({"max_new_tokens": 0}, "from 1 upward"),
            ({"batch_size": 0}, "from 1 upward"),
            ({"batch_size": "8"}, "from 1 upward"),
        ],
    )
    def test_options_that_contradict_each_other(
        self, llm: Any, options: dict[str, Any], words: str
    ) -> None:
        """One sentence says what to write instead."""
        with pytest.raises(ParameterError, match=words):
            llm.invoke(FRANCE, **options)


def test_it_is_langchains_class(torch_llm: Any) -> None:
    """What takes a HuggingFacePipeline takes this."""
    from langchain_huggingface import HuggingFacePipeline

    from local_pipelines import LocalPipeline

    assert isinstance(torch_llm, LocalPipeline)
    assert isinstance(torch_llm, HuggingFacePipeline)
    assert torch_llm.model_id == "pocket"
    assert torch_llm.pipeline.task == "text-generation"
    assert torch_llm.pipeline_kwargs == {"max_new_tokens": 48}


def test_a_pipeline_that_exists_can_be_wrapped(torch_llm: Any) -> None:
    """`LocalPipeline(pipeline=…)` keeps the pipeline's options, and takes more."""
    from transformers import pipeline

    from local_pipelines import LocalPipeline

    pipe = pipeline(
        "text-generation",
        model=torch_llm.pipeline.model,
        tokenizer=torch_llm.pipeline.tokenizer,
        max_new_tokens=3,
        do_sample=False,
    )
    short = LocalPipeline(pipeline=pipe).invoke(FRANCE)
    assert torch_llm.invoke(FRANCE).startswith(short)
    assert len(short) < 20
    more = LocalPipeline(pipeline=pipe, pipeline_kwargs={"max_new_tokens": 48})
    assert more.invoke(FRANCE) == torch_llm.invoke(FRANCE)
    echo = LocalPipeline(pipeline=pipe, pipeline_kwargs={"return_full_text": True})
    assert echo.invoke(FRANCE) == FRANCE + short


def test_sampling_happens_only_when_it_is_asked_for(torch_llm: Any) -> None:
    """The pipeline itself would sample with temperature 0.7; the model's authors say greedy."""
    assert torch_llm.pipeline.generation_config.do_sample is False
    assert len({torch_llm.invoke("once upon") for _ in range(4)}) == 1
    hot = torch_llm.bind(temperature=5.0, max_new_tokens=12)
    assert len({hot.invoke("once upon") for _ in range(4)}) > 1
    seeded = torch_llm.bind(temperature=5.0, max_new_tokens=12, seed=7)
    assert len({seeded.invoke("once upon") for _ in range(3)}) == 1
    assert torch_llm.invoke(FRANCE, temperature=0) == torch_llm.invoke(FRANCE)


class TestSwitchedOff:
    """What the model's own options switch off, a call does not ask for in vain."""

    @pytest.mark.parametrize(
        ("own", "call", "words"),
        [
            ({"do_sample": False}, {"temperature": 0.7}, "temperature=0.7 .*do_sample=False"),
            ({"do_sample": False}, {"top_k": 3, "top_p": 0.5}, "top_k=3 and top_p=0.5"),
            ({"temperature": 0}, {"top_k": 3}, "top_k=3 .*temperature=0"),
            ({"temperature": 0}, {"do_sample": True}, "do_sample=True .*temperature=0"),
        ],
    )
    def test_a_contradiction_is_refused(
        self, engine: Any, own: dict[str, Any], call: dict[str, Any], words: str
    ) -> None:
        """The error names both, and what to write."""
        llm = engine(own)
        for way in (llm.invoke, lambda p, **kw: list(llm.stream(p, **kw))):
            with pytest.raises(ParameterError, match=words) as caught:
                way(FRANCE, **call)
            assert "to the call" in caught.value.next_step

    @pytest.mark.parametrize(
        ("own", "call"),
        [
            ({"do_sample": False}, {"temperature": 5.0, "do_sample": True}),
            ({"temperature": 0}, {"temperature": 5.0}),
            ({}, {"temperature": 5.0}),
            ({}, {"temperature": 5.0, "do_sample": None}),
        ],
    )
    def test_a_call_can_sample(
        self, engine: Any, own: dict[str, Any], call: dict[str, Any]
    ) -> None:
        """Whoever gives what is needed gets answers that differ."""
        llm = engine(own).bind(max_new_tokens=8, **call)
        assert len({llm.invoke("once upon") for _ in range(5)}) > 1

    @pytest.mark.parametrize("call", [{"do_sample": False}, {"temperature": 0}])
    def test_a_call_can_switch_sampling_off(self, engine: Any, call: dict[str, Any]) -> None:
        """Whatever temperature the model has."""
        llm = engine({"temperature": 5.0, "top_k": 40}).bind(max_new_tokens=8, **call)
        assert len({llm.invoke("once upon") for _ in range(3)}) == 1

    def test_a_chat_model_is_refused_too(self, engine: Any) -> None:
        """The temperature of a LocalChat is an option of its calls."""
        from local_pipelines import LocalChat

        chat = LocalChat(llm=engine({"do_sample": False}), temperature=0.7)
        with pytest.raises(ParameterError, match=r"temperature=0.7 .*do_sample=False"):
            chat.invoke(FRANCE)

    @pytest.fixture(params=["torch", "genai"])
    def engine(self, request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Any]:
        """Make a model with options of its own out of a loaded one."""
        llm = request.getfixturevalue(f"{request.param}_llm")
        return lambda own: llm.model_copy(update={"pipeline_kwargs": {"max_new_tokens": 24, **own}})


def test_every_option_for_sampling_and_lengths_is_known() -> None:
    """No option of transformers' own list is taken for an option of a pipeline."""
    from transformers import GenerationConfig

    from local_pipelines.engines.options import GENERATION_OPTIONS, check_model_kwargs

    wanted = re.compile(
        "do_sample|guidance_scale|penalty_alpha|seed|early_stopping|stop_strings|top_.|min_p"
        "|typical_p|temperature|(max|min)_(length|new_tokens|time)|num_(beam|return).*|.*_penalty"
        "|.*_cutoff|.*repeat_ngram_size|.*suppress_tokens|.*_words_ids|sequence_bias|forced_.*_token_id"
    )
    names = [name for name in GenerationConfig().to_dict() if wanted.fullmatch(name)]
    assert len(names) > 30
    for name in names:
        assert name in GENERATION_OPTIONS
        with pytest.raises(ParameterError, match=name):
            check_model_kwargs({name: 1})


def test_a_model_without_a_temperature_of_its_own_has_one(
    torch_llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the pipeline's 0.7: 1 is what transformers computes with."""
    from local_pipelines.chains.pipeline import _configure

    pipe = torch_llm.pipeline
    monkeypatch.setattr(pipe, "generation_config", copy.deepcopy(pipe.generation_config))
    monkeypatch.setattr(pipe.model.generation_config, "temperature", None)
    monkeypatch.setattr(pipe.model.generation_config, "do_sample", True)
    _configure(pipe, {})
    assert pipe.generation_config.temperature == 1.0
    assert pipe.generation_config.do_sample is True


def test_a_pipeline_of_transformers_5_20_has_no_configuration(torch_llm: Any) -> None:
    """What it was made with and its defaults are joined with the model's own."""
    from transformers import GenerationConfig

    from local_pipelines.engines.torch_options import configured

    pipe = SimpleNamespace(
        model=torch_llm.pipeline.model,
        _prepare_generate_kwargs=lambda _: {
            "generation_config": GenerationConfig(top_k=7),
            "max_new_tokens": 256,
        },
    )
    config = configured(pipe)
    assert (config.top_k, config.max_new_tokens) == (7, 256)
    assert config.eos_token_id == torch_llm.pipeline.model.generation_config.eos_token_id


def test_max_length_counts_the_prompt(torch_llm: Any) -> None:
    """`max_length` is transformers' old limit: prompt and answer together, for each row."""
    infos = [
        generation[0].generation_info
        for generation in torch_llm.generate(
            [FRANCE, STEPS], max_length=30, batch_size=8
        ).generations
    ]
    assert [info["total_tokens"] for info in infos] == [infos[0]["total_tokens"], 30]
    assert infos[0]["total_tokens"] <= 30
    with pytest.raises(ParameterError, match="max_length=5"):
        torch_llm.invoke(FRANCE, max_length=5)


def test_batch_size_is_honoured_and_lengths_are_grouped(torch_llm: Any) -> None:
    """So many rows are computed at a time, and a batch ends with its last row."""
    prompts = [STEPS, FRANCE, STEPS, FRANCE, STEPS]
    with counted_steps(torch_llm) as rows:
        torch_llm.bind(batch_size=3, stop=["\n\n"]).batch(prompts)
    assert set(rows) == {3, 2}
    alone = torch_llm.generate([FRANCE]).generations[0][0].generation_info["output_tokens"]
    assert rows.count(2) == alone  # the two short ones are together and stop together


def test_generation_ends_within_a_token_of_the_stop_string(torch_llm: Any) -> None:
    """The model computes exactly the tokens that are counted."""
    with counted_steps(torch_llm) as rows:
        result = torch_llm.generate([STEPS], stop=["\n\n"])
    assert len(rows) == result.generations[0][0].generation_info["output_tokens"]


def test_beams_are_cut_at_the_stop_string_too(torch_llm: Any) -> None:
    """With several beams nothing can be followed token by token; the text is right all the same."""
    free = torch_llm.invoke(STEPS, num_beams=2)
    assert torch_llm.invoke(STEPS, num_beams=2, stop=["\n\n"]) == free.partition("\n\n")[0]
    streamed = torch_llm.bind(num_beams=2, stop=["\n\n"]).stream(STEPS)
    assert "".join(streamed) == free.partition("\n\n")[0]


def test_five_thousand_prompts(scripted: Any) -> None:
    """A large batch is one call, and its answers are in order."""
    prompts = [f"prompt {number}" for number in range(5000)]
    assert scripted.batch(prompts) == [prompt.upper() for prompt in prompts]
    assert len(scripted.script.calls) == 1


def test_a_progress_bar_is_shown_on_request(
    torch_llm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar counts prompts, and is not there unless asked for."""
    torch_llm.batch([FRANCE, PERU])
    assert "prompt" not in capsys.readouterr().err
    torch_llm.bind(progress=True).batch([FRANCE, PERU])
    assert "2/2" in capsys.readouterr().err


def test_callbacks_see_one_run_for_each_prompt(torch_llm: Any) -> None:
    """LangChain's tracing works as it does with the original class."""

    class Counter(BaseCallbackHandler):
        started = ended = failed = 0

        def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            self.started += 1

        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            self.ended += 1

        def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
            self.failed += 1

    counter = Counter()
    torch_llm.batch([FRANCE, PERU, ""], {"callbacks": [counter]}, return_exceptions=True)
    assert (counter.started, counter.ended, counter.failed) == (3, 2, 1)


def test_ordinary_use_is_silent(run_python: Callable[..., str], tmp_path: Path) -> None:
    """Loading, answering, stopping and streaming write nothing to stderr."""
    code = (
        "from local_pipelines import LocalPipeline\n"
        "llm = LocalPipeline.from_model_id('pocket', task='text-generation',"
        " pipeline_kwargs={'max_new_tokens': 8, 'temperature': 0})\n"
        "llm.batch(['a', 'b c'], stop=['x']); list(llm.stream('a'))\n"
        "llm.invoke('a', temperature=0.5, top_k=3)\n"
    )
    script = f"import sys; sys.stderr = open({str(tmp_path / 'err')!r}, 'w')\n{code}"
    run_python(script)
    assert (tmp_path / "err").read_text() == ""


def test_limits_that_a_model_brings_are_no_reason_to_warn(
    random_llm: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Many models come with a `max_length`; transformers warns at every call that there are two."""
    monkeypatch.setattr(random_llm.pipeline.model.generation_config, "max_length", 100)
    result = random_llm.generate(["a", "b c d"], max_new_tokens=5, min_new_tokens=5)
    assert [g[0].generation_info["output_tokens"] for g in result.generations] == [5, 5]
    assert not caplog.records


class TestLoading:
    """Options are checked before a model is loaded."""

    @pytest.fixture(autouse=True)
    def never_load(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from langchain_huggingface import HuggingFacePipeline

        def fail(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("a model is being loaded")

        monkeypatch.setattr(HuggingFacePipeline, "from_model_id", fail)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"model_kwargs": {"temperature": 0, "max_length": 64}}, "'max_new_tokens': 64"),
            ({"model_kwargs": {"temperature": 0}}, "'do_sample': False"),
            ({"model_kwargs": {"max_new_tokens": 5}}, "pipeline_kwargs={'max_new_tokens': 5}"),
            ({"model_kwargs": {"stop": ["x"]}}, "bind"),
            ({"pipeline_kwargs": {"temperature": 0, "do_sample": True}}, "do_sample=False"),
            ({"pipeline_kwargs": {"max_length": 3, "max_new_tokens": 5}}, "alone"),
            ({"device": 0, "device_map": "auto"}, "Leave one of them out"),
            ({"device": 0, "backend": "openvino"}, "model_kwargs"),
            ({"task": "summarization"}, "text-generation"),
        ],
    )
    def test_an_option_that_cannot_work(self, options: dict[str, Any], words: str) -> None:
        """The error says what to write instead, at once."""
        from local_pipelines import LocalPipeline

        with pytest.raises(ParameterError) as caught:
            LocalPipeline.from_model_id("pocket", **{"task": "text-generation", **options})
        assert words in caught.value.next_step

    def test_a_device_that_is_not_there(self) -> None:
        """Nothing is loaded for a GPU that the machine does not have."""
        from local_pipelines import LocalPipeline

        with pytest.raises(DeviceError):
            LocalPipeline.from_model_id("pocket", device=99)

    def test_a_model_that_is_not_there(self, tmp_path: Path) -> None:
        """A folder without a model is known before transformers is asked."""
        from local_pipelines import LocalPipeline

        with pytest.raises(ModelError):
            LocalPipeline.from_model_id(str(tmp_path))


def test_without_a_pipeline_the_error_says_what_to_write() -> None:
    """LangChain allows a HuggingFacePipeline without a pipeline; using it explains itself."""
    from local_pipelines import LocalPipeline

    with pytest.raises(ParameterError, match="from_model_id"):
        LocalPipeline(model_id="x").invoke("x")


def test_importing_it_does_not_import_torch(run_python: Callable[..., str]) -> None:
    """The classes can be imported, and `HF_HOME` still be set, in half a second."""
    code = (
        "import local_pipelines.chains.pipeline, "
        "local_pipelines.chains.chat, sys; print(*sys.modules)"
    )
    assert not {"torch", "transformers", "huggingface_hub"} & set(run_python(code).split())


def test_the_engines_need_no_langchain(run_python: Callable[..., str]) -> None:
    """Tokens in, answers out: what computes knows nothing of chains, and imports no framework."""
    code = "import local_pipelines.engines.torch_engine, local_pipelines.engines.genai_model, sys"
    imported = set(run_python(f"{code}; print(*sys.modules)").split())
    assert not {"langchain_core", "pydantic", "torch", "transformers"} & imported


def test_a_version_that_breaks_a_promise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transformers newer than any tried, which lost a name, is told by its version."""
    monkeypatch.setattr(versions, "installed_version", lambda name: "99.0")

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise AttributeError("'TextGenerationPipeline' object has no attribute 'generation_config'")

    monkeypatch.setattr(HuggingFacePipeline, "from_model_id", broken)
    with pytest.raises(MissingPackageError, match=r"transformers 99\.0.*newer than the newest"):
        LocalPipeline.from_model_id("pocket")


def test_an_old_version_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A transformers below the lower bound is named, with the command that helps."""
    monkeypatch.setattr(versions, "installed_version", lambda name: "0.1")
    with pytest.raises(MissingPackageError, match=r"transformers 0\.1 is too old"):
        LocalPipeline.from_model_id("pocket")
