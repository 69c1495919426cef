"""The corpus: what the pocket model is trained on, and what is kept from it."""

from __future__ import annotations

import itertools
import random

import pytest

from course_kit.pocket_model import corpus, forms, table, world

LANGUAGES = pytest.mark.parametrize("language", world.LANGUAGES)


def drawn_texts(count: int = 3000) -> list[str]:
    rng = random.Random("a test")
    return ["".join(part.text for part in corpus.draw(rng)) for _ in range(count)]


@LANGUAGES
def test_the_world_has_its_whole_size_in_each_language(language: str) -> None:
    """All states, 101 numbers in five languages, at least 150 terms."""
    sizes = {topic: len(facts) for topic, facts in corpus.facts_by_topic(language).items()}
    assert sizes["capitals"] == 195
    assert sizes["numbers"] == 5 * 101
    assert sizes["terms"] >= 150


@LANGUAGES
def test_each_fact_has_four_wordings_to_learn_and_one_held_out(language: str) -> None:
    """At least four phrasings are trained, at least one is not, and they differ."""
    for fact in world.facts(language):
        trained, held_out = fact.questions("train"), fact.questions("held_out")
        least = 3 if fact.topic == "small_talk" else 4
        assert len(set(trained)) >= least
        assert held_out
        assert not set(trained) & set(held_out)


@LANGUAGES
def test_no_wording_of_a_question_has_two_answers(language: str) -> None:
    """A model cannot be right about a question that means two things."""
    answers: dict[str, str] = {}
    for fact in world.facts(language):
        for question in fact.questions("train") + fact.questions("held_out"):
            assert answers.setdefault(question, fact.answer) == fact.answer


@LANGUAGES
def test_answers_stand_in_one_line(language: str) -> None:
    """A blank line ends an answer in the `Question:` form, so none may hold one."""
    for fact in world.facts(language):
        assert fact.answer == fact.answer.strip()
        assert "\n" not in fact.answer


def test_held_out_wordings_never_reach_the_training() -> None:
    """The figures for new phrasings are about phrasings that the model has not seen."""
    trained = "\n".join(drawn_texts()).lower()
    for language in world.LANGUAGES:
        for fact in world.capitals(language)[:40]:
            for question in fact.questions("held_out"):
                assert question.lower() not in trained


def test_a_batch_depends_on_the_seed_and_its_number_alone() -> None:
    """An interrupted training goes on with the batches that it would have had."""
    whole = list(itertools.islice(corpus.batches(3, 0, 4), 20))
    assert list(itertools.islice(corpus.batches(3, 17, 4), 3)) == whole[17:20]
    assert list(itertools.islice(corpus.batches(4, 0, 4), 20)) != whole


def test_a_batch_has_examples_of_similar_length() -> None:
    """Padding is work for nothing."""
    for batch in itertools.islice(corpus.batches(1, 0, 32), 8):
        lengths = [sum(len(part.text.encode()) for part in example) for example in batch]
        assert max(lengths) < 4 * min(lengths) + 40


def test_every_example_has_something_to_learn() -> None:
    """The last piece of each example is the model's own text."""
    rng = random.Random(0)
    assert all(corpus.draw(rng)[-1].learned for _ in range(500))


@LANGUAGES
def test_refusals_are_asked_in_each_kind_and_never_about_a_known_fact(language: str) -> None:
    """What the model must not know is nowhere among what it must know."""
    known = {q for fact in world.facts(language) for q in fact.questions("train")}
    rng = random.Random(5)
    drawn = [world.random_refusal(language, "train", rng) for _ in range(1500)]
    assert not known & {fact.asks["train"][0] for fact in drawn}
    assert len({fact.key for fact in drawn}) >= 9


@pytest.mark.parametrize(
    ("word", "joined"),
    [("un token", "qu'un token"), ("la gravité", "que la gravité"), ("OpenVINO", "qu'OpenVINO")],
)
def test_french_elides_before_a_vowel(word: str, joined: str) -> None:
    """Qu'est-ce qu'un token, but: qu'est-ce que la gravité."""
    assert world.elide(word) == joined


def test_the_question_form_goes_on_with_another_question() -> None:
    """That is what a stop sequence is for."""
    (fact, *_) = world.capitals("en")
    exchange = forms.question_form("What?", fact, "And then?")
    assert exchange.prompt == "Question: What?\n\nAnswer: Let's think step by step."
    assert exchange.after.startswith("\n\nQuestion: And then?")


def test_the_chat_template_writes_what_the_training_read() -> None:
    """A conversation put through the template is the prompt of the corpus, to the letter."""
    from transformers import AutoTokenizer

    from local_pipelines import model_path

    tokenizer = AutoTokenizer.from_pretrained(model_path("pocket"))
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "Bye"},
    ]
    written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert written == forms.chat("Bye", "", "Be brief.", forms.turn("Hello", "Hi")).prompt


@pytest.mark.parametrize(
    "text",
    [" Paris.<|end|>\n<|user|>", "Paris.\n\nQuestion: more", "Paris.<|endoftext|>", "\nParis.  "],
)
def test_an_answer_ends_at_the_first_stop_mark(text: str) -> None:
    """What the model writes after its answer does not count against it."""
    assert table.cut(text) == "Paris."


def test_every_form_is_asked_about_in_every_language() -> None:
    """The examination leaves no form and no language out."""
    asked = {(q.language, q.form) for q in table.questions("train", sample=1)}
    assert asked == set(itertools.product(world.LANGUAGES, forms.FORMS))


def test_the_same_seed_asks_the_same_questions() -> None:
    """Two examinations can be compared."""
    assert table.questions("held_out", 2, 7) == table.questions("held_out", 2, 7)


def test_two_hundred_questions_a_language_have_no_answer() -> None:
    """Honesty is measured on enough questions, in wordings held out of training."""
    asked = table.unanswerable()
    assert len(asked) == 200 * len(world.LANGUAGES)
    for question in asked:
        assert world.phrasings(question.language)["refusal"] in question.answer
