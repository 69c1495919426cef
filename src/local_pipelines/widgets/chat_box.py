"""The chat box: a conversation with a chain in a notebook, as a widget or as a transcript."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from html import escape
from typing import TYPE_CHECKING, Any

from local_pipelines.errors import failure
from local_pipelines.widgets import style
from local_pipelines.widgets.conversation import Conversation, Turn
from local_pipelines.wording.columns import columns, pad
from local_pipelines.wording.messages import tr
from local_pipelines.workbench import front_end

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage


def _who(kind: str) -> str:
    return tr("You") if kind == "you" else tr("Model")


class ChatBox:
    """A conversation with a chain, which shows itself as a chat box or as a transcript.

    Args:
        chain: Any Runnable, or a function.
        greeting: What the box says first; the chain does not see it.

    Attributes:
        example: A question to show in the empty field.
    """

    def __init__(self, chain: Any, *, greeting: str | None = None) -> None:
        self._conversation = Conversation(chain)
        self._greeting = greeting or ""
        self.example = ""
        self._view: _View | None = None
        self._record = front_end.Record()

    @property
    def remembers(self) -> bool:
        """Whether the chain is given the whole conversation, not the last question alone."""
        return self._conversation.remembers

    @property
    def messages(self) -> list[BaseMessage]:
        """What has been said and answered so far, as LangChain's messages."""
        return self._conversation.messages()

    @property
    def running(self) -> bool:
        """Whether an answer is on its way."""
        return self._conversation.running is not None

    def ask(self, question: str) -> str:
        """Ask from a cell, wait, and get the answer; the box shows it too.

        Raises:
            ParameterError: There is no question, or the last one is being answered.
            Exception: What the chain raises.
        """
        turn = self._conversation.begin(question)
        with _followed(turn, self._show):
            self._conversation.answer(turn)
        return turn.answer

    def send(self, question: str) -> None:
        """Ask without waiting, as the button does; errors are shown in the box.

        Raises:
            ParameterError: There is no question, or the last one is being answered.
        """
        turn = self._conversation.begin(question)

        def work() -> None:
            # Whatever goes wrong is in the turn, and shown.
            with _followed(turn, self._show), suppress(Exception):
                self._conversation.answer(turn)

        # LangChain keeps its settings in the context. A daemon: a kernel that is shut down does
        # not wait for an answer.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(work,), daemon=True, name="chat_box").start()

    def stop(self) -> None:
        """End the running answer; what is there is kept."""
        self._conversation.halt()
        if self._view:
            self._view.update()

    def clear(self) -> None:
        """Forget the conversation."""
        self._conversation.clear()
        if self._view:
            self._view.rebuild()
        self._record.update(self._table(), repr(self))

    def _show(self, turn: Turn) -> None:
        if self._view:
            self._view.show(turn)
        if turn.state != "running":
            self._record.update(self._table(), repr(self))

    def _said(self) -> list[tuple[str, str]]:
        you, model = _who("you"), _who("model")
        said = [(model, self._greeting)] if self._greeting else []
        for turn in self._conversation.turns:
            said += [(you, turn.question)]
            said += [(model, text) for text in (turn.answer.strip(), _remark(turn)) if text]
        return said

    def __repr__(self) -> str:
        rows = self._said()
        if not rows:
            return tr("chat box: ask(…) asks a question; in a browser it is a box to type in")
        heads = {who: tr("{who}:").format(who=who) for who in (_who("you"), _who("model"))}
        width = max(map(columns, heads.values())) + 1
        return "\n".join(
            pad(heads[who], width) + text.replace("\n", "\n" + " " * width) for who, text in rows
        )

    def _table(self) -> str:
        align = "text-align: start; vertical-align: top;"
        rows = "".join(
            f'<tr><th scope="row" style="{align}">{who}</th>'
            f'<td dir="auto" style="{align} white-space: pre-wrap;">{escape(text)}</td></tr>'
            for who, text in self._said()
        )
        return f"<table><tbody>{rows}</tbody></table>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if not front_end.widgets_work():
            table = {"text/html": self._table()} if self._said() else {}
            return {"text/plain": repr(self), **table}
        if self._view is None:
            self._view = _View(self, self._conversation, self._greeting, self._record.hiding)
        self._record.show(self._table(), repr(self))
        return style.show(self._view.widget, repr(self))


def _remark(turn: Turn) -> str:
    """What is to be said about an answer besides its text."""
    return {"failed": turn.error, "stopped": tr("(stopped)")}.get(turn.state, "")


@contextmanager
def _followed(turn: Turn, show: Callable[[Turn], None]) -> Iterator[None]:
    """Show an answer while it grows, from a thread of its own.

    Showing each token would flood the browser; showing one only when the next is there would leave
    the last one of a slow model unseen. So the answer is looked at a few times a second.
    """
    over = threading.Event()

    def follow() -> None:
        shown = ""
        # Each time the whole answer is sent: the longer it is, the more rarely.
        while not over.wait(0.05 + len(turn.answer) / 200_000):
            if turn.answer != shown:
                shown = turn.answer
                show(turn)

    thread = threading.Thread(target=follow, daemon=True)
    show(turn)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        show(turn)


class _View:
    """The widgets of one chat box."""

    def __init__(self, box: ChatBox, conversation: Conversation, greeting: str, rule: str) -> None:
        self._box, self._conversation, self._greeting = box, conversation, greeting
        self._lock = threading.RLock()
        hint = tr("Ask something, such as: {example}") if box.example else ""
        self._entry = _Entry(hint.format(example=box.example), self._send)
        self._turns = style.made("VBox", "lp-turns")
        log = style.made("Box", "lp-log", [self._turns], tabbable=True)
        self._status = style.made("HTML", "lp-status")
        self._send_button = _button(tr("Send"), tr("Send the question (Enter)"), self._entry.send)
        self._send_button.button_style = "primary"
        self._stop_button = _button(tr("Stop"), tr("Stop the answer"), box.stop, self._entry)
        self._clear_button = _button(
            tr("Clear"), tr("Forget the conversation"), box.clear, self._entry
        )
        buttons = (self._send_button, self._stop_button, self._clear_button)
        row = style.made("HBox", "lp-row", [self._entry.widget, *buttons])
        self.widget = style.styled("lp-chat", [log, self._status, row], rule)
        self._pages: dict[Turn, Any] = {}
        self.rebuild()

    def _send(self, question: str) -> None:
        with self._lock:
            if question.strip() and not self._box.running:
                self._entry.widget.value = ""
                self._box.send(question)

    def rebuild(self) -> None:
        """Show the whole conversation anew."""
        with self._lock:
            self._pages = {}
            greeting = [style.made("HTML", "lp-page", _bubble("model", self._greeting))]
            self._turns.children = greeting if self._greeting else []
            for turn in list(self._conversation.turns):
                self.show(turn)
            self.update()

    def show(self, turn: Turn) -> None:
        """Show a turn as it is now; one that has been cleared away is not shown."""
        with self._lock:
            if turn not in self._conversation.turns:
                return
            text = _page(turn, self._conversation.turns.index(turn) + 1)
            if turn in self._pages:
                self._pages[turn].value = text
            else:
                self._pages[turn] = style.made("HTML", "lp-page", text)
                self._turns.children = (*self._turns.children, self._pages[turn])
            self.update()

    def update(self) -> None:
        """Bring status line and buttons up to date."""
        with self._lock:
            turns = self._conversation.turns
            turn = self._conversation.running
            self._status.value = _status(turn or (turns[-1] if turns else None))
            was_running = self._send_button.disabled
            self._send_button.disabled = turn is not None
            stoppable = turn is not None and not turn.halt.is_set()
            self._stop_button.disabled = not stoppable
            self._stop_button.button_style = "warning" if stoppable else ""
            self._clear_button.disabled = not turns
            if turn is not None and not was_running:
                self._entry.widget.focus()  # a button that is switched off loses the focus


class _Entry:
    """The field for the question.

    Enter sends a message of its own, which overtakes the text: the browser sends the text when it
    has seen Enter, or when the field is left. So Enter is noted down and the text waited for.
    """

    _PATIENCE = 0.3  # seconds for the text to come, before what is there is taken
    _MEMORY = 2.0  # seconds in which a text that comes belongs to an Enter before

    def __init__(self, placeholder: str, send: Callable[[str], None]) -> None:
        self._send_text = send
        self._entered = float("-inf")
        self._lock = threading.RLock()
        self.widget = style.made("Text", "lp-entry", continuous_update=False)
        self.widget.description, self.widget.placeholder = tr("Your question"), placeholder
        self.widget.on_msg(self._on_message)
        self.widget.observe(self._on_text, names="value")

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("event") != "submit":
            return
        with self._lock:
            self._entered = time.monotonic()
            if self.widget.value:  # perhaps the text has not changed, and no new one will come
                timer = threading.Timer(self._PATIENCE, self._send_if_entered, [float("inf")])
                timer.daemon = True
                timer.start()

    def _on_text(self, _: Any) -> None:
        self._send_if_entered(self._MEMORY)

    def _send_if_entered(self, seconds: float) -> None:
        with self._lock:
            if time.monotonic() - self._entered < seconds:
                self.send()

    def send(self) -> None:
        """Hand on what the field holds."""
        with self._lock:
            self._entered = float("-inf")
            self._send_text(self.widget.value)


def _button(text: str, tooltip: str, act: Callable[[], None], focus: _Entry | None = None) -> Any:
    button = style.made("Button", "lp-button", description=text, tooltip=tooltip)
    button.on_click(lambda _: act())
    if focus:
        button.on_click(lambda _: focus.widget.focus())
    return button


def _bubble(kind: str, text: str, remark: str = "", remark_kind: str = "") -> str:
    who = escape(_who(kind))
    body = f'<div class="lp-text" dir="auto">{escape(text)}</div>' if text else ""
    note = f'<div class="lp-remark {remark_kind}">{escape(remark)}</div>' if remark else ""
    return f'<div class="lp-bubble lp-{kind}"><div class="lp-who">{who}</div>{body}{note}</div>'


def _page(turn: Turn, number: int) -> str:
    answer = ""
    if turn.answer or turn.state != "running":
        remark = _remark(turn) if turn.answer or turn.state != "done" else tr("(no text)")
        answer = _bubble("model", turn.answer.strip(), remark, f"lp-{turn.state}")
    label = escape(tr("Question {number} and its answer").format(number=number))
    return f'<div role="group" aria-label="{label}">{_bubble("you", turn.question)}{answer}</div>'


def _status(turn: Turn | None) -> str:
    """What the line below the conversation says; screen readers read the end of an answer."""
    if turn is None:
        return ""
    if turn.state == "running":
        text = escape(tr("Stopping …") if turn.halt.is_set() else tr("Answering …"))
        return f'<span role="status" class="lp-busy">{text}</span>'
    said = {
        "done": tr("The answer: {text}"),
        "stopped": tr("Stopped after: {text}"),
        "failed": tr("The answer failed: {text}"),
    }
    text = said[turn.state].format(text=turn.error if turn.state == "failed" else turn.answer)
    return f'<span role="alert" class="lp-unseen">{escape(text)}</span>'


def default_questions(*, remembers: bool) -> Sequence[str]:
    """Two questions that the embedded model can answer; the second leans on the first."""
    # Translators: as the embedded model has learnt to be asked, with plain blanks.
    second = tr("And of Japan?") if remembers else tr("What is the capital of Japan?")
    # Translators: as the embedded model has learnt to be asked, with plain blanks.
    return (tr("What is the capital of France?"), second)


def chat_box(
    chain: Any, *, greeting: str | None = None, recorded: Sequence[str] | None = None
) -> ChatBox:
    """Chat with a chain: type, watch the answer grow, stop it, ask again.

    A chain that takes messages, such as a chat model or a prompt with a `MessagesPlaceholder`,
    gets the whole conversation; one that takes a text gets the question alone.

    Without a browser, as under papermill, the questions of `recorded` are really asked, and the
    object shows the exchange.

    Args:
        chain: Any Runnable that gives text or messages, or a function.
        greeting: What the box says first; the chain does not see it.
        recorded: The questions to ask without a browser; two that suit the embedded model if not
            given, none if empty.

    Returns:
        The box. `ask(…)` asks from a cell, `messages` is the conversation so far.

    Raises:
        ParameterError: `chain` is none, or wants more than a conversation can give it.
        Exception: What the chain raises, without a browser only; in a browser the box shows it.
    """
    if isinstance(recorded, str):
        raise failure("recorded-is-text", recorded=recorded)
    box = ChatBox(chain, greeting=greeting)
    questions = default_questions(remembers=box.remembers) if recorded is None else recorded
    box.example = next(iter(questions), "")
    if not front_end.widgets_work():
        for question in questions:
            box.ask(question)
    return box
