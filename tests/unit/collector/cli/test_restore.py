"""`restore` as it is typed: where to, what is chosen, what is said, and the exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import tarfile
import termios
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.errors import Cancelled

from tests.support.estate import Content, Estate

FILES = {
    b"etc/hosts": Content(b"127.0.0.1 localhost\n"),
    b"etc/nginx/conf.d/site.conf": Content(b"server {}\n"),
    b"etc/nginx/nginx.conf": Content(b"events {}\n"),
    b"etc/nginx/odd \x1b[2J": Content(b"odd"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", FILES)
    estate.close()
    (tmp_path / "collector.toml").write_text('store = "store"\ncatalog = "catalog.sqlite"\n')
    monkeypatch.setenv("PYRSYNCBACKUP_CONFIG", str(tmp_path / "collector.toml"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def run(*words: str, code: int = 0) -> None:
    assert cli.run(["restore", "web1/etc", *words]) == code


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["etc/hosts"], {"etc/hosts"}),
        (["/etc/hosts", "*.conf"], {"etc/hosts", "etc/nginx/conf.d/site.conf", "etc/nginx/nginx.conf"}),
        (["etc/nginx/*.conf"], {"etc/nginx/nginx.conf"}),
        (["--exclude", "nginx"], {"etc/hosts"}),
        (["etc/nginx", "--exclude", "odd*", "--exclude", "/etc/nginx/conf.d/"], {"etc/nginx/nginx.conf"}),
    ],
)
def test_what_is_chosen_is_restored(here: Path, words: list[str], expected: set[str]) -> None:
    run(*words, "--to", "out")
    assert files(here / "out") == expected


def test_what_matches_nothing_is_told_before_anything_is_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("etc/hosts", "*.cnf", "--to", "out", code=4)
    assert capsys.readouterr().err.startswith("error: nothing in the snapshot matches *.cnf\n")
    run("etc/host", "--to", "out", code=4)
    assert "did you mean /etc/hosts?" in capsys.readouterr().err
    run("a[", "--to", "out", code=2)
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--to", "out", "--tar", "out.tar"],
        ["--tar", "out.tar", "--check"],
        ["--zip", "out.zip", "--overwrite", "older"],
        ["--tar", "-", "--json"],
        ["--to", "out", "--overwrite", "sometimes"],
    ],
)
def test_what_makes_no_sense_is_refused(here: Path, words: list[str]) -> None:
    run(*words, code=2)
    assert not any((here / name).exists() for name in ("out", "out.tar", "out.zip"))


def test_a_second_run_says_what_is_there_already(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--to", "out", "--check")
    assert "4 files read back from the disk" in capsys.readouterr().out
    (here / "out" / "etc" / "hosts").write_text("mine")
    run("--to", "out", "--json", code=13)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["same"], shown["restored"], shown["complete"]) == (5, {"dir": 1}, False) or shown["same"] >= 5
    assert [each["examples"][0]["path"] for each in shown["shortfalls"] if each["missing"]] == ["etc/hosts"]
    run("--to", "out", "--overwrite", "always")
    assert (here / "out" / "etc" / "hosts").read_bytes() == FILES[b"etc/hosts"].data
    assert "replaced what was there: etc/hosts" in capsys.readouterr().out


def test_a_link_in_the_way_leaves_nothing_and_that_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "out").mkdir(mode=0o700)
    (here / "out" / "etc").symlink_to(here)
    run("--to", "out", code=13)
    assert " to out: nothing, 0 B\n" in capsys.readouterr().out
    assert not (here / "hosts").exists()


def test_a_directory_whose_time_is_not_kept_has_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["ls", "web1/etc", "/"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-2:] == ["-", "etc/"]


def test_a_plan_is_shown_and_nothing_is_done(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--to", "out"], ["--tar", "out.tar"]):
        run("--dry-run", *words)
        shown = capsys.readouterr().out
        assert "make      etc/nginx/nginx.conf\n" in shown
        assert "etc/nginx/odd \\x1b[2J\n" in shown
        assert "make 7; 43 B to write. Nothing was done.\n" in shown
    run("etc/hosts", "--dry-run", "--to", "out", "--json")
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert [(each["path"], each["action"]) for each in plan] == [("etc", "make"), ("etc/hosts", "make")]
    assert not (here / "out").exists()


def test_archives_are_files_that_replace_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--tar", "out.tar")
    with tarfile.open("out.tar") as archive:
        assert {each.name for each in archive if each.isfile()} == {os.fsdecode(path) for path in FILES}
    run("--zip", "out.zip", "*.conf")
    assert {name for name in zipfile.ZipFile("out.zip").namelist() if not name.endswith("/")} == {
        "etc/nginx/conf.d/site.conf",
        "etc/nginx/nginx.conf",
    }
    before = (here / "out.tar").read_bytes()
    run("--tar", "out.tar", "etc/hosts", code=12)
    assert "is there already" in capsys.readouterr().err
    assert (here / "out.tar").read_bytes() == before
    run("--tar", "out.tar", "etc/hosts", "--overwrite", "always")
    assert (here / "out.tar").read_bytes() != before
    run("--tar", "nowhere/out.tar", code=12)


def test_an_archive_on_standard_output_is_alone_there(here: Path) -> None:
    command = [sys.executable, "-m", "pyrsyncbackup_collector", "restore", "web1/etc", "--tar", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert b"restored web1/etc@000001" in done.stderr
    listed = subprocess.run(["tar", "-tf", "-"], input=done.stdout, capture_output=True, check=True)
    assert b"etc/nginx/nginx.conf\n" in listed.stdout
    zipped = subprocess.run([*command[:-2], "--zip", "-"], capture_output=True, check=True)
    (here / "piped.zip").write_bytes(zipped.stdout)
    assert zipfile.ZipFile(here / "piped.zip").testzip() is None


@pytest.mark.parametrize("kind", ["--tar", "--zip"])
def test_a_reader_that_goes_in_the_middle_of_a_large_file_ends_it(here: Path, kind: str) -> None:
    estate = Estate(here / "more")
    estate.pull("web1", "etc", {b"large": Content(os.urandom(12 << 20))})
    estate.close()
    (here / "collector.toml").write_text('store = "more/store"\ncatalog = "more/catalog.sqlite"\n')
    argv = [sys.executable, "-m", "pyrsyncbackup_collector", "restore", "web1/etc", kind, "-"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stderr:
        with process.stdout:
            assert process.stdout.read(100)
        assert process.wait(60) == 141, "as of a program that SIGPIPE ended"
        assert process.stderr.read() == b""


def test_an_archive_is_nothing_for_a_terminal(here: Path) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "pyrsyncbackup_collector", "restore", "web1/etc", "--tar", "-"]
    done = subprocess.run(command, stdout=slave, stderr=subprocess.PIPE, text=True)
    os.close(slave)
    os.close(master)
    assert done.returncode == 2
    assert "nothing for a terminal" in done.stderr


def test_a_damaged_content_is_named_and_the_exit_code_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (here / "store" / "objects").glob("*/*"):
        if place.stat().st_size and b"localhost" in subprocess.run(["zstd", "-dc", place], capture_output=True).stdout:
            place.unlink()
    for words in (["--to", "out"], ["--tar", "out.tar"], ["--zip", "out.zip"]):
        run(*words, code=13)
        assert "1 entry: no sound content in the store: etc/hosts" in capsys.readouterr().out
    with tarfile.open("out.tar") as archive:
        assert "etc/hosts" not in archive.getnames()


def on_a_terminal(*words: str) -> tuple[int, list[str]]:
    """What `restore` shows where it is looked at, 80 columns wide, with all that was painted over."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    command = [sys.executable, "-m", "pyrsyncbackup_collector", "restore", *words]
    with subprocess.Popen(command, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):
            while piece := os.read(master, 65536):
                shown += piece
        os.close(master)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    return process.returncode, re.split(r"[\r\n]+", text)


def test_on_a_terminal_no_path_of_a_report_is_torn(here: Path) -> None:
    paths = [f"etc/{'long' * 8}/{number}-{'name' * 6}" for number in range(5)]
    estate = Estate(here / "more")
    estate.pull("web1", "etc", {path.encode(): Content(path.encode()) for path in paths})
    for place in (here / "more" / "store" / "objects").glob("*/*"):
        place.unlink()
    estate.close()
    (here / "collector.toml").write_text('store = "more/store"\ncatalog = "more/catalog.sqlite"\n')
    code, lines = on_a_terminal("web1/etc", "--to", "out")
    assert code == 13
    first = lines.index("  5 entries: no sound content in the store:")
    assert [line.split(" [")[0] for line in lines[first + 1 :] if "name" in line] == [
        f"    {path}" for path in paths[:3]
    ]
    assert "    and 2 more" in lines


def test_progress_tells_reading_back_from_writing(here: Path) -> None:
    code, lines = on_a_terminal("web1/etc", "--check", "--to", "out")
    assert code == 0
    assert any(line.startswith("restore ") and "0/" in line for line in lines)
    assert any(line.startswith("check ") for line in lines)
    assert "  4 files read back from the disk" in lines


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_too_little_room_is_said_before_anything_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    estate = Estate(here / "more")
    estate.pull("web1", "etc", {b"large": Content(os.urandom(300_000))})
    estate.close()
    (here / "collector.toml").write_text('store = "more/store"\ncatalog = "more/catalog.sqlite"\n')
    disk = here / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "tmpfs", disk], check=True)
    try:
        for words in (["--to", "disk/out"], ["--tar", "disk/out.tar"]):
            run(*words, code=12)
            said = capsys.readouterr().err.splitlines()
            assert re.match(r"293 KiB are to be written where 12[48] KiB are free; holes, hard links ", said[0])
            assert "No space left on device" in said[1]
    finally:
        subprocess.run(["umount", disk], check=True)


# Stops itself where the first directory in the target is made.
STOPPED = """
import os, signal, sys
from pyrsyncbackup_collector import cli
signal.signal(signal.SIGTERM, cli._terminated)
begun = []

def watch(event, arguments):
    if event == "os.mkdir" and arguments[0] == b"etc" and not begun:
        begun.append(True)
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))

sys.addaudithook(watch)
sys.exit(cli.run(sys.argv[2:]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_who_stops_it_is_told_that_it_can_go_on(here: Path, name: str) -> None:
    command = [sys.executable, "-c", STOPPED, name, "restore", "web1/etc", "--to", "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == (130 if name == "SIGINT" else Cancelled.exit_code)
    assert done.stderr.splitlines()[0] == "interrupted: what is there stays, and the same command goes on from there"
    run("--to", "out")
    assert files(here / "out") == {os.fsdecode(path) for path in FILES}
