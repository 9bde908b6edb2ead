"""The page that a service shows, and the description of its API, with the policy that lets them run nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from fieldmark.pages import render

__all__ = ["api_page", "page", "policy_of"]

_BLOCKS = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> str:
    """The page. What it shows is asked of the service by its script."""
    return render("serving.html")


def api_page(described: Mapping[str, Any]) -> str:
    """An OpenAPI description as a page."""
    routes = [
        (method.upper(), path, what) for path, methods in described["paths"].items() for method, what in methods.items()
    ]
    return render(
        "api.html", routes=routes, shapes=described["components"]["schemas"], version=described["info"]["version"]
    )


@cache
def policy_of(text: str) -> str:
    """The content security policy of a page: its own style and script, and this service, and nothing else."""
    found: dict[str, list[str]] = {"script": [], "style": []}
    for kind, block in _BLOCKS.findall(text):
        found[kind].append(f"'sha256-{base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()}'")
    sources = {kind: " ".join(hashes) or "'none'" for kind, hashes in found.items()}
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
