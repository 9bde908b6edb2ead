"""The page that a service shows, and the description of its API, with the policy that lets them run nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from fieldmark.pages import render

__all__ = ["api_page", "page", "policy_of", "unregistering"]

_REFERENCE = re.compile(r"#/components/schemas/(\w+)")
_BLOCKS = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


@cache
def page() -> str:
    """The page. What it shows is asked of the service by its script."""
    return render("serving.html")


@cache
def unregistering() -> str:
    """The script that takes the place of an exported page's worker, where a page was tried at this address."""
    return render("unregister.js")


def api_page(described: Mapping[str, Any]) -> str:
    """An OpenAPI description as a page."""
    routes = [
        _route(method, path, what) for path, methods in described["paths"].items() for method, what in methods.items()
    ]
    used = {"Problem", *(route["answer"] for route in routes)}
    shapes = described["components"]["schemas"]
    return render(
        "api.html",
        version=described["info"]["version"],
        routes=routes,
        refusals=sorted({row for route in routes for row in route["refusals"]}),
        shapes=[_shape(name, shapes[name]) for name in sorted(used | _within(shapes, used)) if name in shapes],
    )


def _route(method: str, path: str, what: Mapping[str, Any]) -> dict[str, Any]:
    """A route as plain rows."""
    return {
        "method": method.upper(),
        "path": path,
        "description": what["description"],
        "options": [
            (
                one["name"],
                one.get("description", ""),
                "required" if one["required"] else one["schema"].get("default", ""),
            )
            for one in what.get("parameters", ())
        ],
        "answer": _kind(_content(what["responses"]["200"])),
        "refusals": [(status, one["description"]) for status, one in what["responses"].items() if status >= "400"],
    }


def _shape(name: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    """The shape of an answer as plain rows."""
    rows = [(key, _kind(one), one.get("description", "")) for key, one in shape["properties"].items()]
    return {"name": name, "description": shape.get("description", ""), "rows": rows}


def _content(response: Mapping[str, Any]) -> Mapping[str, Any]:
    contents: Mapping[str, Any] = response.get("content", {})
    return {} if not contents else dict(next(iter(contents.values())).get("schema", {}))


def _kind(shape: Mapping[str, Any]) -> str:
    """A type in words: "list of Candidate"."""
    if "$ref" in shape:
        return str(shape["$ref"]).rpartition("/")[2]
    if "anyOf" in shape:
        return " or ".join(map(_kind, shape["anyOf"]))
    if "prefixItems" in shape:
        return " and ".join(map(_kind, shape["prefixItems"]))
    if "items" in shape:
        return f"list of {_kind(shape['items'])}"
    if isinstance(values := shape.get("additionalProperties"), Mapping):
        return f"{_kind(values)} by name"
    return str(shape.get("type", ""))


def _within(shapes: Mapping[str, Any], names: set[str]) -> set[str]:
    """The shapes that these are made of."""
    found = {ref for name in names if name in shapes for ref in _REFERENCE.findall(str(shapes[name]))}
    return found | _within(shapes, found) if found - names else found


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
