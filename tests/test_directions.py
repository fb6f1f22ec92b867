"""Who may import whom, and that no modules import each other in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FORBIDDEN = {
    "api": {"worker", "runpod_handler"},
    "worker": {"api"},
    "common": {"api", "worker", "protocol"},
    "protocol": {"api", "worker"},
    "models": {"api", "worker", "protocol"},
}
"""What the modules of a package never import, not even within a function."""


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules(package: str) -> dict[str, ast.Module]:
    """Every module of a package by its full name."""
    files = sorted((ROOT / package).rglob("*.py"))
    return {module_name(file): ast.parse(file.read_text("utf-8"), str(file)) for file in files}


def imported(statement: ast.stmt) -> set[str]:
    """The dotted names one statement imports: of ``from a import b`` both ``a`` and ``a.b``."""
    if isinstance(statement, ast.Import):
        return {alias.name for alias in statement.names}
    if isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, "a relative import"
        module = statement.module or ""
        return {module} | {f"{module}.{alias.name}" for alias in statement.names}
    return set()


def statements_at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported: not those in functions, nor those for
    type checkers."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        yield statement
        for_types = isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test)
        for name in ("orelse",) if for_types else ("body", "orelse", "finalbody"):
            yield from statements_at_import(getattr(statement, name, []))
        for handler in getattr(statement, "handlers", []):
            yield from statements_at_import(handler.body)


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, from one back to itself; empty: there are none.

    Args:
        imports: for every module those it imports.
    """
    done: set[str] = set()

    def walk(module: str, way: list[str]) -> list[str]:
        if module in way:
            return [*way[way.index(module) :], module]
        if module in done:
            return []
        for other in sorted(imports[module]):
            if found := walk(other, [*way, module]):
                return found
        done.add(module)
        return []

    return next((found for module in imports if (found := walk(module, []))), [])


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_only_what_it_may(package):
    found = modules(package)
    assert found
    wrong = [
        f"{module} imports {name}"
        for module, tree in found.items()
        for statement in ast.walk(tree)
        for name in sorted(imported(statement))
        if name.partition(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    found = {}
    for package in ("common", "protocol", "worker", "api"):
        found |= modules(package)
    imports = {
        module: {
            name
            for statement in statements_at_import(tree.body)
            for name in imported(statement)
            if name in found and name != module
        }
        for module, tree in found.items()
    }
    assert imports["protocol.state_machine"] >= {"protocol.events", "protocol.actions"}
    assert " imports ".join(circle(imports)) == ""


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
