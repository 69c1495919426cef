"""The description of the catalogues for Weblate, one component a page.

`weblate import_json --project local-pipelines i18n/weblate.json` makes the components; the fields
are those of a component in Weblate's interface.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from course_kit.notebooks.pages import repository_url
from course_kit.translate.sources import find_sources

__all__ = ["MESSAGES", "components"]

PROJECT = "local-pipelines"
MESSAGES = "src/local_pipelines/locale"  # of the package: widgets, errors, tables


def components(root: Path) -> Path:
    """Write `i18n/weblate.json`.

    Args:
        root: The repository.

    Returns:
        The file.
    """
    pages = [
        _component(page.domain, page.place, "i18n/*/LC_MESSAGES", "i18n/templates")
        for page in find_sources(root)
    ]
    if (root / MESSAGES).is_dir():
        folder = f"{MESSAGES}/*/LC_MESSAGES"
        pages.append(_component("local_pipelines", "messages of the package", folder, MESSAGES))
    for page in pages:  # the others are linked to the first one: Weblate clones once
        page["repo"] = f"weblate://{PROJECT}/{pages[0]['slug']}"
    if pages:
        pages[0] |= {"repo": repository_url(root), "vcs": "git", "branch": "main"}
    path = root / "i18n/weblate.json"
    text = json.dumps(pages, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
    return path


def _component(domain: str, name: str, folder: str, templates: str) -> dict[str, Any]:
    return {
        "name": name,
        "slug": domain.replace("_", "-").lower(),
        "filemask": f"{folder}/{domain}.po",
        "new_base": f"{templates}/{domain}.pot",
        "file_format": "po",
        "file_format_params": {"po_line_wrap": -1},
        "source_language": "en",
        "new_lang": "add",
        "license": "MIT",
        "check_flags": "md-text, ignore-same",
    }
