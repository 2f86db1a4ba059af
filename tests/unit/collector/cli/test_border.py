"""`run` is the error border: every failure ends as a line for people and a code for scripts."""

import errno
import io
import subprocess
import sys
from pathlib import Path

import pytest
from pyrsyncbackup_collector import cli, errors
from pyrsyncbackup_collector.cli import commands as tree
from pyrsyncbackup_collector.store.store import Store


@pytest.fixture
def failing(monkeypatch):
    """Make `pyrsyncbackup` raise what the test gives."""

    def fail_with(exception):
        def app(**_):
            raise exception

        monkeypatch.setattr(tree, "app", app)

    return fail_with


def test_an_expected_failure_is_its_cause_and_the_next_step(failing, capsys):
    failing(errors.HostUnreachable("web1: port 22 does not answer", "is the host up?"))
    assert cli.run(["status"]) == 5
    assert capsys.readouterr().err == "error: web1: port 22 does not answer\n  next: is the host up?\n"


def test_each_problem_of_a_configuration_has_its_line(failing, capsys):
    failing(errors.ConfigError(["a.toml: x: wrong", "a.toml: y: wrong"]))
    assert cli.run(["status"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["error: a.toml: x: wrong", "error: a.toml: y: wrong"]
    assert lines[2].startswith("  next: ")


def test_words_of_a_host_in_an_error_are_escaped(failing, capsys):
    failing(errors.HookFailed("it said \x1b[2J\n[/bold]", "\x07"))
    assert cli.run(["pull", "web1"]) == 6
    assert capsys.readouterr().err == "error: it said \\x1b[2J\\n[/bold]\n  next: \\x07\n"


def test_a_fault_of_ours_is_one_line_and_a_file_with_the_details(failing, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(ZeroDivisionError("division by zero"))
    assert cli.run(["status"]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert shown.startswith("error: unexpected: ZeroDivisionError: division by zero\n")
    details = Path(shown.rsplit(" ", 1)[1].strip())
    assert "Traceback" in details.read_text()
    assert details.stat().st_mode & 0o777 == 0o600


def test_debug_shows_the_traceback(failing, capsys):
    failing(errors.NotFound("no such host"))
    assert cli.run(["--debug", "status"]) == 4
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("exception", "code"), [(KeyboardInterrupt(), 130), (errors.Cancelled("asked to stop"), 130), (SystemExit(7), 7)]
)
def test_ways_to_end_have_their_codes(failing, exception, code):
    failing(exception)
    assert cli.run(["status"]) == code


def test_every_error_class_has_an_exit_code_of_the_documented_range():
    def tree_of(cls):
        yield cls
        for child in cls.__subclasses__():
            yield from tree_of(child)

    assert {cls.exit_code for cls in tree_of(errors.BackupError)} <= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 16, 130}


def test_a_wrong_command_line_is_code_2_with_a_suggestion(capsys):
    assert cli.run(["statsu"]) == 2
    assert "No such command" in capsys.readouterr().err


class FullDisk(io.StringIO):
    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_below_stdout_is_told(failing, capsys):
    failing(SystemExit(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", FullDisk())
        assert cli.run(["status"]) == 1
    assert "No space left on device" in capsys.readouterr().err


class ClosedPipe(io.StringIO):
    def write(self, _text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_a_reader_that_is_gone_is_no_failure_worth_a_word(tmp_path, capsys):
    Store.create(tmp_path / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", ClosedPipe())
        patch.setattr(cli, "_discard_output", lambda: None)
        assert cli.run(["snapshots", "--store", str(tmp_path / "store"), "--json"]) == 141
    assert capsys.readouterr().err == ""


def test_ctrl_c_while_the_commands_are_loaded_leaves_no_traceback(monkeypatch, capsys):
    class Interrupted:
        def find_spec(self, name, _path=None, _target=None):
            if name == "pyrsyncbackup_collector.cli.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "pyrsyncbackup_collector.cli.commands", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    assert cli.run(["status"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_standard_stream_is_no_fault_of_ours(closed, tmp_path):
    command = f'"$0" -m pyrsyncbackup_collector --config "$1" status {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, tmp_path / "none.toml"], capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") == ("2>&-" not in closed)


def test_what_cannot_be_written_to_a_closed_standard_output_is_said():
    command = [*("sh", "-c", '"$0" -m pyrsyncbackup_collector --help >&-', sys.executable)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: Bad file descriptor\n")
