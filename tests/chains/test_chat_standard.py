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


class _Room:
    """The tests that call it, with room for an answer in a form."""

    _llm: Any

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
