from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyrsyncbackup_agent.modules import ModuleState, Root
from pyrsyncbackup_agent.modules.definition import parse
from pyrsyncbackup_agent.modules.detected import DetectedModule
from pyrsyncbackup_agent.modules.detection import detect
from pyrsyncbackup_agent.modules.host import Host
from pyrsyncbackup_agent.modules.sources import Source

ME = frozenset({0, os.geteuid()})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = Path(os.path.realpath(tmp_path)) / "base"
    directory.mkdir(mode=0o755)
    return directory


def look(base: Path, text: str, trusted: frozenset[int] = ME) -> DetectedModule:
    definition = parse("m", text.replace("BASE", str(base)).encode())
    host = Host(command_dirs=(str(base / "bin"),), unit_dirs=(str(base / "units"),), dpkg_status=base / "status")
    return detect(Source("m", base / "m.toml", definition), host, trusted)


def below(path: Path) -> bytes:
    return os.fsencode(path).lstrip(b"/")


def test_a_module_whose_path_exists_is_ready(base: Path) -> None:
    (base / "d").mkdir()
    module = look(base, 'title = "T"\npaths = ["BASE/x", "BASE/d"]\nexclude = ["*.log"]')
    assert (module.state, module.title, module.ready) == (ModuleState.READY, "T", True)
    assert module.reason == f"{base}/d exists"
    assert module.roots == (Root(1, below(base / "d")),)
    assert module.excludes == ("*.log",)


def test_a_module_without_any_path_is_absent_and_says_what_was_looked_for(base: Path) -> None:
    assert look(base, 'paths = ["BASE/x"]').reason == f"{base}/x does not exist"
    module = look(base, 'paths = ["BASE/x", "BASE/*.y"]')
    assert module.state is ModuleState.ABSENT
    assert module.reason == f"none of these exists: {base}/x {base}/*.y"


@pytest.mark.parametrize(
    ("wanted", "evidence"),
    [
        ('paths = ["BASE/*.conf"]', "BASE/*.conf exists"),
        ('commands = ["no", "prog"]', "command prog is installed"),
        ('units = ["serv"]', "unit serv is installed"),
        ('packages = ["pack"]', "package pack is installed"),
        ('commands = ["no"]\npackages = ["pack"]', "package pack is installed"),
    ],
)
def test_any_one_evidence_is_enough(wanted: str, evidence: str, base: Path) -> None:
    (base / "d").mkdir()
    (base / "a.conf").touch()
    (base / "bin").mkdir()
    (base / "bin" / "prog").touch(mode=0o755)
    (base / "units").mkdir()
    (base / "units" / "serv.service").touch()
    (base / "status").write_text("Package: pack\nStatus: install ok installed\n")
    module = look(base, f'paths = ["BASE/d"]\n[detect]\n{wanted}')
    assert module.reason == evidence.replace("BASE", str(base))
    assert module.ready


def test_no_evidence_is_told_with_all_that_was_looked_for(base: Path) -> None:
    (base / "d").mkdir()
    module = look(base, 'paths = ["BASE/d"]\n[detect]\ncommands = ["a", "b"]\nunits = ["c"]')
    assert module.state is ModuleState.ABSENT
    assert module.reason == "none found of: command a b, unit c"


def test_evidence_without_any_path_is_absent(base: Path) -> None:
    (base / "d").mkdir()
    module = look(base, 'paths = ["BASE/x"]\n[detect]\npaths = ["BASE/d"]')
    assert module.state is ModuleState.ABSENT
    assert module.reason == f"{base}/d exists, but {base}/x does not exist"


def test_a_module_with_hooks_is_ready_before_they_wrote_anything(base: Path) -> None:
    (base / "d").mkdir()
    module = look(base, 'paths = ["BASE/x"]\n[detect]\npaths = ["BASE/d"]\n[hooks]\nbefore = [["true"]]')
    assert module.ready
    assert module.roots == ()


def test_globs_may_match_nothing_and_files_become_names(base: Path) -> None:
    for name in ("a.conf", "b.conf", "skip.conf"):
        (base / name).touch()
    module = look(base, 'paths = ["BASE/*.conf", "BASE/*.ini"]\nexclude = ["skip.*"]')
    assert module.roots == (Root(1, below(base), frozenset({b"a.conf", b"b.conf"})),)


def test_a_path_that_cannot_be_followed_is_left_out_with_a_note(base: Path) -> None:
    (base / "d" / "sub").mkdir(parents=True)
    (base / "link").symlink_to("d")
    stranger = frozenset({os.geteuid() + 1})
    module = look(base, 'paths = ["BASE/d", "BASE/link/sub"]', stranger)
    note = f"the link {base}/link belongs to user {os.geteuid()}, so it is not followed"
    assert module.reason == f"{base}/d exists; {note}"
    assert module.notes == (note,)
    assert [root.path for root in module.roots] == [below(base / "d")]


def test_a_module_of_which_no_path_can_be_followed_is_invalid(base: Path) -> None:
    (base / "d" / "sub").mkdir(parents=True)
    (base / "link").symlink_to("d")
    module = look(base, 'paths = ["BASE/link/sub"]', frozenset({os.geteuid() + 1}))
    assert module.state is ModuleState.INVALID
    assert module.reason.startswith("no path can be used; the link ")
    assert module.roots == ()


def test_a_reason_is_one_printable_line_of_bounded_length(base: Path) -> None:
    (base / "d").mkdir()
    for number in range(9):
        (base / f"l\x1b[31m\n{number}").symlink_to("nowhere")
    module = look(base, 'paths = ["BASE/d", "BASE/l*"]')
    assert module.reason.isprintable()
    assert module.reason.endswith("6 more paths are left out")


def test_a_masked_module_says_by_which_file(base: Path) -> None:
    module = detect(Source("m", base / "m.toml"), Host(), ME)
    assert (module.state, module.reason) == (ModuleState.ABSENT, f"masked by {base}/m.toml")


def test_a_faulty_definition_is_invalid_with_its_fault(base: Path) -> None:
    module = detect(Source("m", base / "m.toml", fault="m.toml: x"), Host(), ME)
    assert (module.state, module.reason) == (ModuleState.INVALID, "m.toml: x")
