"""A store that does not answer: a named pipe in the place of its first file, which blocks as a dead mount does."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector.cli import patience, screen

from tests.support.vault import Vault


def test_a_command_says_that_the_store_does_not_answer_and_goes_on_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = Vault(tmp_path)
    vault.fill()
    vault.unlock()
    file = tmp_path / "store/format.json"
    text = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    told = threading.Event()
    tell = screen.error

    def error(*words: Any) -> None:
        tell(*words)
        told.set()

    def answer() -> None:
        told.wait(60)
        (tmp_path / "file").write_bytes(text)
        with file.open("wb") as pipe:
            (tmp_path / "file").rename(file)
            pipe.write(text)

    monkeypatch.setattr(screen, "error", error)
    monkeypatch.setattr(patience, "PATIENCE", 0.1)
    answering = threading.Thread(target=answer)
    answering.start()
    said = vault.say(capsys, "snapshots", "web1/etc")
    answering.join()
    assert said.code == 0
    assert "000003" in said.out
    assert f"the store at {tmp_path}/store does not answer" in said.err
    assert f"findmnt -T {tmp_path}/store" in said.err
