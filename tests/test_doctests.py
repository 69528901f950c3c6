"""The examples in docstrings come out as they are written."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "maskerlib"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FEWEST = 30  # modules with an example


def examples() -> dict[str, list[ast.Constant]]:
    """The docstrings with an example, by module: of modules, classes, functions, and those below an assignment."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        texts = [node.value for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
        if texts := [text for text in texts if isinstance(text.value, str) and ">>> " in text.value]:
            found[".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")] = texts
    return found


def test_many_modules_have_an_example():
    assert len(examples()) >= FEWEST


@pytest.mark.parametrize(("name", "texts"), examples().items(), ids=examples())
def test_examples(name, texts, tmp_path, monkeypatch):
    """They run in an empty folder, where they leave nothing, and know the names of their module."""
    monkeypatch.chdir(tmp_path)
    module, said = importlib.import_module(name), []
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=FLAGS)
    for text in texts:
        test = parser.get_doctest(text.value, dict(vars(module)), name, module.__file__, text.lineno - 1)
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
    assert runner.tries and not list(tmp_path.iterdir())
