"""Tables: HTML for notebooks, columns for terminals."""

from __future__ import annotations

import pytest

from local_pipelines.wording.columns import columns, html_table


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("RAM", 3), ("内存", 4), ("e\u0301", 1), ("é\n中", 3), ("\U0001f600", 2)],
)
def test_a_text_takes_as_many_columns_as_a_terminal_gives_it(text: str, width: int) -> None:
    """Wide, combining and control characters are counted as terminals show them."""
    assert columns(text) == width


def test_what_stands_in_a_table_is_escaped() -> None:
    """A model's name or an answer cannot bring markup of its own into a notebook."""
    table = html_table([["<b>", "&"]], head=["<i>", "x"])
    assert "&lt;b&gt;" in table
    assert "&lt;i&gt;" in table
    assert "&amp;" in table


def test_heads_of_rows_and_columns_are_marked_as_such() -> None:
    """A screen reader says them with each cell."""
    table = html_table([["RAM", "8 GB"]], head=["what", "how much"], row_heads=True)
    assert table.count('<th scope="col"') == 2
    assert table.count('<th scope="row"') == 1
    assert table.count("</th>") == 3
    assert "<thead>" not in html_table([["a"]])
