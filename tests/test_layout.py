"""The rules of the house, checked in the source: who may import whom, what is documented, what is installed."""

import ast
import re
import runpy
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
import setuptools

ROOT = Path(__file__).parent.parent
VERBS = {"clean", "read", "infer", "write", "graph", "results", "child"}
HEAVY = {"apache_beam", "torch", "transformers"}


class Import(NamedTuple):
    name: str
    line: int
    lazy: bool
    typing: bool


def modules(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert len(paths) > 3, f"nothing to check in {package}"
    return paths


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("rtdscan", *parts)).removesuffix(".__init__")


def imports(source: str) -> list[Import]:
    return list(_imports(ast.parse(source), lazy=False, typing=False))


def _imports(node: ast.AST, *, lazy: bool, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = "." * child.level + (child.module or "")
            yield from (Import(f"{base}.{alias.name}", child.lineno, lazy, typing) for alias in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for inner in child.body:
                yield from _imports(ast.Module([inner], []), lazy=lazy, typing=True)
            for inner in child.orelse:
                yield from _imports(ast.Module([inner], []), lazy=lazy, typing=typing)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, lazy=lazy or inside, typing=typing)


def found(package: str) -> Iterator[tuple[Path, Import]]:
    for path in modules(package):
        for item in imports(path.read_text(encoding="utf-8")):
            yield path, item


def top(name: str) -> str:
    return name.partition(".")[0]


def said(offences: Iterator[tuple[Path, int, str]]) -> str:
    return "\n".join(f"{path.relative_to(ROOT)}:{line}: {what}" for path, line, what in offences)


def test_the_checker_sees_each_kind_of_import() -> None:
    source = (
        "import torch\nfrom apache_beam import Map\nif TYPE_CHECKING:\n    import transformers\n"
        "try:\n    import x\nexcept ImportError: pass\ndef f():\n    if 1:\n        import torch.nn\n"
    )
    assert imports(source) == [
        Import("torch", 1, False, False),
        Import("apache_beam.Map", 2, False, False),
        Import("transformers", 4, False, True),
        Import("x", 6, False, False),
        Import("torch.nn", 10, True, False),
    ]


def test_transforms_never_imports_pipeline() -> None:
    bad = ((p, i.line, i.name) for p, i in found("transforms") if i.name.startswith("rtdscan.pipeline"))
    assert not said(bad)


def test_nouns_are_free_of_beam() -> None:
    def allowed(path: Path, item: Import) -> bool:
        noun = path.relative_to(ROOT / "transforms").parts[0].removesuffix(".py")
        return noun in VERBS or item.typing or (noun == "storage" and item.lazy)

    beam = [(p, i) for p, i in found("transforms") if top(i.name) == "apache_beam"]
    assert beam, "the verbs import Beam"
    assert not said((p, i.line, i.name) for p, i in beam if not allowed(p, i))


def test_heavy_libraries_are_imported_when_they_are_used() -> None:
    """`--help` is quick, and a worker with the OpenVINO engine loads neither torch nor transformers."""

    def allowed(path: Path, item: Import) -> bool:
        where = path.relative_to(ROOT).as_posix()
        if item.lazy or item.typing or where.startswith(("pipeline/launchers/", "pipeline/training/")):
            return True
        if where.startswith("transforms/"):
            return top(item.name) == "apache_beam" or where.startswith("transforms/engines/torch")
        return False

    heavy = [(p, i) for package in ("transforms", "pipeline") for p, i in found(package) if top(i.name) in HEAVY]
    assert not said((p, i.line, i.name) for p, i in heavy if not allowed(p, i))


def test_the_imports_of_transforms_have_an_order() -> None:
    names = {module_name(path) for path in modules("transforms")}
    graph: dict[str, set[str]] = {name: set() for name in names}
    for path, item in found("transforms"):
        for target in (item.name, item.name.rpartition(".")[0]):
            if target in names:
                graph[module_name(path)].add(target)
                break
    assert sum(map(len, graph.values())) > 10, "the checker found no imports"
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_the_reading_order_names_every_module() -> None:
    text = ast.get_docstring(ast.parse((ROOT / "transforms/__init__.py").read_text(encoding="utf-8"))) or ""
    named: set[str] = set()
    for line in text.splitlines():
        listed = re.match(r"((?:\w+, )*\w+)  +\S", line)
        named |= set(listed[1].split(", ")) if listed else set()
    folder = ROOT / "transforms"
    there = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
    assert named == there - {"__init__"}


@pytest.mark.parametrize("package", ["transforms", "pipeline"])
def test_modules_are_named_for_what_they_hold_documented_and_short(package: str) -> None:
    for path in modules(package):
        source = path.read_text(encoding="utf-8")
        assert path.stem not in ("utils", "util", "helpers", "common", "misc"), path
        assert ast.get_docstring(ast.parse(source)), f"{path} has no docstring"
        assert len(source.splitlines()) <= 350, f"{path} is too long"


@pytest.mark.parametrize("package", ["transforms", "pipeline"])
def test_type_checkers_of_users_see_that_options_have_defaults(package: str) -> None:
    """`Field(1)` is required to a checker without pydantic's plugin: of Python's own rule it knows `default=` alone."""
    for path in modules(package):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        fields = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Field"]
        assert not [f"{path}:{call.lineno}" for call in fields if call.args]


@pytest.mark.parametrize("package", ["transforms", "pipeline"])
def test_no_error_is_swallowed(package: str) -> None:
    def swallows(handler: ast.ExceptHandler) -> bool:
        kinds = ast.unparse(handler.type) if handler.type else ""
        broad = not kinds or re.search(r"\b(Base)?Exception\b", kinds) is not None
        idle = all(isinstance(s, ast.Pass | ast.Continue) or ast.unparse(s) == "..." for s in handler.body)
        return not kinds or (broad and idle)

    handlers = [
        (path, node)
        for path in modules(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
    ]
    assert not said((path, node.lineno, "except") for path, node in handlers if swallows(node))


def test_only_the_two_packages_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: asked.update(given))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    packages = asked["packages"]
    assert isinstance(packages, list)
    holders = {path.parent for package in ("transforms", "pipeline") for path in modules(package)}
    assert sorted(packages) == sorted(module_name(folder) for folder in holders), "a folder without __init__.py?"
