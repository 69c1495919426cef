"""What LangChain's cache answers is what the same model would have answered to the same call."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache

from local_pipelines import LocalChat, LocalPipeline


@pytest.fixture(autouse=True)
def cache() -> Iterator[InMemoryCache]:
    """A cache for the whole process, as learners set one."""
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


FIELDS: list[dict[str, Any]] = [
    {"temperature": 0.5},
    {"max_tokens": 2},
    {"top_p": 0.5},
    {"seed": 1},
    {"stop": ["x"]},
    {"chat_template": "{{ messages }}"},
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: next(iter(field)))
def test_chats_with_other_fields_have_other_keys(scripted: Any, field: dict[str, Any]) -> None:
    """One is never answered with what the other said."""
    assert LocalChat(llm=scripted)._get_llm_string() == LocalChat(llm=scripted)._get_llm_string()
    assert (
        LocalChat(llm=scripted)._get_llm_string()
        != LocalChat(llm=scripted, **field)._get_llm_string()
    )


def test_a_chat_is_not_answered_with_another_models_text(scripted: Any) -> None:
    """Two chats over two models keep apart."""
    keys = {LocalChat(llm=llm)._get_llm_string() for llm in (scripted, _pipeline("a"))}
    assert len(keys) == 2


def _pipeline(place: str, dtype: str = "float32", **fields: Any) -> LocalPipeline:
    class Model:
        config = SimpleNamespace(name_or_path=place)

    model = Model()
    model.dtype = dtype  # type: ignore[attr-defined]
    pipeline = SimpleNamespace(model=model, task="text-generation", generation_config=None)
    return LocalPipeline(pipeline=pipeline, model_id="mine", **fields)


def test_pipelines_of_other_weights_have_other_keys(tmp_path: Any, monkeypatch: Any) -> None:
    """Other folders, types and formats, a folder of the same name, and models that lie nowhere."""
    for name in ("here", "there"):
        (tmp_path / name / "model").mkdir(parents=True)
    keys = []
    for name in ("here", "there"):
        monkeypatch.chdir(tmp_path / name)
        keys.append(_pipeline("model"))
    keys += [
        _pipeline("owner/model"),
        _pipeline("owner/model", dtype="bfloat16"),
        _pipeline("owner/model", weight_format="int8"),
        _pipeline(""),
        _pipeline(""),
    ]
    assert len({str(llm._identifying_params) for llm in keys}) == len(keys)
    assert (
        _pipeline("owner/model")._identifying_params == _pipeline("owner/model")._identifying_params
    )
    assert str(tmp_path) not in str(keys[0]._identifying_params)


def test_a_pipelines_own_configuration_is_part_of_its_key() -> None:
    """A temperature that is set later gives other answers."""
    llm = _pipeline("owner/model")
    before = llm._identifying_params
    changed = {"temperature": 0.3}
    llm.pipeline.generation_config = SimpleNamespace(to_diff_dict=lambda: changed)
    assert llm._identifying_params != before


async def test_a_calls_options_are_part_of_the_key(scripted: Any) -> None:
    """Another length is another answer; the same call is computed once."""
    for _ in range(2):
        assert scripted.invoke("abc", max_new_tokens=3) == "ABC"
        await scripted.ainvoke("abc", max_new_tokens=3)
    assert len(scripted.script.calls) == 1
    scripted.invoke("abc", max_new_tokens=4)
    scripted.invoke("abc", stop=["b"])
    scripted.batch(["abc"], max_new_tokens=5)
    await scripted.ainvoke("abc", max_new_tokens=6)
    scripted.invoke("abc")
    assert len(scripted.script.calls) == 6
    scripted.invoke("abc", batch_size=2, progress=False)  # the same answer
    assert len(scripted.script.calls) == 6


def test_a_call_inside_a_call_has_its_own_key(scripted: Any) -> None:
    """A callback that asks the same model is not mistaken for the outer call."""
    seen = []

    class Nested(BaseCallbackHandler):
        def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append(scripted._identifying_params.get("call_options"))
            scripted.invoke("inner", max_new_tokens=9)
            seen.append(scripted._identifying_params.get("call_options"))

    scripted.invoke("outer", {"callbacks": [Nested()]}, max_new_tokens=3)
    assert seen == [{"max_new_tokens": 3}] * 2
    assert "call_options" not in scripted._identifying_params


async def test_a_cached_batch_is_not_computed_again(scripted: Any) -> None:
    """Only what is not in the cache is computed, sync or not."""
    chat = LocalChat(llm=scripted)
    chat.batch(["one", "two"])
    assert scripted.script.calls == [["one", "two"]]
    assert [a.content for a in chat.batch(["one", "two"])] == ["ONE", "TWO"]
    assert [a.content for a in await chat.abatch(["two", "one"])] == ["TWO", "ONE"]
    assert len(scripted.script.calls) == 1
    assert [a.content for a in chat.batch(["one", "three"])] == ["ONE", "THREE"]
    assert scripted.script.calls[1:] == [["three"]]
    await chat.abatch(["one", "three"], max_tokens=2)
    assert scripted.script.calls[2:] == [["one", "three"]]
