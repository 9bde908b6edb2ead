"""A Sphinx extension that makes the reference pages from the code: recipes, commands, Python.

A page in `reference/` holds what introduces it; what is made here follows when the site is built.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from typing import Any, get_args, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer

import fieldmark
from fieldmark.cli.main import app
from fieldmark.core.backbone_options import ALLOWED
from fieldmark.core.recipe import Choice, Recipe, about_recipe, recipe_names
from fieldmark.core.registry import Registry
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses.loss import LOSSES
from fieldmark.model.method import METHODS
from fieldmark.model.necks.neck import NECKS

__all__ = ["setup"]

PIECES: dict[str, Registry[Any]] = {
    "method": METHODS,
    "neck": NECKS,
    "head": CLASSIFIERS,
    "loss": LOSSES,
    "auxiliary": AUXILIARIES,
}


def _recipes() -> str:
    sections = {name: info for name, info in Recipe.model_fields.items() if _is_section(info)}
    plain = {name: info for name, info in Recipe.model_fields.items() if name not in sections | PIECES}
    blocks = [
        "## Keys",
        "The defaults are those of the schema: what holds where a recipe says nothing and has no `base`.",
        *_keys(Recipe, plain, ""),
    ]
    for name, info in sections.items():
        model = info.annotation
        assert isinstance(model, type)
        blocks += [f"### `[{name}]`", _prose(model.__doc__), *_keys(model, model.model_fields, f"{name}.")]
    for section, registry in PIECES.items():
        blocks += [f"## {registry.noun.capitalize()}s", f"Chosen by `{section}.name`.", *_pieces(section, registry)]
    blocks += ["## Shipped recipes", *(block for name in recipe_names() for block in _shipped(name))]
    return "\n\n".join(blocks)


def _is_section(info: FieldInfo) -> bool:
    kind = info.annotation
    return isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Choice


def _keys(model: type[BaseModel], fields: dict[str, FieldInfo], prefix: str) -> Iterator[str]:
    """A definition list of keys: what each may be, its default, what it means."""
    documents = ModuleAnalyzer.for_module(model.__module__).find_attr_docs()
    for name, info in fields.items():
        meaning = _prose("\n".join(documents[model.__name__, name]))
        default = "nothing" if info.default is None else f"`{_value(info.default)}`"
        yield f"`{prefix}{name}`\n: {_allowed(model, name)}; default {default}\n\n  {meaning}"


def _allowed(model: type[BaseModel], name: str) -> str:
    """What a key may hold, in words, from its JSON schema."""
    schema = model.model_json_schema()
    if name == "options":
        return f"a section with any of {', '.join(f'`{option}`' for option in ALLOWED)}"
    return _in_words(schema["properties"][name], schema.get("$defs", {}))


def _in_words(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _in_words(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return " or ".join(_in_words(kind, definitions) for kind in schema["anyOf"] if kind.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{_value(value)}`" for value in schema.get("enum", [schema.get("const")]))
    match schema["type"]:
        case "array":
            return "a list of texts" if schema.get("items", {}).get("type") == "string" else "a list of three numbers"
        case "boolean":
            return "`true` or `false`"
        case "string":
            return "a text"
        case kind:
            return f"{'a whole number' if kind == 'integer' else 'a number'}{_range(schema)}"


def _range(schema: dict[str, Any]) -> str:
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    return "".join(f" {word} {schema[key]:,.10g}" for key, word in limits.items() if key in schema)


def _value(value: object) -> str:
    """As TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else "[]" if value == () else "{}" if value == {} else str(value)


def _pieces(section: str, registry: Registry[Any]) -> Iterator[str]:
    for name in registry:
        if registry.origin(name):
            continue  # of a plug-in on this machine
        module = inspect.getmodule(registry.get(name))
        assert module is not None
        yield f"### `{name}`"
        yield inspect.cleandoc(module.__doc__ or "")
        if options := registry.options(name):
            yield "\n".join(
                ["| option | default |", "|---|---|"]
                + [f"| `{section}.{option}` | `{_value(default)}` |" for option, default in options.items()]
            )


def _shipped(name: str) -> Iterator[str]:
    text = (resources.files("fieldmark.core") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    yield f"### `{name}` recipe"
    yield f"{about_recipe(name)}."
    yield f"```toml\n{text.strip()}\n```"


def _commands() -> str:
    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="fieldmark")
    blocks, panel = [], ""
    for name in group.list_commands(context):  # type: ignore[attr-defined]  # typer's own copy of click
        command = group.get_command(context, name)  # type: ignore[attr-defined]  # typer's own copy of click
        if command.rich_help_panel != panel:
            panel = command.rich_help_panel
            blocks.append(f"## {panel}")
        blocks += [f"### `fieldmark {name}`", _prose(command.help), *_parameters(command, context)]
    return "\n\n".join(blocks)


def _parameters(command: Any, parent: Any) -> Iterator[str]:
    context = typer.Context(command, info_name=command.name, parent=parent)
    usage = " ".join(["fieldmark", command.name, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```"
    hints = get_type_hints(command.callback)
    for parameter in command.params:
        names = [*parameter.opts, *parameter.secondary_opts]
        shown = ", ".join(names) if names[0].startswith("-") else parameter.name
        facts = _facts(parameter, hints)
        yield f"`{shown}`\n: {_prose(parameter.help)}{f' ({facts})' if facts else ''}"


def _facts(parameter: Any, hints: dict[str, Any]) -> str:
    choices = [choice for choice in get_args(hints[parameter.name]) if isinstance(choice, str)]
    is_flag = getattr(parameter, "is_flag", False)
    facts = [
        f"one of {', '.join(f'`{choice}`' for choice in choices)}" if choices else "",
        f"default `{parameter.default}`" if parameter.default not in (None, (), [], "") and not is_flag else "",
        "required" if parameter.required and parameter.opts[0].startswith("-") else "",
    ]
    return "; ".join(fact for fact in facts if fact)


def _python() -> str:
    """Directives for autodoc: the functions, the classes and the errors that `import fieldmark` gives."""
    things = {name: getattr(fieldmark, name) for name in fieldmark.__all__}
    errors = [name for name, thing in things.items() if inspect.isclass(thing) and issubclass(thing, Exception)]
    classes = [name for name, thing in things.items() if inspect.isclass(thing) and name not in errors]
    functions = [name for name in things if name not in {*errors, *classes}]
    blocks = [
        *("## Functions", _documented("autofunction", functions)),
        *("## Classes", _documented("autoclass", classes)),
        *("## Errors", _documented("autoexception", errors)),
    ]
    return "\n\n".join(blocks)


def _documented(directive: str, names: Iterable[str]) -> str:
    lines = "\n\n".join(f".. {directive}:: fieldmark.{name}" for name in names)
    return f"```{{eval-rst}}\n{lines}\n```"


def _prose(text: str | None) -> str:
    """A docstring as one paragraph."""
    return re.sub(r"\s+", " ", inspect.cleandoc(text or "")).strip()


PAGES: dict[str, Callable[[], str]] = {
    "reference/recipes": _recipes,
    "reference/commands": _commands,
    "reference/python": _python,
}
"""What follows the text of each page."""


def _complete(app: Sphinx, page: str, content: list[str]) -> None:
    if page in PAGES:
        content[0] += f"\n\n{PAGES[page]()}\n"


def setup(app: Sphinx) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _complete)
