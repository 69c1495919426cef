"""The package speaks the learner's language, and no sentence of it misses the catalogues."""

from __future__ import annotations

import ast
import pickle
import re
import shutil
import string
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from course_kit.pocket_model import world
from course_kit.translate import messages
from local_pipelines import catalogue, explain, measure_in_turn, setup_environment
from local_pipelines.engines.stopping import checked_stop
from local_pipelines.errors import LocalPipelinesError, ParameterError
from local_pipelines.widgets.chat_box import ChatBox, default_questions
from local_pipelines.widgets.pickers import Choice, Picker
from local_pipelines.wording import messages as messages_module
from local_pipelines.wording.columns import align, columns, fold
from local_pipelines.wording.grammar import listed
from local_pipelines.wording.messages import CHOICE, find_language, language, ntr, tr

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "local_pipelines"
LANGUAGES = ("es", "fr", "zh_CN")
each_language = pytest.mark.parametrize("name", LANGUAGES)
LOCALE_VARIABLES = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")
needs_gettext = pytest.mark.skipif(
    shutil.which("msgmerge") is None, reason="GNU gettext is not installed"
)


@pytest.fixture
def no_locale(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that says nothing about languages."""
    for name in (CHOICE, *LOCALE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def speak(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Choose a language for what follows in the test."""
    return lambda name: monkeypatch.setenv(CHOICE, name)


# ---------------------------------------------------------------------------- which language


@pytest.mark.parametrize(
    ("tag", "found"),
    [
        *[(tag, "fr") for tag in ("fr", "fr_FR", "fr-FR", "FR", "fr_CA.UTF-8", "fr_BE@euro")],
        *[(tag, "zh_CN") for tag in ("zh", "zh_CN", "zh-CN", "zh-Hans", "zh_Hans_CN", "zh_SG")],
        *[(tag, "es") for tag in ("es", "es-MX")],
        *[(tag, "en") for tag in ("en", "en_GB.UTF-8", "C", "C.UTF-8", "POSIX")],
        *[(tag, None) for tag in ("de", "zh_TW", "zh-Hant", "frr", "", "../fr")],
    ],
)
def test_a_language_is_understood_as_people_and_systems_write_it(
    tag: str, found: str | None
) -> None:
    """Territories, scripts and encodings behind a language change nothing, but for Chinese."""
    assert find_language(tag) == found


def test_the_first_variable_that_is_set_decides(no_locale: pytest.MonkeyPatch) -> None:
    """Our own variable counts before gettext's four, which count in gettext's order."""
    assert language() == "en"
    no_locale.setenv("LANG", "es_ES.UTF-8")
    assert language() == "es"
    no_locale.setenv("LC_MESSAGES", "fr_FR.UTF-8")
    assert language() == "fr"
    no_locale.setenv("LC_ALL", "C.UTF-8")
    assert language() == "en"
    no_locale.setenv("LANGUAGE", "de:zh_CN:fr")
    assert language() == "zh_CN"
    no_locale.setenv(CHOICE, "fr")
    assert language() == "fr"


def test_setup_environment_chooses_and_takes_back(no_locale: pytest.MonkeyPatch) -> None:
    """The language holds, for child processes too, until the cell is run without it."""
    no_locale.setenv("LANG", "es_ES.UTF-8")
    assert "Mémoire" in repr(setup_environment(language="fr"))
    assert language() == "fr"
    assert "Memory" in repr(setup_environment(language="en"))
    assert "Memoria" in repr(setup_environment())


def test_an_unknown_language_is_said_once_and_falls_back_to_english(
    no_locale: pytest.MonkeyPatch,
) -> None:
    """The report names the languages that there are, and stays in English."""
    no_locale.setenv("LANG", "fr_FR.UTF-8")
    report = setup_environment(language="de")
    assert report.language == "de"
    assert [note for note in report.notes if "de" in note] == [
        "There are no messages in 'de': they are in English. There are: en, es, fr, zh_CN."
    ]
    assert "Memory" in repr(report)


def test_a_machine_in_an_unknown_language_gets_english_without_a_word(
    no_locale: pytest.MonkeyPatch,
) -> None:
    """Only who asked for a language is told that it is missing."""
    no_locale.setenv("LANG", "de_DE.UTF-8")
    assert not [note for note in setup_environment().notes if "messages" in note]


def test_a_language_can_stand_in_the_settings_file(
    no_locale: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """LOCAL_PIPELINES_LANGUAGE in .env counts like the others there."""
    no_locale.delenv("PYTHON_DOTENV_DISABLED", raising=False)
    file = tmp_path / ".env"
    file.write_text(f"{CHOICE}=es\n", encoding="utf-8")
    assert "Memoria" in repr(setup_environment(env_file=file))


def test_english_reads_no_catalogue(run_python: Callable[..., str]) -> None:
    """An English message imports neither gettext nor polib, and no catalogue is looked for."""
    code = (
        "import sys\n"
        "from local_pipelines import check_parameters\n"
        "from local_pipelines.wording.messages import available_languages\n"
        "try:\n    check_parameters(SEED=-1)\nexcept ValueError as error:\n    print(error)\n"
        "print({'polib', 'gettext'} & set(sys.modules), available_languages.cache_info().misses)"
    )
    said = run_python(code, LOCAL_PIPELINES_LANGUAGE="", LANG="en_GB.UTF-8", LC_ALL="")
    assert "cannot work" in said
    assert said.splitlines()[-1] == "set() 0"


def test_without_polib_the_messages_are_in_english(
    speak: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation that lacks the reader still says what is wrong."""
    monkeypatch.setitem(sys.modules, "polib", None)
    messages_module._read_catalogue.cache_clear()
    speak("fr")
    try:
        assert tr("Leave it out.") == "Leave it out."
    finally:
        messages_module._read_catalogue.cache_clear()


# ------------------------------------------------------------------------------ what is said


def _error() -> LocalPipelinesError:
    with pytest.raises(ParameterError) as caught:
        checked_stop([""])
    return caught.value


def test_an_error_speaks_the_language_of_its_moment(speak: Callable[[str], None]) -> None:
    """Nothing is translated when a module is imported: the next sentence follows the choice."""
    assert _error().fact == "stop holds an empty string."
    speak("fr")
    assert _error().fact == "stop contient une chaîne vide."
    assert _error().next_step == 'Écris stop=["\\n\\n"], ou enlève stop.'
    speak("zh")
    assert str(_error()) == (
        "stop 中有空字符串。任何文本都以它开头：结果什么也不剩。"
        '请写 stop=["\\n\\n"]，或者不写 stop。'
    )
    speak("en")
    assert _error().fact == "stop holds an empty string."


def test_an_error_keeps_its_language_when_it_travels(speak: Callable[[str], None]) -> None:
    """Another process shows the sentences that were written, whatever its language."""
    speak("es")
    sent = pickle.dumps(_error())
    speak("en")
    received = pickle.loads(sent)  # noqa: S301 - our own
    assert received.fact == "stop contiene una cadena vacía."
    assert received.next_step.startswith("Escribe")


@each_language
def test_what_is_shown_is_translated(name: str, speak: Callable[[str], None]) -> None:
    """Explanations, tables, pickers and transcripts leave no English heading behind."""

    def shown() -> list[str]:
        picker = Picker("device", "DEVICE", [Choice(value=-1, name="cpu", facts="")], -1, str)
        box = ChatBox(lambda text: text, greeting="…")
        measured = measure_in_turn({"a": lambda: [1], "b": lambda: [1]}, repeat=2)
        return [
            repr(explain(RuntimeError("CUDA out of memory"))).split("\n", 1)[1],
            repr(catalogue()),
            catalogue()._repr_html_(),
            repr(picker),
            repr(box),
            repr(measured).splitlines()[0],
            repr(measured[0]),
            repr(setup_environment()),
        ]

    english = shown()
    speak(name)
    for before, after in zip(english, shown(), strict=True):
        assert before != after
        assert not re.search(
            r"\b(Memory|download|median|licence|Model:|kernel, then)\b", after
        ) or (name == "fr" and "licence" in after)


@pytest.mark.parametrize(("name", "tag"), [("es", "es"), ("fr", "fr"), ("zh_CN", "zh")])
@pytest.mark.parametrize("remembers", [True, False])
def test_the_questions_without_a_browser_are_those_the_model_has_learnt(
    name: str, tag: str, remembers: bool, speak: Callable[[str], None]
) -> None:
    """The embedded model is asked word for word as in its training."""
    speak(name)
    first, second = default_questions(remembers=remembers)
    learnt = world.phrasings(tag)["capitals"]
    of = {fact["code"]: fact["of"][tag] for fact in _capitals()}
    assert first in [each.format(of=of["FR"]) for each in learnt["train"]]
    second_form = learnt["follow_up"] if remembers else learnt["train"]
    assert second in [each.format(of=of["JP"]) for each in second_form]


def _capitals() -> list[dict[str, dict[str, str]]]:
    import json

    lines = (PACKAGE / "pocket" / "facts" / "capitals.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in lines.splitlines()]


def test_numbers_take_the_forms_of_the_language(speak: Callable[[str], None]) -> None:
    """French says the singular for 0, English the plural, and Chinese has one form."""
    one, many = (
        "{median} in the median of {number} run ({fastest} to {slowest})",
        "{median} in the median of {number} runs ({fastest} to {slowest})",
    )
    assert [ntr(one, many, n) for n in (0, 1, 2)] == [many, one, many]
    speak("fr")
    assert ntr(one, many, 0) == ntr(one, many, 1) != ntr(one, many, 2)
    speak("zh")
    assert ntr(one, many, 1) == ntr(one, many, 2)


def test_a_list_has_the_marks_of_the_language(speak: Callable[[str], None]) -> None:
    """Words are listed as in English, and as in Chinese."""
    assert [listed(list("abc")[:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    speak("zh")
    assert listed(["a", "b", "c"]) == "a、b 和 c"


def test_threads_read_a_catalogue_once(
    speak: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads whose first message comes at the same moment all get it, from one reading."""
    messages_module._read_catalogue.cache_clear()
    speak("fr")
    start, said = threading.Barrier(8), []

    def work() -> None:
        start.wait()
        said.append(tr("Leave it out."))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == ["Enlève-la."] * 8
    assert messages_module._read_catalogue.cache_info().misses == 1


# --------------------------------------------------------------------------------- columns


def test_chinese_takes_two_columns_in_a_table() -> None:
    """Cells of a terminal's table stand below each other, whatever they are written in."""
    lines = align([("内存", "a"), ("RAM", "b")], indent=1).splitlines()
    assert [columns(line) for line in lines] == [8, 8]
    assert columns("é") == columns("e\u0301") == 1


def test_chinese_text_is_broken_where_a_line_may_end() -> None:
    """No line is too wide, none begins with a full stop, and nothing is lost."""
    text = "请把 HF_HOME 设为你有写入权限的文件夹，并重启内核。" * 4
    lines = fold(text, 30, head="提示", indent=6).splitlines()
    assert max(map(columns, lines)) <= 30
    assert not [line for line in lines if line.strip()[0] in "，。"]
    assert "".join(line[4:] if n == 0 else line[6:] for n, line in enumerate(lines)).replace(
        " ", ""
    ) == text.replace(" ", "")


# ------------------------------------------------------------------------------- catalogues


def test_the_catalogues_are_complete_and_in_order() -> None:
    """The template is the source's, and no language misses, breaks or doubts a message."""
    assert set(messages.catalogues(ROOT)) == set(LANGUAGES)
    assert [str(fault) for fault in messages.faults(ROOT)] == []


def _translations(name: str) -> Iterator[tuple[str, str]]:
    import polib

    for entry in polib.pofile(str(messages.catalogues(ROOT)[name])):
        for text in entry.msgstr_plural.values() or [entry.msgstr]:
            yield entry.msgid, re.sub(r"`[^`]*`", "`", text)


def test_french_has_its_no_break_spaces() -> None:
    """A mark of two parts is not torn off its word; questions to the model have plain blanks."""
    asked = {"And of Japan?", *(f"What is the capital of {c}?" for c in ("Japan", "France"))}
    for message, text in _translations("fr"):
        if message not in asked:
            words = re.sub(r"\{\w+[^}]*\}", "", text)
            assert not re.search(r"(?<!\u00a0)[;!?»]|[^\S\u00a0]:|«(?!\u00a0)", words), text


def test_chinese_has_its_own_marks_and_a_blank_beside_latin_words() -> None:
    """Full-width punctuation, and the spacing that autocorrect asks for."""
    han = r"[\u4e00-\u9fff]"
    faults = rf"{han}[A-Za-z0-9,;:!?.(`]|[A-Za-z0-9)`]{han}|[。，；：！？] "
    for _, text in _translations("zh_CN"):
        assert not re.search(faults, text), text


def test_spanish_opens_its_questions() -> None:
    """A question has both its marks."""
    for _, text in _translations("es"):
        assert text.count("?") == text.count("¿"), text


# Each fault that a translator or a maintainer may make, and what is said about it.
FAULTS = {
    'msgstr "Enlève-la."': ('msgstr ""', "not translated"),
    'msgid "Leave it out."': ('#, fuzzy\nmsgid "Leave it out."', "fuzzy"),
    'msgstr "Écris {near}."': ('msgstr "Écris {pres}."', "other placeholders"),
    'msgstr "Lance `git lfs pull` dans le dossier."': (
        'msgstr "Lance git lfs pull dans le dossier."',
        "other code spans",
    ),
    'msgid "Its header cannot be read."': ('msgid "Its head cannot be read."', "not merged"),
    'msgstr "Écris model_kwargs={{': ('msgstr "Écris model_kwargs={', "other braces"),
    'msgstr " ou "': ('msgstr "ou"', "other blanks"),
    "nplurals=2": ("nplurals=3", "plural"),
}


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the catalogues; the French one."""
    shutil.copytree(PACKAGE / "locale", tmp_path / "locale")
    monkeypatch.setattr(messages, "_folder", lambda _: tmp_path / "locale")
    return messages.catalogues(ROOT)["fr"]


@pytest.mark.parametrize("right", FAULTS)
def test_a_fault_in_a_catalogue_is_found(right: str, copied: Path) -> None:
    """What is missing, doubtful or broken is named with its language."""
    wrong, reason = FAULTS[right]
    if right == "nplurals=2" and shutil.which("msgfmt") is None:
        pytest.skip("GNU gettext is not installed")
    text = copied.read_text(encoding="utf-8")
    assert text.count(right) == 1
    copied.write_text(text.replace(right, wrong), encoding="utf-8")
    found = [str(fault) for fault in messages.faults(ROOT)]
    assert found
    assert [fault for fault in found if "/fr/" in fault and reason in fault]


def test_an_old_template_is_found(copied: Path) -> None:
    """A message that changed in the source and not in the template is noticed."""
    template = messages.template(ROOT)
    text = template.read_text(encoding="utf-8")
    template.write_text(text.replace("Leave it out.", "Leave it in."), encoding="utf-8")
    assert "the source has changed" in str(next(messages.faults(ROOT)))


@needs_gettext
def test_a_changed_message_becomes_fuzzy_and_is_shown_in_english(
    copied: Path, monkeypatch: pytest.MonkeyPatch, speak: Callable[[str], None]
) -> None:
    """The maintainer's new sentence is merged with its old text, and never shown translated."""
    template = messages.template(ROOT)
    new = "Delete it and fetch it once again."
    waiting = copied.read_text(encoding="utf-8").count("#, fuzzy")
    old = template.read_text(encoding="utf-8")
    template.write_text(old.replace("Delete it and fetch it again.", new), encoding="utf-8")
    messages.update(ROOT)
    merged = copied.read_text(encoding="utf-8")
    assert '#| msgid "Delete it and fetch it again."' in merged
    assert merged.count("#, fuzzy") == waiting + 1
    monkeypatch.setattr(messages_module, "_FOLDER", copied.parents[2])
    messages_module._read_catalogue.cache_clear()
    speak("fr")
    try:
        assert tr(new) == new
        assert tr("Leave it out.") == "Enlève-la."
    finally:
        messages_module._read_catalogue.cache_clear()


@needs_gettext
def test_a_new_language_is_one_command(
    copied: Path, monkeypatch: pytest.MonkeyPatch, speak: Callable[[str], None]
) -> None:
    """A catalogue that was begun and holds one translation speaks, the rest being English."""
    messages.update(ROOT, ["de"])
    path = messages.catalogues(ROOT)["de"]
    text = path.read_text(encoding="utf-8")
    wanted = 'msgid "Leave it out."\nmsgstr ""'
    path.write_text(text.replace(wanted, wanted[:-2] + '"Lass es weg."'), encoding="utf-8")
    monkeypatch.setattr(messages_module, "_FOLDER", copied.parents[2])
    caches = (
        messages_module.available_languages,
        messages_module._language,
        messages_module._read_catalogue,
    )
    for cache in caches:
        cache.cache_clear()
    speak("de-AT")
    try:
        assert tr("Leave it out.") == "Lass es weg."
        assert tr("It would have no effect.") == "It would have no effect."
    finally:
        for cache in caches:
            cache.cache_clear()


# ----------------------------------------------------------------------------------- source

SOURCES = sorted(PACKAGE.rglob("*.py"))
TRANSLATORS = {"tr", "ntr", "mark"}
ERROR_DATA = {"model_id", "state", "status"}  # what a program reads, in no language
ERRORS = {kind.__name__ for kind in LocalPipelinesError.__subclasses__()} | {
    "AccessError",
    "ExportError",
    "LocalPipelinesError",
    "ModelError",
    "OfflineError",
}


def _called(node: ast.Call) -> str:
    return getattr(node.func, "id", getattr(node.func, "attr", ""))


def _bare(node: ast.AST) -> Iterator[str]:
    """Texts with a word in them that reach an error as they are written."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and re.search(r"[A-Za-z]{2}", node.value):
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from (text for part in node.values for text in _bare(part))
    elif isinstance(node, ast.IfExp | ast.BoolOp | ast.BinOp):
        children = [child for child in ast.iter_child_nodes(node) if child is not _test(node)]
        yield from (text for child in children for text in _bare(child))


def _test(node: ast.AST) -> ast.AST | None:
    return node.test if isinstance(node, ast.IfExp) else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_error_is_raised_in_bare_english(path: Path) -> None:
    """Each sentence of an error goes through the catalogues."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n) in ERRORS]
    keywords = [k for call in calls for k in call.keywords if k.arg not in ERROR_DATA]
    arguments = [a for call in calls for a in (*call.args, *(k.value for k in keywords))]
    assert [text for argument in arguments for text in _bare(argument)] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_what_is_translated_can_be_collected(path: Path) -> None:
    """A message is a literal: put together at run time it would be in no catalogue."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _called(n) in TRANSLATORS]
    texts = [a for call in calls for a in call.args[: 2 if _called(call) == "ntr" else 1]]
    assert not [ast.unparse(t) for t in texts if isinstance(t, ast.JoinedStr | ast.BinOp)]
    formatted = [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr)]
    inside = [c for n in formatted for c in ast.walk(n) if isinstance(c, ast.Call)]
    # Before Python 3.12 what collects messages does not look into an f-string.
    assert not [ast.unparse(call) for call in inside if _called(call) in TRANSLATORS]


def _written(node: ast.expr, tree: ast.AST) -> ast.expr:
    """What a name stands for: the last that it was given above."""
    given = [
        each
        for each in ast.walk(tree)
        if isinstance(each, ast.Assign)
        and each.lineno < node.lineno
        and any(isinstance(t, ast.Name) and t.id == getattr(node, "id", "") for t in each.targets)
    ]
    return max(given, key=lambda each: each.lineno).value if given else node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_message_is_given_what_its_braces_ask_for(path: Path) -> None:
    """`.format(…)` names each placeholder of its message, and no other."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and _called(node) == "format"):
            continue
        message = _written(node.func.value, tree) if isinstance(node.func, ast.Attribute) else None
        if not (isinstance(message, ast.Call) and _called(message) in {"tr", "ntr"}):
            continue
        texts = [a.value for a in message.args if isinstance(a, ast.Constant)]
        if not texts or any(keyword.arg is None for keyword in node.keywords):
            continue
        given = {keyword.arg for keyword in node.keywords}
        asked = {n for text in texts for _, n, _, _ in string.Formatter().parse(text) if n}
        assert asked == given, texts[0]
