"""What a command loads: an administrator waits for it before each one begins."""

import json
import subprocess
import sys

import pytest
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.cli.commands import COMMANDS

# Each takes from 20 to 200 ms to load, and only few commands need it.
FOR_FEW = {"cryptography", "grpc", "mfusepy", "obstore", "paramiko", "pyfastcdc", "pyrage", "sshtunnel", "structlog"}
FOR_WORK = {"peewee", "pydantic", "sqlite3", "zstandard"}

_LOADED = """
import json, sys
from pyrsyncbackup_collector import cli
code = cli.run(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]))
"""


def loaded(*words: str) -> tuple[int, set[str]]:
    """The exit code of a command in a process of its own, and the modules that are there after it."""
    done = subprocess.run([sys.executable, "-c", _LOADED, *words], capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


def test_help_loads_no_command_and_nothing_that_works():
    code, modules = loaded("--help")
    assert code == 0
    assert not (FOR_FEW | FOR_WORK) & modules
    ours = {f"pyrsyncbackup_collector.cli.{module}" for _, *several in COMMANDS.values() for module in several}
    assert not ours & modules


@pytest.mark.parametrize(
    "words",
    [
        ("history", "web1/etc", "/etc"),
        ("changes",),
        ("find", "x"),
        ("status",),
        ("diff", "web1/etc"),
        ("ls", "web1/etc"),
    ],
    ids=lambda words: words[0],
)
def test_commands_that_look_load_nothing_that_connects_or_signs(words, tmp_path, capsys):
    assert cli.run(["init", str(tmp_path)]) == 0
    capsys.readouterr()
    code, modules = loaded(*words, "--config", str(tmp_path / "collector.toml"))
    # It has come to the store, which is empty.
    assert "pyrsyncbackup_collector.store.store" in modules
    assert code in (0, 4)
    assert not FOR_FEW & modules
