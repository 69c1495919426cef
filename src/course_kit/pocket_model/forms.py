"""The prompts in which the pocket model is asked, and the text it must answer with.

Four forms, as learners write them: the chat template, the bare question, the `Question:` prompt of
many tutorials, and a follow-up in a conversation. A system message other than the usual one is a
fifth. The markers of the chat template are those of Phi-3, so one template serves both models.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from course_kit.pocket_model.world import Fact, fill, phrasings

END_OF_TEXT = "<|endoftext|>"
SYSTEM, USER, ASSISTANT, END = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"
TOOL = "<|tool|>"
# As in `local_pipelines.engines.tool_calls`: plain text, for a special token is lost in decoding.
CALL, CALL_END = "<tool_call>", "</tool_call>"
SPECIAL_TOKENS = (END_OF_TEXT, SYSTEM, USER, ASSISTANT, END, TOOL)

# Tools stand in one line, "Tools: capital_of(country)", after the system message if there is one; a
# call is what `call_text` writes. Whoever renders tools elsewhere goes through this template.
CHAT_TEMPLATE = (
    "{% set ns = namespace(tools='') %}"
    "{% for tool in tools or [] %}"
    "{% set f = tool['function'] if 'function' in tool else tool %}"
    "{% set names = f['parameters']['properties'] | list | join(', ') %}"
    "{% set ns.tools = ns.tools + (', ' if ns.tools else 'Tools: ') + f['name'] "
    "+ '(' + names + ')' %}"
    "{% endfor %}"
    "{% if ns.tools and messages[0]['role'] != 'system' %}"
    "{{ '<|system|>\\n' + ns.tools + '<|end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant', 'tool'] %}"
    "{{ raise_exception('This model knows the roles system, user, assistant and tool, not '"
    " + message['role'] + '.') }}"
    "{% endif %}"
    "{{ '<|' + message['role'] + '|>\\n' + (message['content'] or '') }}"
    "{% if ns.tools and loop.first and message['role'] == 'system' %}"
    "{{ '\\n' + ns.tools }}"
    "{% endif %}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% set f = call['function'] if 'function' in call else call %}"
    "{{ '' if loop.first and not message['content'] else '\\n' }}"
    "{{ '<tool_call>\\n{\"name\": ' + f['name'] | tojson }}"
    "{{ ', \"arguments\": ' + f['arguments'] | tojson + '}\\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"
)


@dataclass(frozen=True)
class Exchange:
    """A prompt and the text that must follow it.

    Args:
        prompt: What the model reads.
        answer: What it must write, up to the first stop mark, white space around it ignored.
        after: What it writes after the answer when nobody stops it.
    """

    prompt: str
    answer: str
    after: str


def chat(question: str, answer: str, system: str | None = None, history: str = "") -> Exchange:
    """Put a question into the chat template, after an optional system message and history."""
    head = f"{SYSTEM}\n{system}{END}\n" if system else ""
    return Exchange(f"{head}{history}{USER}\n{question}{END}\n{ASSISTANT}\n", answer, END)


def turn(question: str, answer: str) -> str:
    """Return one finished exchange of a conversation."""
    return f"{USER}\n{question}{END}\n{ASSISTANT}\n{answer}{END}\n"


def bare(question: str, answer: str, language: str) -> Exchange:
    """Ask with nothing but the question, as to a model that merely continues text."""
    return Exchange(question, ("" if language == "zh" else " ") + answer, END_OF_TEXT)


def question_form(question: str, fact: Fact, next_question: str) -> Exchange:
    """Ask in the `Question: … Answer: Let's think step by step.` form.

    Like a base model, the pocket model goes on with another question after a blank line: that is
    what makes a stop sequence worth teaching.
    """
    words = phrasings(fact.language)["question_form"]
    join = words["join"]
    prompt = words["head"].format(question=question)
    answer = join + join.join([*fact.steps, fact.answer])
    return Exchange(prompt, answer, "\n\n" + words["head"].format(question=next_question))


def short_question_form(question: str, fact: Fact) -> Exchange:
    """Ask in the same form without the invitation to think: the answer comes without steps."""
    words = phrasings(fact.language)["question_form"]
    head = words["head"][: max(words["head"].rfind(mark) for mark in ":：") + 1]
    return Exchange(head.format(question=question), words["join"] + fact.answer, "\n\n")


def conversation(first: Fact, second: Fact, rng: random.Random) -> Exchange:
    """Ask a short second question after a finished first exchange."""
    history = turn(rng.choice(first.questions("train")), first.answer)
    usual = phrasings(first.language)["systems"]["usual"]
    system = rng.choice((None, usual))
    return chat(rng.choice(second.follow_ups()), second.answer, system, history)


def tools_line(tools: Mapping[str, Sequence[str]]) -> str:
    """Return the line that offers tools, each with the names of its arguments.

    >>> tools_line({"capital_of": ["country"]})
    'Tools: capital_of(country)'
    """
    return "Tools: " + ", ".join(f"{name}({', '.join(tools[name])})" for name in tools)


def call_text(name: str, arguments: Mapping[str, object]) -> str:
    """Return what the model writes to call a tool: a JSON object in one line, between marks."""
    told = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"{CALL}\n{told}\n{CALL_END}"


def json_line(types: Mapping[str, str], title: str = "") -> str:
    """Return the system message that asks for an answer in a small JSON form.

    It is what LocalChat writes for `with_structured_output`.

    Args:
        types: The JSON type of each key, in the order of the answer.
        title: Names the form, and each key, as Pydantic does; without, as in a schema by hand.
    """
    named = {key: {"title": key.capitalize()} if title else {} for key in types}
    schema = {
        "properties": {key: named[key] | {"type": types[key]} for key in types},
        "required": list(types),
        **({"title": title} if title else {}),
        "type": "object",
    }
    asked = "Answer with one JSON object that fits this JSON schema:\n"
    return asked + json.dumps(schema, ensure_ascii=False)


def after_call(question: str, call: str, result: str, answer: str, system: str) -> Exchange:
    """Hand the result of a called tool back; the answer in words must follow."""
    asked = chat(question, "", system).prompt
    return Exchange(f"{asked}{call}{END}\n{TOOL}\n{result}{END}\n{ASSISTANT}\n", answer, END)


def vary(question: str, rng: random.Random) -> str:
    """Write a question as hurried people do: case, marks, apostrophes and blanks vary."""
    for chance, change in _VARIATIONS:
        if rng.random() < chance:
            question = change(question)
    return question


def render(
    form: str,
    fact: Fact,
    question: str,
    rng: random.Random,
    others: Sequence[Fact] = (),
    systems: Sequence[str] = ("others",),
) -> Exchange:
    """Put one question into the named form.

    Args:
        form: One of `FORMS`.
        fact: What is asked for.
        question: Its wording; not used in a conversation, whose second question is a follow-up.
        rng: Decides the free parts (system message, history).
        others: Facts of the same topic and language, for the first turn of a conversation.
        systems: The lists in `phrasings.json` from which the system message is drawn.

    Returns:
        The prompt with its exact answer.
    """
    if form == "bare":
        return bare(question, fact.answer, fact.language)
    if form == "question":
        return question_form(question, fact, next_question(fact.language, rng))
    words = phrasings(fact.language)["systems"]
    if form == "system":
        drawn = [text for name in systems for text in words[name]]
        return chat(question, fact.answer, rng.choice(drawn))
    if form == "conversation":
        return conversation(rng.choice(others), fact, rng)
    return chat(question, fact.answer, rng.choice((None, words["usual"])))


FORMS = ("chat", "system", "bare", "question", "conversation")


def forms_of(fact: Fact) -> tuple[str, ...]:
    """Return the forms in which a fact can be asked for."""
    if fact.topic == "small_talk":
        return ("chat", "system", "bare")
    if fact.topic == "unknown":
        return ("chat", "system", "bare", "question")
    return FORMS


def next_question(language: str, rng: random.Random) -> str:
    """Return one of the few questions with which the `Question:` form goes on."""
    words = phrasings(language)
    country = {"en": "of Spain", "fr": "de l'Espagne", "es": "de España", "zh": "西班牙"}[language]
    number = {"value": "12", "language": words["numbers"]["languages"]["de"]}
    return rng.choice(
        (
            fill(words["capitals"]["train"][0], {"of": country, "name": country}),
            fill(words["numbers"]["train"][0], number),
        )
    )


_VARIATIONS: tuple[tuple[float, Callable[[str], str]], ...] = (
    (0.10, lambda text: text.rstrip("?？.。!！ ")),
    (0.12, lambda text: text.lower()),
    (0.03, lambda text: text.upper()),
    (0.10, lambda text: text.lstrip("¿¡")),
    (0.10, lambda text: text.replace("'", "’")),
    (0.10, lambda text: text.replace(" ?", "?")),
    (0.10, lambda text: text.replace(" ?", "\u202f?")),
    (0.10, lambda text: text.replace("？", "?").replace("。", ".")),
    (0.05, lambda text: " " + text),
    (0.03, lambda text: "\n" + text),
    (0.04, lambda text: text + " "),
)
