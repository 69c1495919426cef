"""What gives a wrong chain away, whatever the language: the prompt is in the answer, and so on."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# Each sign gets the question, the answer as a text, and what the chain really gave.
SIGNS: dict[str, Callable[[str, str, Any], bool]] = {
    "echo": lambda question, text, _: question in text,
    "goes on": lambda _, text, __: "\n\n" in text.strip(),
    "empty": lambda _, text, __: not text.strip(),
    "marks": lambda _, text, __: bool(re.search(r"<\|\w+\|>", text)),
    "message": lambda _, __, given: not isinstance(given, str) and hasattr(given, "content"),
}
