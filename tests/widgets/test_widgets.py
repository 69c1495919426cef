"""Pickers and chat box: plain values and texts without a browser, buttons that work in one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from langchain_core.language_models import BaseChatModel, FakeListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.runnables import RunnableGenerator, RunnableLambda, RunnablePassthrough
from nbclient import NotebookClient
from nbformat import v4

from course_kit.notebooks.kernels import clean_environment, kernel_manager
from local_pipelines import check_parameters
from local_pipelines.errors import DeviceError, ModelError, ParameterError
from local_pipelines.models import catalogue, fit, paths
from local_pipelines.widgets.chat_box import ChatBox, chat_box
from local_pipelines.widgets.pickers import device_picker, model_picker
from local_pipelines.workbench import devices
from local_pipelines.workbench.devices import Device

VIEW = "application/vnd.jupyter.widget-view+json"
GB = 10**9


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decide as on a machine where nobody has set anything."""
    monkeypatch.delenv("LOCAL_PIPELINES_WIDGETS", raising=False)


@pytest.fixture
def in_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have widgets made, though no browser is there to show them."""
    monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", "1")


def shown(thing: Any) -> dict[str, Any]:
    """What IPython would send to the front end."""
    bundle: dict[str, Any] = thing._repr_mimebundle_(include=None, exclude=None)
    return bundle


def wait_until(is_so: Callable[[], object]) -> None:
    """Wait for another thread."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.005)


# --- is there a browser? ----------------------------------------------------------------------


def picker_in(monkeypatch: pytest.MonkeyPatch, content: dict[str, Any] | None) -> dict[str, Any]:
    """Show a chat box in a kernel that was sent this; None: without a kernel."""
    import IPython

    kernel = SimpleNamespace(get_parent=lambda: {"content": content})
    shell = SimpleNamespace() if content is None else SimpleNamespace(kernel=kernel)
    with monkeypatch.context() as patch:
        patch.setattr(IPython, "get_ipython", lambda: shell)
        return shown(chat_box(FakeListLLM(responses=["yes"]), recorded=[]))


def test_a_front_end_that_can_ask_a_person_gets_a_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to run a cell says whether input is possible; a widget's message does not."""
    assert VIEW in picker_in(monkeypatch, {"allow_stdin": True})
    assert VIEW in picker_in(monkeypatch, {"comm_id": "7"})
    assert VIEW not in picker_in(monkeypatch, {"allow_stdin": False})
    assert VIEW not in picker_in(monkeypatch, None)


def test_the_variable_wins_over_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """LOCAL_PIPELINES_WIDGETS switches widgets on and off; an empty or odd value does neither."""
    for setting, has_view in {"1": True, "on": True, "0": False, "No": False}.items():
        monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", setting)
        for content in ({"allow_stdin": True}, {"allow_stdin": False}, None):
            assert (VIEW in picker_in(monkeypatch, content)) is has_view
    for setting in ("", "perhaps"):
        monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", setting)
        assert VIEW in picker_in(monkeypatch, {"allow_stdin": True})
        assert VIEW not in picker_in(monkeypatch, None)


def test_a_widget_brings_a_text_for_those_who_cannot_see_it(in_browser: None) -> None:
    """Where a stored notebook is read without widgets, a line stands in its place."""
    for thing in (device_picker(), chat_box(FakeListLLM(responses=["yes"]))):
        bundle = shown(thing)
        assert set(bundle) == {VIEW, "text/plain"}
        assert bundle["text/plain"] == repr(thing)
        assert shown(thing)[VIEW] == bundle[VIEW], "shown twice, it is the same widget"


def test_a_notebook_run_without_a_browser_stores_no_widget(tmp_path: Path) -> None:
    """What nbclient runs, and so papermill, nbconvert and nbval, has text and no widget state."""
    source = """
        from langchain_core.language_models import BaseChatModel, FakeListLLM
        from local_pipelines.widgets.chat_box import chat_box
        box = chat_box(FakeListLLM(responses=["Paris.", "Tokyo."]))
        box
    """
    cells = [v4.new_code_cell("\n".join(map(str.strip, source.strip().splitlines())))]
    notebook = v4.new_notebook(cells=cells)
    environment = clean_environment(tmp_path)
    environment.pop("LOCAL_PIPELINES_WIDGETS", None)
    NotebookClient(notebook, kernel_manager_class=kernel_manager(environment)).execute()
    (output,) = notebook.cells[0].outputs
    assert set(output.data) == {"text/plain", "text/html"}
    assert "widgets" not in notebook.metadata
    assert output.data["text/plain"].splitlines()[1] == "Model: Paris."
    nbformat.validate(notebook)


def test_the_course_runs_its_notebooks_without_widgets(tmp_path: Path) -> None:
    """Stored outputs do not depend on what is found: the variable is set for them."""
    assert clean_environment(tmp_path)["LOCAL_PIPELINES_WIDGETS"] == "0"


def test_the_module_imports_nothing_heavy(run_python: Callable[..., str]) -> None:
    """Widgets, LangChain and torch are imported when they are needed."""
    loaded = set(
        run_python("import local_pipelines.widgets.pickers, sys; print(*sys.modules)").split()
    )
    assert not loaded & {"torch", "ipywidgets", "IPython", "langchain_core", "huggingface_hub"}


# --- pickers ----------------------------------------------------------------------------------


def device(name: str, index: int, **parts: Any) -> Device:
    return Device(index=index, name=name, dtype="bfloat16", reason="It is a stand-in.", **parts)


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Be on a machine with these devices, the best first."""

    def have_(*found: Device) -> None:
        def select(prefer: str | int = "auto") -> Device:
            for each in found:
                family = each.name.split(":")[0]
                if str(prefer) in {"auto", each.name, family, str(each.index)}:
                    # As the real one, which says why it was this one
                    return replace(each, reason=f"{prefer} was asked for.")
            raise DeviceError(f"There is no {prefer}.", "The driver is too old.", "Write -1.")

        monkeypatch.setattr(devices, "available_devices", lambda: list(found))
        monkeypatch.setattr(
            "local_pipelines.widgets.pickers.available_devices", lambda: list(found)
        )
        monkeypatch.setattr(devices, "select_device", select)
        monkeypatch.setattr("local_pipelines.widgets.pickers.select_device", select)
        monkeypatch.setattr("local_pipelines.lessons.parameters.select_device", select)

    return have_


CPU = device("cpu", -1, memory_total=16 * GB, memory_free=10 * GB)


def radio_of(picker: Any) -> Any:
    """The widget's radio buttons."""
    shown(picker)
    return picker._radio


def test_every_device_here_can_be_chosen_and_others_say_why_not(
    have: Callable[..., None], in_browser: None
) -> None:
    """What is here is a choice with a plain value; what is not is listed with the reason."""
    have(device("cuda:0", 0, hardware="NVIDIA H200"), device("cuda:1", 1), CPU)
    picker = device_picker()
    assert [value for _, value in radio_of(picker).options] == ["auto", 0, 1, -1]
    assert "NVIDIA H200" in radio_of(picker).options[1][0]
    html = "".join(picker._closed_rows())
    assert html.count("disabled") == 2
    assert "mps — Apple GPU" in html
    assert "torch finds none" in html
    have(CPU)
    assert "The driver is too old" in "".join(device_picker()._closed_rows())


def test_a_click_changes_the_value_and_the_value_the_click(
    have: Callable[..., None], in_browser: None
) -> None:
    """Browser and cells see the same choice, and it is always a parameter that can be used."""
    have(device("cuda:0", 0), CPU)
    picker = device_picker()
    radio = radio_of(picker)
    for _, value in radio.options:
        radio.value = value
        assert picker.value == value
        check_parameters(DEVICE=picker.value)
        assert f"DEVICE = {value}".replace("auto", '"auto"') in str(picker._widget.children[-1])
    picker.value = 0
    assert radio.value == 0


@pytest.mark.parametrize(
    ("asked", "value"), [("auto", "auto"), ("cpu", -1), (-1, -1), ("-1", -1), ("cuda", 0), (0, 0)]
)
def test_a_device_asked_for_is_chosen_at_first(
    have: Callable[..., None], asked: str | int, value: str | int
) -> None:
    """A DEVICE of papermill goes in as it is and comes out as the plain value."""
    have(device("cuda:0", 0), CPU)
    assert device_picker(asked).value == value


def test_a_device_whose_number_means_another_one_goes_by_its_name(
    have: Callable[..., None], in_browser: None
) -> None:
    """With an NVIDIA and an Intel GPU, 0 is the first one only."""
    have(device("cuda:0", 0), device("xpu:0", 0), CPU)
    assert [value for _, value in radio_of(device_picker()).options] == ["auto", 0, "xpu:0", -1]


def test_a_device_that_is_not_here_is_refused(have: Callable[..., None]) -> None:
    """A wrong parameter fails in the cell of the picker, as it does everywhere else."""
    have(CPU)
    with pytest.raises(DeviceError):
        device_picker(7)
    picker = device_picker()
    for wrong in ("cuda", 3, True, None):
        with pytest.raises(ParameterError, match="Choose one of 'auto', -1"):
            picker.value = wrong
    assert picker.value == "auto"


def test_without_a_browser_a_picker_is_one_line() -> None:
    """On this very machine, a picker prints what is chosen and why, and nothing more."""
    for picker, start in ((device_picker(), "device: "), (model_picker(), "model: pocket (")):
        bundle = shown(picker)
        assert set(bundle) == {"text/plain"}
        assert bundle["text/plain"] == str(picker)
        assert str(picker).startswith(start)
        assert "\n" not in str(picker)
    check_parameters(DEVICE=device_picker().value, MODEL_ID=model_picker().value)


def test_the_pickers_work_on_this_very_machine(in_browser: None) -> None:
    """With the real torch, too, the value asked for is one of the choices."""
    for value in ("auto", "cpu", -1):
        picker = device_picker(value)
        assert radio_of(picker).value == picker.value == ("auto" if value == "auto" else -1)
    assert radio_of(model_picker()).value == "pocket"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let downloads be allowed, and any question to the Hub fail the test."""
    from huggingface_hub import constants

    def ask(model_id: str) -> Any:
        pytest.fail(f"The Hub was asked about {model_id}.")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(fit, "ask_hub", ask)
    monkeypatch.setattr(paths, "ask_hub", ask)
    monkeypatch.setattr(fit, "download_space", lambda: 500 * GB)


def rows(picker: Any) -> tuple[dict[str, str], dict[str, str]]:
    """The texts of what can be chosen and of what cannot."""
    return tuple({each.value: str(each) for each in group}  # type: ignore[return-value]
                 for group in (picker._open, picker._closed))  # fmt: skip


def test_the_models_say_what_they_cost_and_whether_they_fit(
    have: Callable[..., None], online: None
) -> None:
    """Size, chat, gate, download and fit of each model of the catalogue are told, offline."""
    have(CPU)
    can, cannot = rows(model_picker())
    assert "already here · fits" in can["pocket"]
    assert "548 MB · continues a text · to download · fits" in can["openai-community/gpt2"]
    assert "7.6 GB · chats · to download · fits tightly" in can["microsoft/Phi-3-mini-4k-instruct"]
    assert "run login()" in cannot["google/gemma-3-1b-it"]
    assert len(can) + len(cannot) == len(catalogue.catalogue())


def test_a_model_too_large_for_memory_or_disk_is_closed(
    have: Callable[..., None], online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit cannot be chosen, and the figures say why."""
    have(device("cpu", -1, memory_total=4 * GB, memory_free=3 * GB))
    phi = "microsoft/Phi-3-mini-4k-instruct"
    assert "does not fit: needs" in rows(model_picker())[1][phi]
    have(device("cpu", -1, memory_total=40 * GB, memory_free=30 * GB))
    monkeypatch.setattr(fit, "download_space", lambda: GB)
    assert "on the disk: 1.0 GB are free" in rows(model_picker())[1][phi]


def test_gated_models_open_with_a_token(
    have: Callable[..., None], online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a token a gated model can be chosen; with a broken one its fault is told."""
    have(CPU)
    monkeypatch.setenv("HF_TOKEN", "hf_practice_not_a_real_token")
    assert "gated" in rows(model_picker())[0]["google/gemma-3-1b-it"]
    monkeypatch.setenv("HF_TOKEN", "not a token")
    cannot = rows(model_picker())[1]["google/gemma-3-1b-it"]
    assert "token" in cannot
    assert "not a token" not in cannot


def test_offline_only_what_is_here_can_be_chosen(have: Callable[..., None]) -> None:
    """Where downloads are forbidden, models that are not here are greyed with that reason."""
    have(CPU)
    can, cannot = rows(model_picker())
    assert list(can) == ["pocket"]
    assert all("HF_HUB_OFFLINE forbids it" in text for text in cannot.values())


def test_a_model_asked_for_is_chosen_whatever_speaks_against_it(
    have: Callable[..., None], tmp_path: Path
) -> None:
    """A MODEL_ID of papermill stays: an old name, a stranger of the Hub, one that is not here."""
    have(CPU)
    picker = model_picker("gpt2")
    assert picker.value == "openai-community/gpt2"
    assert "HF_HUB_OFFLINE" in str(picker)
    picker = model_picker("someone/something")
    assert picker.value == "someone/something"
    assert "not downloaded yet" in str(picker)
    with pytest.raises(ModelError):
        model_picker(str(tmp_path))
    with pytest.raises(ModelError):
        model_picker(7)  # type: ignore[arg-type]


def test_a_folder_with_a_model_can_be_chosen(have: Callable[..., None]) -> None:
    """A folder is a choice like any other, with its own figures."""
    have(CPU)
    picker = model_picker(paths.model_path("pocket"))
    assert picker.value == paths.model_path("pocket")
    assert "already here, fits" in str(picker)


# --- what a chain is given --------------------------------------------------------------------


class Recorder(GenericFakeChatModel):
    """A chat model that notes what it is sent."""

    seen: list[list[BaseMessage]] = []  # noqa: RUF012 - pydantic copies it

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.seen.append(messages)
        return super()._generate(messages, *args, **kwargs)


def recorder(*answers: str) -> Recorder:
    return Recorder(messages=iter([AIMessage(answer) for answer in answers]))


def texts(messages: list[BaseMessage]) -> list[tuple[str, str]]:
    return [(message.type, str(message.content)) for message in messages]


def test_a_chat_model_gets_the_whole_conversation() -> None:
    """The second question comes with the first one and its answer, as messages."""
    model = recorder("Paris.", "Tokyo.")
    box = chat_box(model, recorded=["Capital of France?", "And of Japan?"])
    assert texts(model.seen[0]) == [("human", "Capital of France?")]
    assert texts(model.seen[1]) == [
        ("human", "Capital of France?"),
        ("ai", "Paris."),
        ("human", "And of Japan?"),
    ]
    assert texts(box.messages) == [*texts(model.seen[1]), ("ai", "Tokyo.")]


def test_a_prompt_with_a_place_for_messages_gets_them() -> None:
    """A chain is given what its prompt asks for, also when it is wrapped."""
    model = recorder("a", "b", "c", "d")
    parts = [("system", "S"), MessagesPlaceholder("history"), ("human", "Q: {question}")]
    chain = (ChatPromptTemplate.from_messages(parts) | model | StrOutputParser()).with_retry()
    chat_box(chain, recorded=["1", "2"])
    assert texts(model.seen[1])[1:] == [("human", "1"), ("ai", "a"), ("human", "Q: 2")]
    only = ChatPromptTemplate.from_messages([("placeholder", "{messages}")]) | model
    chat_box(only.with_fallbacks([only]), recorded=["3", "4"])
    assert texts(model.seen[3]) == [("human", "3"), ("ai", "c"), ("human", "4")]


def test_a_chain_for_a_text_gets_the_last_question_alone() -> None:
    """A prompt with one variable, a plain model, a dict of steps and a function get a text."""
    seen: list[Any] = []

    def note(value: Any) -> Any:
        seen.append(value.to_string() if hasattr(value, "to_string") else value)
        return "yes"

    prompt = PromptTemplate.from_template("Q: {q}")
    for chain in (
        prompt | note,
        {"q": RunnablePassthrough()} | prompt | RunnableLambda(note),
        note,
    ):
        chat_box(chain, recorded=["1", "2"])
    assert seen == ["Q: 1", "Q: 2", "Q: 1", "Q: 2", "1", "2"]
    assert not chat_box(FakeListLLM(responses=["yes"]), recorded=[]).remembers


def test_a_function_that_says_so_gets_messages() -> None:
    """An annotation is believed."""

    def count(messages: list[BaseMessage]) -> str:
        return f"{len(messages)} messages"

    box = chat_box(count, recorded=["1", "2"])
    assert box.messages[-1].content == "3 messages"


@pytest.mark.parametrize("chain", [None, 7, "pocket", PromptTemplate.from_template("{a} {b}"),
                                   PromptTemplate.from_template("nothing")])  # fmt: skip
def test_what_cannot_be_chatted_with_is_refused_at_once(chain: Any) -> None:
    """A value that is no chain, or a prompt with variables nobody fills in, is one clear error."""
    with pytest.raises(ParameterError):
        chat_box(chain)


def test_recorded_questions_are_a_list() -> None:
    """A single text would be asked letter by letter."""
    with pytest.raises(ParameterError, match="Write a list"):
        chat_box(FakeListLLM(responses=["a"]), recorded="Why?")


# --- without a browser ------------------------------------------------------------------------


def test_the_recorded_exchange_is_shown_as_a_table() -> None:
    """Questions and answers are rows, and what the model writes is text, never markup."""
    evil = "<script>alert(1)</script>\nline 2 & مرحبا 🙂"
    box = chat_box(FakeListChatModel(responses=[evil]), greeting="Hi!", recorded=["<b>?"])
    html = shown(box)["text/html"]
    assert html.count("<tr>") == 3
    assert "<script" not in html
    assert "<b>" not in html
    assert "&lt;script&gt;" in html
    assert repr(box).splitlines() == [
        "Model: Hi!",
        "You:   <b>?",
        "Model: <script>alert(1)</script>",
        "       line 2 & مرحبا 🙂",
    ]


def test_the_default_questions_suit_the_pocket_model() -> None:
    """Without a list of questions, two are asked; a chain without memory gets whole questions."""
    with_memory = chat_box(FakeListChatModel(responses=["yes"]))
    without = chat_box(FakeListLLM(responses=["yes"]))
    assert "And of Japan?" in repr(with_memory)
    assert "What is the capital of Japan?" in repr(without)
    assert [len(box.messages) for box in (with_memory, without)] == [4, 4]


def test_nothing_is_asked_in_a_browser_or_when_nothing_is_to_be(
    in_browser: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a browser the person asks; an empty list asks nothing."""
    model = recorder("a")
    chat_box(model)
    monkeypatch.setenv("LOCAL_PIPELINES_WIDGETS", "0")
    box = chat_box(model, recorded=[])
    assert model.seen == []
    assert shown(box) == {"text/plain": repr(box)}


def test_an_error_fails_the_cell_where_nobody_watches() -> None:
    """A broken chain must not pass a run under papermill; the box tells it too."""
    with pytest.raises(KeyError, match="broken"):
        chat_box(RunnableLambda(fail))
    box = chat_box(RunnableLambda(fail), recorded=[])
    with pytest.raises(KeyError):
        box.ask("Why?")
    assert "KeyError: 'broken'" in repr(box)
    assert box.messages == []


def fail(_: Any) -> str:
    raise KeyError("broken")


@pytest.mark.parametrize("question", ["", "  \n", None, 3, b"why"])
def test_no_question_is_refused(question: Any) -> None:
    """What is no text is not sent to a model."""
    with pytest.raises(ParameterError):
        chat_box(FakeListLLM(responses=["a"]), recorded=[]).ask(question)


def test_half_a_character_breaks_nothing() -> None:
    """A lone surrogate, which cannot be sent to a browser, becomes a question mark."""
    box = chat_box(RunnableLambda(lambda _: "a\ud83d"), recorded=["b\udc00"])
    assert repr(box) == "You:   b?\nModel: a?"


def test_ctrl_c_ends_the_answer_and_keeps_it() -> None:
    """Interrupting a cell that asks closes the stream, and the box can be used on."""
    closed: list[bool] = []

    def speak(questions: Iterator[str]) -> Iterator[str]:
        try:
            yield "half an "
            raise KeyboardInterrupt
        finally:
            closed.append(True)

    box = chat_box(RunnableGenerator(speak), recorded=[])
    with pytest.raises(KeyboardInterrupt):
        box.ask("Why?")
    assert closed == [True]
    assert not box.running
    assert texts(box.messages) == [("human", "Why?"), ("ai", "half an ")]


# --- in a browser -----------------------------------------------------------------------------


class Speaker(BaseChatModel):
    """A chat model that says what it is told to, when it is told to."""

    desk: Any

    @property
    def _llm_type(self) -> str:
        return "speaker"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    def _stream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for word in self.desk.speak(messages):
            yield ChatGenerationChunk(message=AIMessageChunk(word))


class Desk:
    """A chat box with its widgets, on a chain that speaks when it is told to.

    Attributes:
        closed: How often an answer ended, by itself or before.
        words: What the chain says next; None ends the answer, an exception fails it.
        seen: What the chain was sent.
    """

    def __init__(self) -> None:
        self.closed = 0
        self.words: SimpleQueue[str | Exception | None] = SimpleQueue()
        self.seen: list[Any] = []
        self.box = chat_box(self.chain())
        shown(self.box)
        self.widget = self.box._view.widget

    def chain(self) -> Any:
        """A chain of several steps, as in the lessons."""
        return (Speaker(desk=self) | StrOutputParser()).with_retry()

    def speak(self, asked: Any) -> Iterator[str]:
        self.seen.append(asked)
        try:
            while (word := self.words.get(timeout=30)) is not None:
                if isinstance(word, Exception):
                    raise word
                yield word
        finally:
            self.closed += 1

    def say(self, *words: str | Exception | None) -> None:
        for word in words:
            self.words.put(word)

    def button(self, text: str) -> Any:
        return next(each for each in widgets_in(self.widget) if _text_of(each) == text)

    @property
    def entry(self) -> Any:
        return self.button("Your question")

    @property
    def html(self) -> str:
        return "".join(str(getattr(each, "value", "")) for each in widgets_in(self.widget))

    def type(self, text: str) -> None:
        """Do as the browser does: it sends the key first, and the text after it."""
        self.press_enter()
        self.entry.value = text

    def press_enter(self) -> None:
        self.entry._handle_custom_msg({"event": "submit"}, [])


def _text_of(widget: Any) -> str:
    return str(getattr(widget, "description", ""))


def widgets_in(widget: Any) -> Iterator[Any]:
    yield widget
    for child in getattr(widget, "children", ()):
        yield from widgets_in(child)


class GeneratorDesk(Desk):
    """The same with a chain that is one function and has no model."""

    def chain(self) -> Any:
        def speak(questions: Iterator[Any]) -> Iterator[str]:
            yield from self.speak(list(questions))

        return RunnableGenerator(speak)


@pytest.fixture(params=[Desk, GeneratorDesk])
def desk(request: pytest.FixtureRequest, in_browser: None) -> Iterator[Desk]:
    desk = request.param()
    yield desk
    desk.say(None, None)
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "chat_box"])


def test_enter_sends_the_question_and_the_answer_grows(desk: Desk) -> None:
    """The field is emptied, the text appears piece by piece, and the kernel stays free."""
    desk.type("Why?")
    assert desk.entry.value == ""
    assert desk.box.running
    desk.say("Because", " it")
    wait_until(lambda: "Because it" in desk.html)
    assert desk.button("Send").disabled
    assert not desk.button("Stop").disabled
    desk.say(" is.", None)
    wait_until(lambda: not desk.button("Send").disabled)
    assert texts(desk.box.messages) == [("human", "Why?"), ("ai", "Because it is.")]
    assert desk.button("Stop").disabled


def test_leaving_the_field_sends_nothing(desk: Desk) -> None:
    """The text alone, which the browser sends when somebody clicks elsewhere, is a draft."""
    desk.entry.value = "a draft"
    time.sleep(0.4)
    assert not desk.seen
    assert desk.entry.value == "a draft"
    desk.press_enter()  # nothing was typed since: no text will follow
    wait_until(lambda: desk.seen)
    assert desk.entry.value == ""


def test_the_button_sends_too_and_an_empty_field_does_not(desk: Desk) -> None:
    """Send takes what the field holds; blanks are no question."""
    for text in ("", "   "):
        desk.entry.value = text
        desk.button("Send").click()
        desk.press_enter()
    time.sleep(0.4)
    assert not desk.seen
    desk.entry.value = "Why?"
    desk.button("Send").click()
    wait_until(lambda: desk.seen)


def test_stop_closes_the_stream(desk: Desk) -> None:
    """Stop ends the model's work at its next piece, keeps the answer and remembers it."""
    desk.type("Why?")
    desk.say("Because")
    wait_until(lambda: "Because" in desk.html)
    desk.button("Stop").click()
    assert "Stopping" in desk.html
    desk.say(" of", " this", " and", " that")
    wait_until(lambda: desk.closed)
    wait_until(lambda: not desk.box.running)
    assert desk.words.qsize() == 3, "the chain was asked for more after the stop"
    wait_until(lambda: "(stopped)" in desk.html)
    assert " of" not in desk.box.messages[-1].content
    assert not desk.button("Send").disabled


def test_clear_forgets_and_frees_the_box_at_once(desk: Desk) -> None:
    """Clear ends an answer, too, even one whose first word never comes."""
    desk.type("Why?")
    wait_until(lambda: desk.seen)
    desk.button("Clear").click()
    assert not desk.box.running
    assert desk.box.messages == []
    assert "Why?" not in desk.html
    desk.say("late")
    wait_until(lambda: desk.closed)
    assert "late" not in desk.html
    desk.type("And now?")
    desk.say("Now.", None)
    wait_until(lambda: "Now." in desk.html)
    assert len(desk.box.messages) == 2


def test_an_error_is_a_sentence_in_the_box(desk: Desk) -> None:
    """Our own errors show their sentences, others their first line; both leave the box usable."""
    ours = ParameterError("The prompt is too long.", next_step="Press Clear <now>.")
    for error, said in (
        (ours, "The prompt is too long. Press Clear &lt;now&gt;."),
        (RuntimeError("out of <memory>\nTraceback …"), "RuntimeError: out of &lt;memory&gt;"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ):
        desk.type("Why?")
        desk.say("Be", error)
        wait_until(lambda said=said: said in desk.html)
        wait_until(lambda: not desk.box.running)
        assert "Traceback" not in desk.html
    assert desk.box.messages == [], "a failed answer is not passed on"


def test_what_the_model_says_is_never_markup(desk: Desk) -> None:
    """Tags of question and answer are shown, not obeyed."""
    desk.type("<img src=x onerror=alert(1)>")
    desk.say("</div><script>", "alert(1)</script>", None)
    wait_until(lambda: "&lt;/div&gt;&lt;script&gt;" in desk.html)
    assert "<img" not in desk.html
    assert "<script" not in desk.html


def test_a_question_waits_until_the_answer_is_there(desk: Desk) -> None:
    """Enter during an answer keeps the draft; asking from a cell is one clear error."""
    desk.type("Why?")
    desk.type("And then?")
    assert desk.entry.value == "And then?"
    with pytest.raises(ParameterError, match="still being answered"):
        desk.box.ask("And then?")
    desk.say(None)
    wait_until(lambda: not desk.box.running)
    assert len(desk.seen) == 1


def test_asking_from_a_cell_shows_in_the_box(desk: Desk) -> None:
    """`ask` returns the answer, and who looks at the box sees it as well."""
    desk.say("Because.", None)
    assert desk.box.ask("Why?") == "Because."
    assert "Because." in desk.html


def test_a_notebook_keeps_what_was_said(in_browser: None, tmp_path: Path) -> None:
    """Opened again, it shows the exchange where the widget has gone, and only there."""
    code = (
        "import os; os.environ['LOCAL_PIPELINES_WIDGETS'] = '1'\n"
        "from local_pipelines.widgets.chat_box import chat_box\n"
        "box = chat_box(lambda text: text.upper() + '<b>', greeting='Hello')\nbox"
    )
    cells = [v4.new_code_cell(source) for source in (code, "box.ask('one'); box.ask('two')")]
    nb = v4.new_notebook(cells=cells)
    manager = kernel_manager(clean_environment(tmp_path))
    NotebookClient(nb, kernel_manager_class=manager, store_widget_state=False).execute()
    record, widget = nb.cells[0].outputs
    assert VIEW in widget.data
    text = record.data["text/html"]
    assert all(said in text for said in ("Hello", "one", "ONE&lt;b&gt;", "TWO&lt;b&gt;"))
    assert VIEW not in record.data
    assert nb.cells[1].outputs[0].data["text/plain"] == "'TWO<b>'"


def test_the_widget_hides_the_record_while_it_lives(in_browser: None) -> None:
    """By a rule in its own style, so that the record shows when the widget does not."""
    box = chat_box(lambda text: text)
    shown(box)
    assert box._view is not None
    style = box._view.widget.children[0].value
    name = box._record._class
    assert f".{name} {{ display: none; }}" in style
    assert f'class="{name}"' in box._record._bundle("", "")["text/html"]


def test_everything_has_a_name_for_screen_readers(desk: Desk) -> None:
    """The field and the buttons are labelled, the log can be reached by keyboard."""
    assert desk.entry.description
    for name in ("Send", "Stop", "Clear"):
        assert desk.button(name).tooltip
    desk.say("Because.", None)
    desk.box.ask("Why?")
    assert 'role="alert"' in desk.html
    assert "Question 1 and its answer" in desk.html
    assert any(getattr(each, "tabbable", None) for each in widgets_in(desk.widget))


def test_a_kernel_with_a_running_answer_can_be_shut_down(tmp_path: Path) -> None:
    """A chain that hangs does not keep the process alive."""
    code = (
        "import time; from local_pipelines.widgets.chat_box import chat_box\n"
        "chat_box(lambda _: time.sleep(600), recorded=[]).send('Why?')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0


def test_the_box_can_be_made_for_any_message() -> None:
    """Its conversation is made of LangChain's own messages, ready for another chain."""
    box = ChatBox(FakeListChatModel(responses=["Paris."]))
    box.ask("Capital of France?")
    assert box.messages == [HumanMessage("Capital of France?"), AIMessage("Paris.")]
