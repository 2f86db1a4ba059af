"""Transfers from a real agent: its rsync daemon, a real rsync client, and the stream between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.support.agent import RunningAgent
from tests.support.rsync_client import arrived, fetch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("transfer") / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a").write_text("one")
    (data / "sub" / "b").write_text("two")
    (data / "hidden.log").write_text("three")
    (data / "link").symlink_to("a")
    (data / "passwd").symlink_to("/etc")
    return data


@pytest.fixture(scope="module")
def agent(data: Path) -> Iterator[RunningAgent]:
    agent = RunningAgent(data.parent / "agent")
    agent.module("data", data, exclude=["*.log"])
    with agent:
        yield agent


def test_files_arrive_and_the_daemon_ends_well(agent: RunningAgent, tmp_path: Path) -> None:
    with agent.session("data") as session:
        client, done = fetch(session, 1, [b"a", b"sub/b"], tmp_path / "incoming")
    assert (client.returncode, client.stdout) == (0, b"")
    assert done is not None
    assert (done.code, done.messages) == (0, "")
    assert arrived(tmp_path / "incoming") == {b"a": b"one", b"sub/b": b"two"}


@pytest.mark.parametrize("option", ["--bwlimit=10000", "-z", "--no-implied-dirs", "--compress-choice=zstd"])
def test_the_options_that_the_collector_may_use_are_allowed(agent: RunningAgent, tmp_path: Path, option: str) -> None:
    with agent.session("data") as session:
        client, _ = fetch(session, 1, [b"a"], tmp_path / "incoming", option)
    assert client.returncode == 0, client.stdout
    assert arrived(tmp_path / "incoming") == {b"a": b"one"}


@pytest.mark.parametrize(
    "option", ["-L", "-k", "--copy-unsafe-links", "--remove-source-files", "-a", "-l", "--copy-devices", "-r", "-v"]
)
def test_any_other_option_is_refused(agent: RunningAgent, tmp_path: Path, option: str) -> None:
    with agent.session("data") as session:
        client, done = fetch(session, 1, [b"a"], tmp_path / "incoming", option)
    assert client.returncode != 0
    assert arrived(tmp_path / "incoming") == {}
    assert done is not None
    assert "refuse" in done.messages


def test_excluded_and_foreign_files_do_not_arrive(agent: RunningAgent, tmp_path: Path) -> None:
    names = [b"hidden.log", b"passwd/hostname", b"../agent/agent.toml", b"link", b"none", b"a"]
    with agent.session("data") as session:
        client, done = fetch(session, 1, names, tmp_path / "incoming")
    assert client.returncode == 23
    assert arrived(tmp_path / "incoming") == {b"a": b"one"}
    assert done is not None
    assert "none" in done.messages


def test_names_of_any_bytes_arrive(agent: RunningAgent, data: Path, tmp_path: Path) -> None:
    names = [b"new\nline", b"\xff\xfe", b"*[a]?", b"-dash", b" blank ", b"back\\slash", b"x" * 255]
    for name in names:
        with open(os.path.join(os.fsencode(data), name), "wb") as file:
            file.write(b"=" + name)
    with agent.session("data") as session:
        client, _ = fetch(session, 1, names, tmp_path / "incoming")
    assert client.returncode == 0, client.stdout
    assert arrived(tmp_path / "incoming") == {name: b"=" + name for name in names}


def test_ten_megabytes_pass_unchanged(agent: RunningAgent, data: Path, tmp_path: Path) -> None:
    content = os.urandom(10 << 20)
    (data / "large").write_bytes(content)
    with agent.session("data") as session:
        client, _ = fetch(session, 1, [b"large"], tmp_path / "incoming")
    assert client.returncode == 0
    assert arrived(tmp_path / "incoming") == {b"large": content}


def test_a_root_that_was_exchanged_for_a_link_is_not_served(agent: RunningAgent, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    agent.module("exchanged", root)
    with agent.session("exchanged") as session:
        root.rename(tmp_path / "moved")
        root.symlink_to("/etc")
        with pytest.raises(grpc.RpcError) as caught:
            fetch(session, 1, [b"hostname"], tmp_path / "incoming")
    assert "something else took its place" in caught.value.details()
    assert arrived(tmp_path / "incoming") == {}


def test_a_root_of_single_names_serves_no_others(agent: RunningAgent, data: Path, tmp_path: Path) -> None:
    agent.module("one", data / "a")
    with agent.session("one") as session:
        assert [entry.path for entry in session.list()][-1] == os.fsencode(data / "a")[1:]
        fetch(session, 1, [b"a", b"sub/b", b"hidden.log"], tmp_path / "incoming")
    assert arrived(tmp_path / "incoming") == {b"a": b"one"}
