"""answer_file answers a file of prompts, and goes on where it was interrupted."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda

from local_pipelines import answer_file
from local_pipelines.errors import ParameterError, PromptFileError


def rows_of(target: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


class Chain:
    """Repeats prompts in capitals, remembers them, and fails where it is told to."""

    def __init__(self, fails: Callable[[list[str]], BaseException | None] = lambda _: None) -> None:
        self.seen: list[str] = []
        self.fails = fails

    def batch(self, prompts: list[str], *, return_exceptions: bool = False) -> list[Any]:
        error = self.fails(prompts)
        if error is not None and not isinstance(error, Exception):
            raise error
        if error is not None:
            return [error] * len(prompts)
        self.seen += prompts
        return [prompt.upper() for prompt in prompts]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("\n".join(f"prompt {number}" for number in range(10)), encoding="utf-8")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


class TestSources:
    """What a file of prompts may look like."""

    def test_a_text_file_has_a_prompt_in_each_line(
        self, source: Path, target: Path, scripted: Any
    ) -> None:
        """Each row holds the prompt's number, the prompt and its answer, in order."""
        report = answer_file(scripted, source, target, batch_size=4)
        assert rows_of(target) == [
            {"index": n, "prompt": f"prompt {n}", "answer": f"PROMPT {n}"} for n in range(10)
        ]
        assert (report.prompts, report.answered, report.failed, report.resumed) == (10, 10, 0, 0)
        assert 0 <= report.seconds < 60
        assert [len(call) for call in scripted.script.calls] == [4, 4, 2]

    @pytest.mark.parametrize(
        ("name", "text", "options"),
        [
            ("p.txt", "\n\none\n   \ntwo\n\n", {}),
            ("p.txt", "\ufeffone\r\ntwo\r\n", {}),
            ("p.jsonl", '{"prompt": "one"}\n\n"two"\n', {}),
            ("p.jsonl", '{"q": "one"}\n{"q": "two", "x": 1}', {"column": "q"}),
            ("p.csv", "prompt,id\none,1\n,2\ntwo,3\n", {}),
            ("p.csv", "question\none\ntwo\n", {}),
            ("p.csv", "id,q\n1,one\n2,two\n", {"column": "q"}),
        ],
    )
    def test_text_json_lines_and_tables(
        self, tmp_path: Path, target: Path, name: str, text: str, options: dict[str, Any]
    ) -> None:
        """Empty lines, marks at the beginning and Windows' line ends make no difference."""
        (tmp_path / name).write_bytes(text.encode())
        answer_file(Chain(), tmp_path / name, target, **options)
        assert [row["answer"] for row in rows_of(target)] == ["ONE", "TWO"]

    def test_a_field_of_a_table_may_have_several_lines(self, tmp_path: Path, target: Path) -> None:
        """What stands in quotation marks is one prompt."""
        (tmp_path / "p.csv").write_text('prompt\n"one\ntwo"\n', encoding="utf-8")
        answer_file(Chain(), tmp_path / "p.csv", target)
        assert [row["answer"] for row in rows_of(target)] == ["ONE\nTWO"]

    def test_an_empty_file_has_no_answers(self, tmp_path: Path, target: Path) -> None:
        """It is no error either."""
        (tmp_path / "p.txt").touch()
        assert answer_file(Chain(), tmp_path / "p.txt", target).prompts == 0
        assert target.read_bytes() == b""

    def test_a_chain_of_langchain_is_taken(self, source: Path, target: Path, scripted: Any) -> None:
        """`prompt | llm | parser` gets each prompt as the template's only variable."""
        chain = PromptTemplate.from_template("Say {it}") | scripted | StrOutputParser()
        answer_file(chain, source, target)
        assert rows_of(target)[3]["answer"] == "SAY PROMPT 3"

    def test_of_a_message_the_text_is_kept(self, source: Path, target: Path) -> None:
        """A chain without a parser at its end works too."""
        answer_file(RunnableLambda(lambda text: AIMessage(text[::-1])), source, target)
        assert rows_of(target)[0]["answer"] == "0 tpmorp"

    def test_each_row_is_json_whatever_the_answer(self, source: Path, target: Path) -> None:
        """NaN, an answer that contains itself and one of any class are kept as text."""
        circle: list[Any] = []
        circle.append(circle)
        answers = iter([math.nan, {"score": -math.inf}, circle, source, *range(6)])
        answer_file(RunnableLambda(lambda _: next(answers)), source, target, batch_size=1)

        def no_json(constant: str) -> None:
            raise AssertionError(constant)

        lines = target.read_text(encoding="utf-8").splitlines()
        kept = [json.loads(line, parse_constant=no_json)["answer"] for line in lines]
        assert kept[:5] == ["NaN", {"score": "-Infinity"}, "[[...]]", str(source), 0]


class TestGoingOn:
    """Nothing is done twice and nothing is lost."""

    def stop_after(self, calls: int) -> Callable[[list[str]], BaseException | None]:
        left = [calls]

        def fails(prompts: list[str]) -> BaseException | None:
            left[0] -= 1
            return KeyboardInterrupt() if left[0] < 0 else None

        return fails

    def test_ctrl_c_within_a_chain_of_steps_stops_it(self, source: Path, target: Path) -> None:
        """LangChain returns an interrupt as an output; it is an interrupt all the same."""
        asked: list[str] = []

        def answer(prompt: str) -> str:
            if prompt == "prompt 5":
                raise KeyboardInterrupt
            asked.append(prompt)
            return prompt.upper()

        chain = RunnableLambda(str) | RunnableLambda(answer)
        with pytest.raises(KeyboardInterrupt, match="4 of 10 prompts are done"):
            answer_file(chain, source, target, batch_size=2)
        assert [row["answer"] for row in rows_of(target)] == [f"PROMPT {n}" for n in range(4)]

    def test_an_interrupted_call_is_gone_on_with(self, source: Path, target: Path) -> None:
        """The interrupt says what is kept; the next call computes only the rest."""
        with pytest.raises(KeyboardInterrupt, match="6 of 10 prompts are done") as caught:
            answer_file(Chain(self.stop_after(2)), source, target, batch_size=3)
        assert caught.value._render_traceback_() == [str(caught.value)]
        second = Chain()
        report = answer_file(second, source, target, batch_size=3)
        assert second.seen == [f"prompt {number}" for number in range(6, 10)]
        assert [row["index"] for row in rows_of(target)] == list(range(10))
        assert (report.answered, report.resumed) == (10, 6)
        assert "6 of them were done before" in repr(report)

    def test_a_finished_file_is_left_alone(self, source: Path, target: Path) -> None:
        """Calling again computes nothing and changes nothing."""
        answer_file(Chain(), source, target)
        before = target.read_bytes()
        again = Chain()
        assert answer_file(again, source, target).resumed == 10
        assert again.seen == []
        assert target.read_bytes() == before

    @pytest.mark.parametrize("cut", [1, 5, 30, 45])
    def test_a_half_written_line_is_repaired(self, source: Path, target: Path, cut: int) -> None:
        """A process that died while it wrote leaves a stump, which is written anew."""
        answer_file(Chain(), source, target)
        whole = target.read_bytes()
        target.write_bytes(whole[:-cut])
        answer_file(Chain(), source, target)
        assert target.read_bytes() == whole

    def test_prompts_may_be_added(self, source: Path, target: Path) -> None:
        """A source that has grown at its end is gone on with."""
        answer_file(Chain(), source, target)
        source.write_text(source.read_text() + "\none more")
        chain = Chain()
        answer_file(chain, source, target)
        assert chain.seen == ["one more"]

    @pytest.mark.parametrize("text", ["other\nprompt 1", "prompt 0"])
    def test_a_changed_source_is_refused(self, source: Path, target: Path, text: str) -> None:
        """Answers to other prompts are never mixed in, and the target stays as it is."""
        answer_file(Chain(), source, target)
        before = target.read_bytes()
        source.write_text(text)
        with pytest.raises(PromptFileError, match=r"prompts\.txt has changed since answers\.jsonl"):
            answer_file(Chain(), source, target)
        assert target.read_bytes() == before

    @pytest.mark.parametrize(
        "content",
        [
            b'{"mine": 1}\n',
            b'{"mine": 1}',
            b"\x89PNG\r" + bytes(1000),
            b'{"index": 0, "prompts": 3}',
            b'{"prompt": "prompt 0", "answer": "b"}\n',
        ],
        ids=["a line", "no line end", "no text", "nearly ours", "rows without a number"],
    )
    def test_a_target_that_is_something_else_is_refused(
        self, source: Path, target: Path, content: bytes
    ) -> None:
        """Somebody's own file is not written to, whether its last line is ended or not."""
        target.write_bytes(content)
        with pytest.raises(PromptFileError, match="Line 1 is not what answer_file writes"):
            answer_file(Chain(), source, target)
        assert target.read_bytes() == content

    @pytest.mark.parametrize("length", [0, 1, 9, 23, 40])
    def test_a_first_line_that_was_never_finished_is_written_anew(
        self, source: Path, target: Path, length: int
    ) -> None:
        """A process that died within its first row leaves a file that can be gone on with."""
        answer_file(Chain(), source, target)
        whole = target.read_bytes()
        target.write_bytes(whole[:length])
        answer_file(Chain(), source, target)
        assert target.read_bytes() == whole

    def test_two_calls_do_not_write_one_target(self, source: Path, target: Path) -> None:
        """The second call says so in a sentence, and costs the first none of its answers."""
        refused: list[str] = []

        def call_again(_: list[str]) -> None:
            with pytest.raises(PromptFileError, match="Another call of answer_file") as caught:
                answer_file(Chain(), source, target)
            refused.append(caught.value.next_step)

        assert answer_file(Chain(call_again), source, target, batch_size=5).answered == 10
        assert len(refused) == 2
        assert [row["index"] for row in rows_of(target)] == list(range(10))
        assert answer_file(Chain(), source, target).resumed == 10

    def test_a_file_system_without_locks_is_written_to(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some network folders know no locks; answers are kept there all the same."""
        fcntl = pytest.importorskip("fcntl", reason="Windows locks in another way")

        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", no_locks)
        assert answer_file(Chain(), source, target).answered == 10

    @pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
    @pytest.mark.parametrize("replaced", [False, True])
    def test_a_target_that_disappears_is_noticed(
        self, source: Path, target: Path, replaced: bool
    ) -> None:
        """Answers that nobody can find are not reported as kept, nor computed on and on."""

        def tidy_up(_: list[str]) -> None:
            target.unlink()
            if replaced:
                target.write_text("mine")

        chain = Chain(tidy_up)
        with pytest.raises(PromptFileError, match="was deleted or replaced"):
            answer_file(chain, source, target, batch_size=5)
        assert len(chain.seen) == 5
        assert not target.exists() or target.read_text() == "mine"


class TestFailures:
    """A prompt that fails costs its own answer only."""

    def test_a_broken_character_costs_one_answer(self, tmp_path: Path, target: Path) -> None:
        """Bytes that are no UTF-8 become an error in their row; the others are answered."""
        (tmp_path / "p.txt").write_bytes("é\n".encode() + b"caf\xe9\n" + b"ok\n")
        report = answer_file(Chain(), tmp_path / "p.txt", target)
        assert [row.get("answer") for row in rows_of(target)] == ["É", None, "OK"]
        assert rows_of(target)[1]["error"] == "The prompt is not valid UTF-8."
        assert (report.answered, report.failed) == (2, 1)
        assert 'has an "error"' in repr(report)
        assert answer_file(Chain(), tmp_path / "p.txt", target).resumed == 3

    def test_a_line_that_is_no_json_costs_one_answer(self, tmp_path: Path, target: Path) -> None:
        """So does one without the field, or with something other than text in it."""
        (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n{"x": 1}\n{"prompt": 5}\n')
        answer_file(Chain(), tmp_path / "p.jsonl", target)
        errors = [row.get("error") for row in rows_of(target)]
        assert [row["prompt"] for row in rows_of(target)][1] == '{"prompt":'
        assert errors == [
            None,
            "Line 2 is not JSON.",
            'Line 3 has no text under "prompt".',
            'Line 4 has no text under "prompt".',
        ]

    def test_one_bad_prompt_does_not_spoil_its_batch(self, source: Path, target: Path) -> None:
        """A chain that fails as a whole is asked in halves, down to the prompt that is at fault."""
        error = ValueError("too long")
        chain = Chain(lambda prompts: error if "prompt 0" in prompts else None)
        report = answer_file(chain, source, target)
        assert (report.answered, report.failed) == (9, 1)
        assert rows_of(target)[0]["error"] == "too long"
        assert sorted(chain.seen) == [f"prompt {number}" for number in range(1, 10)]

    def test_a_chain_that_always_fails_is_an_error(self, source: Path, target: Path) -> None:
        """A mistake in the chain is raised soon, and is no row of the target."""
        calls: list[int] = []

        def fails(prompts: list[str]) -> Exception:
            calls.append(len(prompts))
            return ValueError("no such model")

        with pytest.raises(ValueError, match="no such model"):
            answer_file(Chain(fails), source, target)
        assert len(calls) < 10
        assert target.read_bytes() == b""

    def test_utf_16_is_named(self, tmp_path: Path, target: Path) -> None:
        """What Windows' Notepad once saved is recognised at once."""
        (tmp_path / "p.txt").write_text("one", encoding="utf-16")
        with pytest.raises(PromptFileError, match="UTF-16"):
            answer_file(Chain(), tmp_path / "p.txt", target)

    def test_a_missing_file(self, tmp_path: Path, target: Path) -> None:
        """The error names the folder that was looked in; no target is made."""
        with pytest.raises(PromptFileError, match="There is no file"):
            answer_file(Chain(), tmp_path / "none.txt", target)
        assert not target.exists()

    def test_a_folder_is_no_file(self, tmp_path: Path, source: Path, target: Path) -> None:
        """Neither as source nor as target."""
        with pytest.raises(PromptFileError, match="cannot be read"):
            answer_file(Chain(), tmp_path, target)
        with pytest.raises(PromptFileError, match="cannot be written"):
            answer_file(Chain(), source, tmp_path)

    def test_links_in_a_circle_are_no_files(self, source: Path, tmp_path: Path) -> None:
        """They get a sentence, as source and as target."""
        loop = tmp_path / "loop.jsonl"
        try:
            loop.symlink_to(loop)
        except OSError:
            pytest.skip("links cannot be made here")
        with pytest.raises(PromptFileError, match="cannot be written"):
            answer_file(Chain(), source, loop)
        with pytest.raises(PromptFileError, match="cannot be read"):
            answer_file(Chain(), loop, tmp_path / "answers.jsonl")

    def test_a_full_disk_loses_nothing(
        self, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was written before is kept, and gone on with."""

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        answer_file(Chain(), source, target, batch_size=4)
        target.write_bytes(b"".join(target.read_bytes().splitlines(keepends=True)[:4]))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(PromptFileError, match="No space left"):
                answer_file(Chain(), source, target, batch_size=4)
        assert answer_file(Chain(), source, target).answered == 10

    def test_source_and_target_are_two_files(self, source: Path, tmp_path: Path) -> None:
        """Also when they are written differently."""
        other = tmp_path / "folder" / ".." / "prompts.txt"
        before = source.read_bytes()
        for same in (source, other):
            with pytest.raises(ParameterError, match=r"prompts_answers\.jsonl"):
                answer_file(Chain(), source, same)
        assert source.read_bytes() == before

    @pytest.mark.parametrize("size", [0, -1, "2", True, 2.0, None])
    def test_a_batch_size_that_cannot_work(self, source: Path, target: Path, size: Any) -> None:
        """It is known before anything is read."""
        with pytest.raises(ParameterError, match="from 1 upward"):
            answer_file(Chain(), source, target, batch_size=size)

    def test_a_batch_larger_than_the_file(self, source: Path, target: Path) -> None:
        """It is one batch."""
        assert answer_file(Chain(), source, target, batch_size=10**6).answered == 10

    def test_a_column_that_is_not_there(self, tmp_path: Path, source: Path, target: Path) -> None:
        """The error lists those that are; a text has none."""
        (tmp_path / "p.csv").write_text("id,question\n1,one\n")
        with pytest.raises(ParameterError, match="id and question"):
            answer_file(Chain(), tmp_path / "p.csv", target)
        with pytest.raises(ParameterError, match="Leave column out"):
            answer_file(Chain(), source, target, column="q")

    def test_what_is_no_chain(self, source: Path, target: Path) -> None:
        """A function is not one yet."""
        with pytest.raises(ParameterError, match="Give a model or a chain"):
            answer_file(str.upper, source, target)


def test_a_hundred_thousand_lines_in_little_memory(tmp_path: Path, target: Path) -> None:
    """Memory depends on the batch, not on the file: 20 MB are answered within a few."""
    source = tmp_path / "p.txt"
    with source.open("w", encoding="utf-8") as stream:
        stream.writelines(f"prompt {number} {'x' * 90}\n" for number in range(100_000))
    chain = Chain()
    chain.seen = Forgetful()
    tracemalloc.start()
    try:
        report = answer_file(chain, source, target, batch_size=500)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert report.answered == 100_000
    assert peak < 5_000_000
    assert target.stat().st_size > 20_000_000
    assert answer_file(chain, source, target).resumed == 100_000


class Forgetful(list[Any]):
    """A list that stays empty."""

    def append(self, item: Any) -> None:
        pass

    def __iadd__(self, items: Any) -> Forgetful:  # type: ignore[misc]
        return self


def test_reading_and_writing_files_needs_no_langchain(run_python: Callable[..., str]) -> None:
    """An argument is checked, and a file opened, without the seconds that LangChain costs."""
    code = "import sys, local_pipelines.lessons.files; print('langchain_core' in sys.modules)"
    assert run_python(code).strip() == "False"


def test_progress_is_quiet_without_a_terminal(
    source: Path, target: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written where nobody looks, unless it is asked for."""
    answer_file(Chain(), source, target)
    seen = capsys.readouterr()
    assert (seen.out, seen.err) == ("", "")
    answer_file(Chain(), source, target, progress=True)
    assert "10/10" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    answer_file(Chain(), source, target)
    assert "10/10" in capsys.readouterr().err


def test_in_a_notebook_the_bar_goes_to_standard_output(
    source: Path,
    target: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There stderr is red, and a widget would leave its state in the file."""
    monkeypatch.setattr("local_pipelines.workbench.progress.running_kernel", object)
    answer_file(Chain(), source, target, progress=True)
    seen = capsys.readouterr()
    assert "10/10" in seen.out
    assert seen.err == ""
