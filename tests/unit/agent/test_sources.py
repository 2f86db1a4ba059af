from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyrsyncbackup_agent.modules import sources

ME = frozenset({os.geteuid()})


@pytest.fixture
def directories(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("share", "etc"):
        (tmp_path / name).mkdir(mode=0o755)
    return tmp_path / "share", tmp_path / "etc"


def define(directory: Path, name: str, text: str = 'paths = ["/x"]') -> Path:
    file = directory / f"{name}.toml"
    file.write_text(text)
    file.chmod(0o644)
    return file


def test_a_later_directory_replaces_and_an_empty_file_masks(directories: tuple[Path, Path]) -> None:
    share, etc = directories
    define(share, "a", 'title = "old"\npaths = ["/x"]')
    define(share, "b")
    define(share, "c")
    define(etc, "a", 'title = "new"\npaths = ["/x"]')
    define(etc, "b", "# not here\n")
    (etc / "c.toml").symlink_to("/dev/null")
    found = sources.read([share, etc, etc / "missing"], ME, catalogue=None)
    assert list(found.by_name) == ["a", "b", "c"]
    definition = found.by_name["a"].definition
    assert definition is not None
    assert definition.title == "new"
    for masked in ("b", "c"):
        assert (found.by_name[masked].definition, found.by_name[masked].fault) == (None, "")
    assert found.problems == ()


def test_a_broken_definition_says_why_and_leaves_the_others_alone(directories: tuple[Path, Path]) -> None:
    share, etc = directories
    define(share, "a")
    file = define(etc, "a", "paths = [")
    define(share, "b")
    found = sources.read([share, etc], ME, catalogue=None).by_name
    assert found["a"].fault.startswith(f"{file}: not TOML: ")
    assert found["b"].definition is not None


def test_files_of_other_names_are_passed_over_and_impossible_names_are_told(directories: tuple[Path, Path]) -> None:
    share, _ = directories
    for name in ("README", "x.toml.dpkg-old", ".hidden.toml"):
        (share / name).write_text("[")
    bad = define(share, "My Shop")
    found = sources.read([share], ME, catalogue=None)
    assert found.by_name == {}
    assert found.problems == (f"{bad}: `My Shop` is no module name: lower-case letters, digits, dots, dashes",)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_can_write_is_not_read(mode: int, directories: tuple[Path, Path]) -> None:
    file = define(directories[0], "a")
    file.chmod(mode)
    fault = sources.read(directories, ME, catalogue=None).by_name["a"].fault
    assert fault == f"{file}: the file can be written by others (mode {mode:o})"


def test_a_file_of_somebody_else_is_not_read(directories: tuple[Path, Path]) -> None:
    define(directories[0], "a")
    nobody = frozenset({os.geteuid() + 1})
    assert "belongs to user" in sources.read(directories, nobody, catalogue=None).by_name["a"].fault


def test_nothing_in_a_directory_that_others_can_write_is_read(directories: tuple[Path, Path]) -> None:
    define(directories[0], "a")
    directories[0].chmod(0o777)
    fault = sources.read(directories, ME, catalogue=None).by_name["a"].fault
    assert f"its directory {directories[0]} can be written by others" in fault


def test_links_fifos_and_directories_are_not_read(directories: tuple[Path, Path]) -> None:
    share, etc = directories
    (etc / "link.toml").symlink_to(define(share, "target"))
    os.mkfifo(etc / "fifo.toml", 0o600)
    (etc / "dir.toml").mkdir()
    found = sources.read([etc], ME, catalogue=None).by_name
    assert "is a symbolic link" in found["link"].fault
    assert "is not a regular file" in found["fifo"].fault
    assert found["dir"].fault


def test_the_signature_follows_every_change(directories: tuple[Path, Path]) -> None:
    share, _ = directories
    seen = {sources.signature(directories)}
    file = define(share, "a")
    seen.add(sources.signature(directories))
    os.utime(file, ns=(1, 1))
    seen.add(sources.signature(directories))
    file.unlink()
    seen.add(sources.signature(directories))
    assert len(seen) == 4
    assert sources.signature(directories) == sources.signature(directories)
