"""Nothing in the source needs what Windows or macOS lack, or it asks first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fieldmark

ROOT = Path(fieldmark.__file__).parent
MODULES = {"fcntl", "grp", "pwd", "pty", "termios", "tty"}
ARGUMENTS = {"preexec_fn", "process_group", "pass_fds"}
NAMES = {"fork", "forkpty", "getuid", "SIGKILL"}
"""Of `os` and `signal`, whichever way they are imported."""
ASKED_FOR = {"sync", "sched_getaffinity"}
"""Of `os`; allowed where `hasattr` has found them."""


def complaints(source: str) -> list[str]:
    """What a source text uses without asking whether it is there, and in which line."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = [
        f"{problem} in line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, (ast.expr, ast.stmt, ast.keyword))
        for problem in _problems(node, parents)
    ]
    return sorted(found)


Parents = dict[ast.AST, ast.AST]


def _problems(node: ast.AST, parents: Parents) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            modules = {one.name.partition(".")[0] for one in names}
        case ast.ImportFrom(module=str(module), names=names):
            modules = {module.partition(".")[0]}
            if module in ("os", "signal"):
                yield from sorted({one.name for one in names} & (NAMES | ASKED_FOR))
        case _:
            modules = set()
    yield from sorted(modules & MODULES)
    if "resource" in modules and not _survives_import_error(node, parents):
        yield "resource"
    match node:
        case ast.keyword(arg=str(name)) if name in ARGUMENTS:
            yield name
        case ast.Call(func=ast.Attribute(attr="CDLL") | ast.Name(id="CDLL"), args=[ast.Constant(value=None)]):
            yield "CDLL(None)"
        case ast.Attribute(value=ast.Name(id="os" | "signal"), attr=name) if name in NAMES:
            yield name
        case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in ASKED_FOR:
            if not _behind_hasattr(node, name, parents):
                yield name
        case ast.Constant(value=str(text)) if text == "/proc" or text.startswith("/proc/"):
            if not _behind_is_file(node, parents):
                yield "/proc"


def _above(node: ast.AST, parents: Parents) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Each ancestor, with its child that leads to the node."""
    while node in parents:
        yield parents[node], node
        node = parents[node]


def _survives_import_error(node: ast.AST, parents: Parents) -> bool:
    """In the body of a `try` that catches ImportError, or under `suppress(ImportError)`."""
    for ancestor, child in _above(node, parents):
        if isinstance(ancestor, ast.Try) and child in ancestor.body:
            caught = [one.type for one in ancestor.handlers]
        elif isinstance(ancestor, ast.With):
            caught = [item.context_expr for item in ancestor.items]
        else:
            continue
        if any(isinstance(name, ast.Name) and name.id in ("ImportError", "ModuleNotFoundError")
               for one in caught if one for name in ast.walk(one)):  # fmt: skip
            return True
    return False


def _behind_hasattr(node: ast.AST, name: str, parents: Parents) -> bool:
    """What happens where `hasattr(os, name)` is true: a body, one side of `… if … else …`, or what follows `and`."""
    wanted = ast.dump(ast.parse(f"hasattr(os, {name!r})", mode="eval").body)

    def asks(test: ast.expr) -> bool:
        whole = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
        return any(ast.dump(one) == wanted for one in whole)

    for ancestor, child in _above(node, parents):
        match ancestor:
            case ast.If(test=test, body=body) if child in body and asks(test):
                return True
            case ast.IfExp(test=test, body=body) if child is body and asks(test):
                return True
            case ast.BoolOp(op=ast.And(), values=values) if any(map(asks, values[: values.index(child)])):
                return True
    return False


def _behind_is_file(node: ast.AST, parents: Parents) -> bool:
    """In a function that asks `is_file` of something: where it reads from /proc, it does so of one file."""
    for ancestor, _ in _above(node, parents):
        if isinstance(ancestor, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return any(isinstance(one, ast.Attribute) and one.attr == "is_file" for one in ast.walk(ancestor))
    return False


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_only_linux_has_is_asked_for_first(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import fcntl", "fcntl"),
        ("def lock():\n    from fcntl import flock", "fcntl"),
        ("import resource", "resource"),
        ("from resource import getrusage", "resource"),
        ("try:\n    pass\nexcept ImportError:\n    import resource", "resource"),
        ("with suppress(OSError):\n    import resource", "resource"),
        ("run(words, preexec_fn=act)", "preexec_fn"),
        ("run(words, process_group=0)", "process_group"),
        ("run(words, pass_fds=(3,))", "pass_fds"),
        ("ctypes.CDLL(None)", "CDLL(None)"),
        ("CDLL(None).malloc", "CDLL(None)"),
        ("os.fork()", "fork"),
        ("from os import fork", "fork"),
        ("os.kill(pid, signal.SIGKILL)", "SIGKILL"),
        ("from signal import SIGKILL", "SIGKILL"),
        ("os.getuid() == 0", "getuid"),
        ("os.sync()", "sync"),
        ("from os import sync", "sync"),
        ("if hasattr(os, 'fsync'):\n    os.sync()", "sync"),
        ("if hasattr(os, 'sync'):\n    pass\nelse:\n    os.sync()", "sync"),
        ("os.sched_getaffinity(0)", "sched_getaffinity"),
        ("1 if hasattr(os, 'sched_getaffinity') else os.sched_getaffinity(0)", "sched_getaffinity"),
        ("Path('/proc/self/status').read_text()", "/proc"),
        ("def read():\n    return open('/proc/cpuinfo')", "/proc"),
    ],
)
def test_what_is_complained_of(source: str, problem: str) -> None:
    found = complaints(source)
    assert len(found) == 1
    assert found[0].startswith(f"{problem} in line ")


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import resource\nexcept ImportError:\n    resource = None",
        "try:\n    import resource\nexcept (ImportError, OSError):\n    pass",
        "with contextlib.suppress(ImportError):\n    import resource",
        "if hasattr(os, 'sync'):\n    os.sync()",
        "if wanted and hasattr(os, 'sync'):\n    os.sync()",
        "hasattr(os, 'sync') and os.sync()",
        "len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()",
        "def read():\n    file = Path('/proc/cpuinfo')\n    return file.read_text() if file.is_file() else ''",
        '"""Neither os.fork nor fcntl: they are only told of."""',
        "ctypes.CDLL('libc.so.6')",
        "sync()",
    ],
)
def test_what_is_not_complained_of(source: str) -> None:
    assert complaints(source) == []
