"""GenAIPipeline: the promises of LocalPipeline without torch, and exports that are made once."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openvino_genai")

from local_pipelines import GenAIPipeline, LocalChat
from local_pipelines.chains.chat_template import render_chat_template
from local_pipelines.errors import (
    CredentialError,
    DeviceError,
    ExportError,
    MissingPackageError,
    ModelError,
    ParameterError,
)
from local_pipelines.openvino import config as config_module
from local_pipelines.openvino import convert as convert_module
from local_pipelines.openvino import export as export_module
from local_pipelines.openvino import need
from local_pipelines.openvino.manifest import MANIFEST

FRANCE = "What is the capital of France?"
PERU = "What is the capital of Peru?"
STEPS = f"Question: {FRANCE}\n\nAnswer: Let's think step by step."
PROMPTS = [FRANCE, STEPS, PERU, "法国的首都是哪里？", "¿Cuál es la capital de Chile?", "Quito?"]
PARIS = "The capital of France is Paris."


class CountingPipeline:
    """Passes everything on to the engine, and counts."""

    def __init__(self, pipeline: Any) -> None:
        self.steps = self.added = self.most = 0
        self.fail_at: int | None = None
        self._handles: list[Any] = []
        self._pipeline = pipeline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def add_request(self, *arguments: Any) -> Any:
        handle = self._pipeline.add_request(*arguments)
        self.added += 1
        self._handles.append(handle)
        return handle

    def step(self) -> None:
        running = [h for h in self._handles if "RUNNING" in str(h.get_status())]
        self.most = max(self.most, len(running))
        if self.steps == self.fail_at:
            self.fail_at = None
            raise KeyboardInterrupt
        self.steps += 1
        self._pipeline.step()


@pytest.fixture
def counted(genai_llm: Any, monkeypatch: pytest.MonkeyPatch) -> CountingPipeline:
    """What the engine is asked to compute."""
    genai_llm.batch([FRANCE, PERU])  # from now on the engine keeps the pipeline for batches
    counting = CountingPipeline(genai_llm.engine.pipeline)
    monkeypatch.setattr(type(genai_llm.engine), "pipeline", counting)
    return counting


@pytest.fixture
def folder(pocket_export: Path, tmp_path: Path) -> Path:
    """A copy of the export that a test may change."""
    return shutil.copytree(pocket_export, tmp_path / "ir")


def test_prompts_that_begin_alike_keep_their_own_answers(pocket_export: Path) -> None:
    """Nothing that was read before gets into an answer; the raw engine's cache does that."""
    start = "What is a token? A token is"
    alike = [
        f"{start} a piece of text. What is the capital of {c}?" for c in ("Iran", "the Gambia")
    ]
    llm = GenAIPipeline.from_model_dir(pocket_export, max_new_tokens=11)
    llm.invoke(start, max_new_tokens=5)
    answers = llm.batch(alike)
    assert "Tehran" in answers[0]
    assert "Banjul" in answers[1]


# --- options that would do something else -------------------------------------------------------


def test_zero_switches_an_option_off(genai_llm: Any) -> None:
    """As in transformers, also where the model's own configuration has a value."""
    config = genai_llm.engine.generation_config({"top_k": 0, "no_repeat_ngram_size": 0})
    assert config.top_k == config.no_repeat_ngram_size == 2**64 - 1


def test_an_option_without_effect_is_refused(genai_llm: Any) -> None:
    """The engine forgets `no_repeat_ngram_size` unless there are several beams."""
    with pytest.raises(ParameterError, match="with num_beams only"):
        genai_llm.invoke(FRANCE, no_repeat_ngram_size=2)
    assert genai_llm.invoke(FRANCE, no_repeat_ngram_size=2, num_beams=2)


def test_min_new_tokens_wins_over_min_length(genai_llm: Any) -> None:
    """As in transformers."""
    result = genai_llm.generate([FRANCE], min_length=1, min_new_tokens=12, max_new_tokens=14)
    assert result.generations[0][0].generation_info["output_tokens"] >= 12


def test_wrong_options_are_found_before_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """An export may take minutes; what cannot work afterwards is said before."""
    monkeypatch.setattr(
        "local_pipelines.chains.genai.load_kept", lambda *_: pytest.fail("it was exported")
    )
    with pytest.raises(ParameterError, match="has no option guidance_scale"):
        GenAIPipeline.from_model_id("pocket", pipeline_kwargs={"guidance_scale": 2.0})
    with pytest.raises(ParameterError, match="batch_size='many'"):
        GenAIPipeline.from_model_id("pocket", batch_size="many")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="engine is no option"):
        GenAIPipeline.from_model_id("pocket", engine=1)
    with pytest.raises(DeviceError):
        GenAIPipeline.from_model_id("pocket", device="GPU.7")


def test_a_cache_tells_precisions_apart(pocket_export: Path, tmp_path: Path) -> None:
    """LangChain's cache does not give the answer of one export for another."""
    from langchain_core.caches import InMemoryCache

    other = export_module.export_openvino("pocket", tmp_path / "int8", weight_format="int8")
    cache = InMemoryCache()
    for folder in (pocket_export, other):
        llm = GenAIPipeline.from_model_dir(folder, max_new_tokens=4, cache=cache)
        llm.invoke(FRANCE)
        assert llm.last_batch is not None
        again = GenAIPipeline.from_model_dir(folder, max_new_tokens=4, cache=cache)
        again.invoke(FRANCE)
        assert again.last_batch is None  # from the cache


# --- the report --------------------------------------------------------------------------------


def test_the_last_batch_is_reported(genai_llm: Any) -> None:
    """It has the whole call's prompts, tokens and seconds, and says that rows take turns."""
    result = genai_llm.generate(PROMPTS, batch_size=3)
    report, usage = genai_llm.last_batch, result.llm_output["token_usage"]
    assert (report.prompts, report.requested, report.engine) == (6, 3, "continuous")
    assert (report.sizes, report.halvings, report.reason) == ((), 0, "")
    assert (report.input_tokens, report.output_tokens) == (
        usage["input_tokens"],
        usage["output_tokens"],
    )
    assert report.seconds > 0
    assert repr(report) == (
        "6 prompts with batch_size=3, in continuous batching: when one was done, the next took"
        " its place."
    )
    genai_llm.invoke(FRANCE)
    assert repr(genai_llm.last_batch).startswith("1 prompt with batch_size=")
    with pytest.raises(ParameterError):
        genai_llm.invoke("")
    assert genai_llm.last_batch.prompts == 1  # a call that was refused was none


def test_an_interrupted_batch_is_reported(genai_llm: Any, counted: CountingPipeline) -> None:
    """The tokens of the answers that were done by then are there."""
    counted.fail_at = 45
    with pytest.raises(KeyboardInterrupt):
        genai_llm.batch(PROMPTS, batch_size=2)
    report = genai_llm.last_batch
    assert report.prompts == len(PROMPTS)
    assert 0 < report.output_tokens < 45 * 2


# --- without torch -----------------------------------------------------------------------------


def test_no_torch_and_no_transformers(run_python: Callable[..., str], pocket_export: Path) -> None:
    """From the import to the answers of a chat, neither of them is imported."""
    printed = run_python(f"""
import sys
from local_pipelines import GenAIPipeline, LocalChat
llm = GenAIPipeline.from_model_dir({str(pocket_export)!r}, max_new_tokens=24)
assert "Paris" in llm.invoke({FRANCE!r})
assert len(llm.batch([{FRANCE!r}, {PERU!r}], stop=["."])) == 2
assert "Paris" in "".join(llm.stream({FRANCE!r}))
print(LocalChat(llm=llm).invoke({FRANCE!r}).content)
print(*(name.partition(".")[0] for name in sys.modules))
""")
    answer, modules = printed.splitlines()
    assert answer == PARIS
    assert not {"torch", "transformers", "huggingface_hub"} & set(modules.split())


def test_answers_are_torchs_word_for_word(genai_llm: Any, torch_llm: Any) -> None:
    """Greedy answers of an fp32 export, their token counts and ends are those of torch."""
    for stop in (None, ["\n\n"]):
        ours = genai_llm.generate(PROMPTS, stop=stop).generations
        theirs = torch_llm.generate(PROMPTS, stop=stop).generations
        for (one,), (two,) in zip(ours, theirs, strict=True):
            assert one.text == two.text
            for name in ("input_tokens", "output_tokens", "finish_reason"):
                assert one.generation_info[name] == two.generation_info[name]


ODD = ["What is the number\n\n7 in French", "\n\n12", "a\n \n1", "１２", "7\n\n\n77 7", "\t 3\r\n4"]


def test_prompts_become_the_tokens_that_torch_reads(genai_llm: Any, torch_llm: Any) -> None:
    """Where digits follow blank lines too, which the converted tokenizer cuts elsewhere."""
    prompts = [*PROMPTS, *ODD]
    expected = torch_llm.pipeline.tokenizer(prompts)["input_ids"]
    assert genai_llm.engine.encode(prompts, special=True) == expected
    assert genai_llm.batch(ODD) == torch_llm.batch(ODD)


def test_an_export_without_the_checkpoints_tokenizer_still_answers(folder: Path) -> None:
    """The converted one reads the prompts then."""
    (folder / "tokenizer.json").unlink()
    (folder / MANIFEST).unlink()  # as optimum-cli writes a folder, without a list of its files
    assert PARIS in GenAIPipeline.from_model_dir(folder, max_new_tokens=24).invoke(FRANCE)


def test_the_chat_template_is_filled_in_as_transformers_does(
    genai_llm: Any, torch_llm: Any
) -> None:
    """Model's own template and a given one, with special tokens, loops and the date."""
    messages = [
        {"role": "system", "content": "Be <brief> & kind."},
        {"role": "user", "content": FRANCE},
    ]
    given = (
        "{% for m in messages %}\n  {% if loop.first %}{{ m | tojson }}{% continue %}{% endif %}\n"
        "{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}{{ eos_token }}"
        "{{ strftime_now('%Y') }}{{ tools is none }}{{ extra }}{{ add_generation_prompt }}"
    )
    for template in (None, given):
        assert genai_llm.apply_chat_template(
            messages, template=template, extra=5
        ) == torch_llm.apply_chat_template(messages, template=template, extra=5)


def test_a_template_runs_in_a_sandbox() -> None:
    """A template from a model's folder reaches nothing of Python's."""
    with pytest.raises(Exception, match="unsafe"):
        render_chat_template("{{ messages.__class__.__mro__ }}", [], {})


# --- answers -----------------------------------------------------------------------------------


def test_stop_strings_at_any_place(genai_llm: Any) -> None:
    """Wherever a stop string begins and ends, the text before it is all there, and no more."""
    chosen = random.Random(0)
    for prompt in PROMPTS:
        free = genai_llm.invoke(prompt)
        for _ in range(12):
            start = chosen.randrange(len(free))
            stop = free[start : start + chosen.randint(1, 8)]
            assert genai_llm.invoke(prompt, stop=[stop]) == free.partition(stop)[0]


def test_stopped_rows_are_not_computed_further(genai_llm: Any, counted: CountingPipeline) -> None:
    """The engine takes as many steps as there are tokens, and one to let the row go."""
    info = genai_llm.generate([STEPS], stop=["\n\n"]).generations[0][0].generation_info
    assert counted.steps <= info["output_tokens"] + 1


def test_a_broken_character_is_never_shown(genai_llm: Any) -> None:
    """Sampled wildly, characters of several tokens come in one piece, or not at all."""
    wild = genai_llm.bind(temperature=6.0, max_new_tokens=40)
    for seed in range(6):
        whole = wild.invoke("once upon", seed=seed)
        pieces = list(wild.stream("once upon", seed=seed))
        assert "".join(pieces) == whole
        assert all(pieces)
    wide = "👩‍👩‍👧 שלום 首都"
    assert "".join(genai_llm.bind(skip_prompt=False).stream(wide)).startswith(wide)


def test_sampling_happens_only_when_it_is_asked_for(genai_llm: Any) -> None:
    """As with torch: greedy unless told otherwise, repeatable with a seed."""
    assert len({genai_llm.invoke("once upon") for _ in range(3)}) == 1
    hot = genai_llm.bind(temperature=5.0, max_new_tokens=12)
    assert len({hot.invoke("once upon") for _ in range(4)}) > 1
    assert len({hot.invoke("once upon", seed=7) for _ in range(3)}) == 1
    assert len(set(hot.batch(["once upon"] * 4, seed=7))) > 1
    assert genai_llm.invoke(FRANCE, temperature=0) == genai_llm.invoke(FRANCE)


def test_lengths(genai_llm: Any) -> None:
    """`max_length` and `min_length` count the prompt, the newer options only the answer."""
    generations = genai_llm.generate([FRANCE, STEPS], max_length=30).generations
    assert generations[1][0].generation_info["total_tokens"] == 30
    longer = genai_llm.generate([FRANCE], min_new_tokens=20).generations[0][0].generation_info
    assert longer["output_tokens"] >= 20
    with pytest.raises(ParameterError, match="max_length=5"):
        genai_llm.invoke(FRANCE, max_length=5)


def test_beams_are_cut_at_the_stop_string_too(genai_llm: Any) -> None:
    """The best of several beams ends at the stop string, streamed or not."""
    free = genai_llm.invoke(STEPS, num_beams=2)
    cut = free.partition("\n\n")[0]
    assert genai_llm.invoke(STEPS, num_beams=2, stop=["\n\n"]) == cut
    assert "".join(genai_llm.bind(num_beams=2, stop=["\n\n"]).stream(STEPS)) == cut


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"penalty_alpha": 0.6}, "no option penalty_alpha"),
        ({"num_return_sequences": 2}, "no option num_return_sequences"),
        ({"top_k": "many"}, "top_k='many' cannot work"),
        ({"seed": "x"}, "seed='x'"),
        ({"num_beams": 2, "do_sample": True}, "does not take these options"),
    ],
)
def test_options_that_cannot_work(genai_llm: Any, options: dict[str, Any], words: str) -> None:
    """They are refused in one sentence, and the model stays usable."""
    with pytest.raises(ParameterError, match=words):
        genai_llm.invoke(FRANCE, **options)
    assert PARIS in genai_llm.invoke(FRANCE)


def test_batch_size_is_respected(genai_llm: Any, counted: CountingPipeline) -> None:
    """So many rows are computed at a time; the next prompt takes the place of a finished one."""
    expected = genai_llm.batch(PROMPTS)
    assert counted.most == len(PROMPTS)
    counted.most = 0
    assert genai_llm.bind(batch_size=2).batch(PROMPTS) == expected
    assert counted.most == 2


# --- ends --------------------------------------------------------------------------------------


def _settled(counts: list[int], pause: float = 0.2) -> int:
    """How much there is once no more comes."""
    before = -1
    while before != len(counts):
        before = len(counts)
        time.sleep(pause)
    return before


@pytest.fixture
def decoded(genai_llm: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for each time that new tokens are decoded, which takes its time here."""
    decode, calls = genai_llm.engine.decode, list[int]()

    def slow(rows: list[list[int]]) -> list[str]:
        calls.append(len(rows))
        time.sleep(0.02)
        texts: list[str] = decode(rows)
        return texts

    monkeypatch.setattr(genai_llm.engine, "decode", slow)
    yield calls
    _settled(calls)


def test_closing_a_stream_ends_generation(genai_llm: Any, decoded: list[int]) -> None:
    """The engine stops within a token or two, and is free."""
    stream = genai_llm.stream(STEPS)
    next(stream)
    stream.close()
    assert _settled(decoded) < 10  # of 48
    assert not genai_llm.engine.pipeline.has_non_finished_requests()
    assert PARIS in genai_llm.invoke(FRANCE)


async def test_cancelling_a_batch_ends_it(genai_llm: Any, counted: CountingPipeline) -> None:
    """A cancelled task leaves no row behind in the engine."""
    task = asyncio.create_task(genai_llm.abatch([STEPS] * 4, max_new_tokens=900))
    while counted.steps < 3:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert PARIS in await genai_llm.ainvoke(FRANCE)
    assert counted.steps < 500
    assert not counted.has_non_finished_requests()


def test_interrupting_the_kernel(genai_llm: Any, counted: CountingPipeline) -> None:
    """A call that is interrupted takes its rows out of the engine."""
    counted.fail_at = 3
    with pytest.raises(KeyboardInterrupt):
        genai_llm.batch([STEPS] * 4)
    assert not counted.has_non_finished_requests()
    assert PARIS in genai_llm.invoke(FRANCE)


def test_an_error_while_streaming_reaches_the_reader(
    genai_llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception in the engine's callback would end the process if nobody caught it."""
    decode, calls = genai_llm.engine.decode, list[int]()

    def failing(rows: list[list[int]]) -> list[str]:
        calls.append(1)
        if len(calls) == 4:
            raise MemoryError("no more")
        texts: list[str] = decode(rows)
        return texts

    monkeypatch.setattr(genai_llm.engine, "decode", failing)
    with pytest.raises(MemoryError):
        list(genai_llm.stream(FRANCE))
    assert PARIS in "".join(genai_llm.stream(FRANCE))


# --- loading from a folder ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openvino_model.bin", "config.json", "openvino_tokenizer.xml"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """The error names the file and says to copy or export again."""
    (folder / name).unlink()
    with pytest.raises(ExportError, match=name) as caught:
        GenAIPipeline.from_model_dir(folder)
    assert caught.value.next_step


def test_a_folder_of_optimum_without_tokenizer(folder: Path) -> None:
    """A folder without our note and without the converted tokenizer gets its own sentence."""
    (folder / "local_pipelines_export.json").unlink()
    for file in folder.glob("openvino_*tokenizer.*"):
        file.unlink()
    with pytest.raises(ExportError, match="converted tokenizer"):
        GenAIPipeline.from_model_dir(folder)


def test_an_export_by_a_newer_openvino(folder: Path) -> None:
    """Both versions are named."""
    note = folder / "local_pipelines_export.json"
    content = json.loads(note.read_text())
    content["versions"]["openvino"] = "2099.1.0"
    note.write_text(json.dumps(content))
    with pytest.raises(ExportError, match=r"OpenVINO 2099\.1\.0, and 20\d\d"):
        GenAIPipeline.from_model_dir(folder)


def test_a_damaged_model(folder: Path) -> None:
    """What OpenVINO cannot parse is one sentence, not its stack of source places."""
    xml = folder / "openvino_model.xml"
    (folder / "local_pipelines_export.json").unlink()
    xml.write_text(xml.read_text().replace("</layers>", "", 1))
    with pytest.raises(ModelError, match="cannot load the model") as caught:
        GenAIPipeline.from_model_dir(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_can_only_be_read(folder: Path) -> None:
    """Loading and answering write nothing into the folder."""
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    folder.chmod(0o555)
    try:
        assert PARIS in GenAIPipeline.from_model_dir(folder).invoke(FRANCE)
    finally:
        folder.chmod(0o755)
    assert before == {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ov_config": {"PERFORMANCE_HIN": "LATENCY"}}, ParameterError, "PERFORMANCE_HINT"),
        ({"ov_config": {"NUM_STREAMS": "1x"}}, ParameterError, "NUM_STREAMS"),
        ({"ov_config": ["LATENCY"]}, ParameterError, "no dictionary"),
        ({"device": "GPU.7"}, DeviceError, "GPU.7"),
        ({"device": "AUTO"}, DeviceError, "does not run on AUTO"),
        ({"max_new_tokens": 0}, ParameterError, "from 1 upward"),
        ({"max_new_token": 5}, ParameterError, "Write max_new_tokens"),
        ({"pipeline_kwargs": {"penalty_alpha": 1.0}}, ParameterError, "penalty_alpha"),
        ({"token": "hf_x"}, CredentialError, "no option"),
    ],
)
def test_arguments_that_cannot_work(
    pocket_export: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """Each is one sentence that names what to write."""
    with pytest.raises(error, match=words):
        GenAIPipeline.from_model_dir(pocket_export, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"INFERENCE_PRECISION_HINT": "bf16"},
        {"EXECUTION_MODE_HINT": "PERFORMANCE"},
        {"KV_CACHE_PRECISION": "u8"},
        {"KV_CACHE_PRECISION": "f16", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"},
    ],
)
def test_openvinos_own_options_are_taken(pocket_export: Path, options: dict[str, str]) -> None:
    """The presets work, and what is given wins over the exact default."""
    config = config_module.ov_config("latency", **options)
    llm = GenAIPipeline.from_model_dir(pocket_export, ov_config=config, max_new_tokens=24)
    assert PARIS in llm.invoke(FRANCE)
    assert llm.ov_config == config


def test_without_the_package(pocket_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "openvino_genai", None)
    with pytest.raises(MissingPackageError, match=r'install_packages\("openvino"\)'):
        GenAIPipeline.from_model_dir(pocket_export)


def test_without_a_model_the_error_says_what_to_write() -> None:
    """An object made by hand has nothing to compute with."""
    with pytest.raises(ParameterError, match="from_model_id"):
        GenAIPipeline().invoke(FRANCE)


def test_what_it_shows_of_itself(genai_llm: Any) -> None:
    """Printed, it names model and options; the loaded model is no part of it."""
    assert "pocket" in str(genai_llm)
    assert "engine" not in genai_llm.model_dump()
    assert LocalChat(llm=genai_llm).model_id == "pocket"


# --- from a model id: exported once ------------------------------------------------------------


class FakeExporter:
    """Stands in for optimum-intel: copies a finished export, or breaks off in the middle."""

    def __init__(self, export: Path) -> None:
        self.calls = 0
        self.error: BaseException | None = None
        self._export = export

    def convert(self, source: Path, folder: Path, dtype: str, quantization: Any) -> None:
        self.calls += 1
        for number, file in enumerate(sorted(self._export.iterdir())):
            if number == 3 and self.error is not None:
                raise self.error
            if file.name != "local_pipelines_export.json":
                shutil.copy(file, folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty `HF_HOME`, and where the exports lie in it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "local_pipelines" / "openvino"


@pytest.fixture
def exporter(pocket_export: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeExporter:
    """The tools' stand-in, and an empty cache."""
    fake = FakeExporter(pocket_export)
    monkeypatch.setattr(convert_module, "load_exporter", lambda: fake)
    return fake


def _load(**options: Any) -> GenAIPipeline:
    return GenAIPipeline.from_model_id("pocket", max_new_tokens=24, **options)


def test_a_model_id_is_exported_once(exporter: FakeExporter, cache: Path) -> None:
    """The second time, and in a second process, the export is there."""
    llm = _load()
    assert llm.model_id == "pocket"
    assert PARIS in llm.invoke(FRANCE)
    assert PARIS in _load().invoke(FRANCE)
    assert exporter.calls == 1
    assert [folder.name for folder in cache.iterdir()] == ["pocket-fp32"]


def test_another_process_uses_the_export(
    pocket_export: Path, cache: Path, run_python: Callable[..., str]
) -> None:
    """It imports no torch, as there is nothing to convert."""
    shutil.copytree(pocket_export, cache / "pocket-fp32")
    printed = run_python(
        "import sys; from local_pipelines import GenAIPipeline\n"
        f"llm = GenAIPipeline.from_model_id('pocket'); print(llm.invoke({FRANCE!r}).strip())\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)",
        HF_HOME=str(cache.parents[1]),
    )
    assert printed.splitlines() == [PARIS, "False False"]


def test_an_outdated_export_is_replaced(exporter: FakeExporter, cache: Path) -> None:
    """An export of another version of the model gives way to a new one, and leaves nothing."""
    _load()
    note = cache / "pocket-fp32" / "local_pipelines_export.json"
    content = json.loads(note.read_text())
    content["source"]["files"]["config.json"] |= {"size": 1}
    note.write_text(json.dumps(content))
    assert PARIS in _load().invoke(FRANCE)
    assert exporter.calls == 2
    assert [folder.name for folder in cache.iterdir()] == ["pocket-fp32"]


@pytest.mark.parametrize("again", [False, True])
def test_an_interrupted_export_leaves_nothing(
    exporter: FakeExporter, cache: Path, again: bool
) -> None:
    """No half folder stays; one that was there before is not lost."""
    if again:
        _load()
        (cache / "pocket-fp32" / "openvino_model.bin").write_bytes(b"damaged")
    exporter.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        _load()
    assert [folder.name for folder in cache.iterdir()] == ["pocket-fp32"] * again
    exporter.error = None
    assert PARIS in _load().invoke(FRANCE)
    assert [folder.name for folder in cache.iterdir()] == ["pocket-fp32"]


def test_a_disk_that_becomes_full(exporter: FakeExporter, cache: Path) -> None:
    """It is said so, and what was written is removed."""
    exporter.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(ExportError, match="the disk is full"):
        _load()
    assert list(cache.iterdir()) == []


def test_a_disk_that_is_full_from_the_start(
    exporter: FakeExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is begun then."""
    monkeypatch.setattr(need, "disk_free", lambda _: 1000)
    with pytest.raises(ExportError, match="on the disk"):
        _load()
    assert exporter.calls == 0


def test_a_cache_that_cannot_be_written(exporter: FakeExporter, cache: Path) -> None:
    """The folder is named."""
    cache.parent.parent.mkdir()
    cache.parent.write_text("a file in the way")
    with pytest.raises(ExportError, match="Nothing can be written"):
        _load()


def test_bad_arguments_come_before_the_export(exporter: FakeExporter) -> None:
    """Minutes of work are not spent on a call that cannot end well."""
    for options in ({"ov_config": {"NO_SUCH": "1"}}, {"device": "GPU.9"}, {"bathc_size": 1}):
        with pytest.raises(ValueError, match=r"NO_SUCH|GPU\.9|bathc_size"):
            _load(**options)
    with pytest.raises(ParameterError, match="formats"):
        _load(weight_format="int3")
    assert exporter.calls == 0


def test_folders_of_one_name_do_not_share_an_export(exporter: FakeExporter, tmp_path: Path) -> None:
    """The place of a folder is part of the export's name."""
    from local_pipelines.models.names import locate
    from local_pipelines.models.paths import model_path
    from local_pipelines.openvino.kept import cache_name

    names = set()
    for parent in ("a", "b"):
        copy = shutil.copytree(model_path("pocket"), tmp_path / parent / "my model")
        names.add(cache_name(locate(copy), "int8"))
    assert len(names) == 2
    assert cache_name(locate("openai-community/gpt2"), "int8") == "openai-community--gpt2-int8"
