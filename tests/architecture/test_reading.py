"""What a reader can rely on: names that say something, a docstring on every module, files of a readable size."""

import ast

from tests.support import source

BAGS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "shared", "tools"}
MOST_LINES = 560
MOST_LINES_OF_A_FUNCTION = 60


def test_every_module_says_what_it_is_for():
    assert [name for name, module in source.modules().items() if not ast.get_docstring(module)] == []


def test_no_module_is_a_bag():
    assert [name for name in source.modules() if BAGS & set(name.split("."))] == []


def test_files_and_functions_have_a_readable_size():
    long = []
    for name, module in source.modules().items():
        lines = max((node.end_lineno for node in module.body), default=0)
        if lines > MOST_LINES:
            long.append(f"{name}: {lines}")
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    long.append(f"{name}.{node.name}: {lines}")
    assert long == []
