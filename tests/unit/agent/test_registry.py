from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pyrsyncbackup_agent.errors import ModuleNotReady, ModuleUnknown
from pyrsyncbackup_agent.modules import ModuleState, Registry
from pyrsyncbackup_agent.settings import Settings

from tests.support.waiting import until


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "modules.d").mkdir(mode=0o755)
    return tmp_path / "modules.d"


@pytest.fixture
def registry(directory: Path) -> Registry:
    return Registry(Settings(name="host", module_dirs=(directory,)), catalogue=None, watch_interval=0.02)


def define(directory: Path, name: str, path: Path) -> None:
    file = directory / f"{name}.toml"
    file.write_text(f'paths = ["{path}"]')
    file.chmod(0o644)


def test_new_definitions_and_new_software_appear_at_the_next_question(registry: Registry, directory: Path) -> None:
    assert registry.modules() == []
    define(directory, "shop", directory.parent / "shop")
    assert [module.state for module in registry.modules()] == [ModuleState.ABSENT]
    before = registry.generation
    (directory.parent / "shop").mkdir()
    assert [module.state for module in registry.modules()] == [ModuleState.READY]
    assert registry.generation == before + 1
    registry.modules()
    assert registry.generation == before + 1


def test_unknown_and_absent_modules_are_told_apart(registry: Registry, directory: Path) -> None:
    define(directory, "shop", directory.parent / "shop")
    with pytest.raises(ModuleUnknown, match=r"no module is named 'ship' \(known modules: shop\)"):
        registry.get("ship")
    with pytest.raises(ModuleNotReady, match=r"^module absent: .*shop does not exist"):
        registry.get("shop")
    (directory / "shop.toml").write_text("paths = 1")
    with pytest.raises(ModuleNotReady, match=r"^module invalid: .*paths: must be a list"):
        registry.get("shop")
    define(directory, "shop", directory)
    assert registry.get("shop").ready


def test_watchers_hear_of_changes_until_they_stop(registry: Registry, directory: Path) -> None:
    heard: list[int] = []
    stop = registry.watch(heard.append)
    define(directory, "shop", directory)
    until(lambda: heard)
    assert registry.get("shop").ready
    stop()
    until(lambda: not any(thread.name == "modules-watch" for thread in threading.enumerate()))
    count = len(heard)
    define(directory, "shed", directory)
    registry.modules()
    assert len(heard) == count
    again: list[int] = []
    stop = registry.watch(again.append)
    define(directory, "ship", directory)
    until(lambda: again)
    stop()
    until(lambda: not any(thread.name == "modules-watch" for thread in threading.enumerate()))


def test_problems_of_files_that_define_nothing_are_kept_apart(registry: Registry, directory: Path) -> None:
    define(directory, "No Name", directory)
    assert registry.modules() == []
    (problem,) = registry.problems()
    assert "no module name" in problem
