"""How the tests of the commands run them: in this process, for the configuration in their own directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pyrsyncbackup_collector import cli


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs `pyrsyncbackup` with the given words; its exit code, what it printed, and what it said on stderr."""
    monkeypatch.setenv("PYRSYNCBACKUP_CONFIG", str(tmp_path / "collector.toml"))

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.run(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run
