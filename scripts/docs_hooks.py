"""Hooks of mkdocs: what the pages need beyond its plugins."""

from __future__ import annotations

import re

ROLE = re.compile(r":(?:func|class|meth|attr|data|mod|exc):")


def on_page_content(html: str, **_: object) -> str:
    """Return the page without the reST roles of docstrings, such as :func:, which Markdown shows as text."""
    return ROLE.sub("", html)
