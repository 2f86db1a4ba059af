"""The project's own source as syntax trees: what the architecture tests look at. Generated files are left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "pyrsyncbackup": PROJECT / "proto/pyrsyncbackup",
    "pyrsyncbackup_agent": PROJECT / "agent/pyrsyncbackup_agent",
    "pyrsyncbackup_collector": PROJECT / "collector/pyrsyncbackup_collector",
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the three distributions by its dotted name; a package is named like its directory."""
    found = {}
    for package, directory in PACKAGES.items():
        for file in sorted(directory.rglob("*.py")):
            if "_pb2" not in file.name:
                parts = (package, *file.relative_to(directory).with_suffix("").parts)
                name = ".".join(parts).removesuffix(".__init__")
                found[name] = ast.parse(file.read_text("utf-8"), str(file))
    return found


def imports(module: ast.Module) -> Iterator[str]:
    """Dotted names of what `module` imports anywhere in it, also inside functions; names taken from a module too."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def names_used(module: ast.Module) -> set[str]:
    """Dotted names read in `module`, as far as they are plain (`os.fork`)."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def classes(module: ast.Module) -> Iterator[ast.ClassDef]:
    """The classes of `module`, also nested ones."""
    return (node for node in ast.walk(module) if isinstance(node, ast.ClassDef))


def bases(node: ast.ClassDef) -> set[str]:
    """Last names of the bases of a class."""
    return {ast.unparse(base).rpartition(".")[2] for base in node.bases}
