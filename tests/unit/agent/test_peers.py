from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyrsyncbackup_agent import peers
from pyrsyncbackup_agent.errors import PeerUnknown
from pyrsyncbackup_agent.peers import Peer

OWN = Peer("own", "10.0.0.1", 9737, place="agent.toml: relay.peer[1]")


def define(directory: Path, file: str, *names: str, text: str = "") -> None:
    tables = [f'[[peer]]\nname = "{name}"\naddress = "10.0.0.2:9737"\n' for name in names]
    (directory / file).write_text("".join(tables) + text)
    (directory / file).chmod(0o644)


def test_the_peers_of_all_files_are_known_in_the_order_of_their_names(tmp_path: Path) -> None:
    define(tmp_path, "b.toml", "zoo", "bar")
    define(tmp_path, "a.toml", "foo")
    define(tmp_path, "empty.toml")
    (tmp_path / "note.txt").write_text("none")
    (tmp_path / "masked.toml").symlink_to("/dev/null")
    read = peers.read([OWN], tmp_path)
    assert list(read.by_name) == ["bar", "foo", "own", "zoo"]
    assert read.problems == ()
    assert read.get("foo") == Peer("foo", "10.0.0.2", 9737)


def test_a_missing_directory_is_an_empty_one(tmp_path: Path) -> None:
    assert peers.read([OWN], tmp_path / "none") == peers.Peers({"own": OWN})


def test_a_broken_file_counts_for_nothing_and_the_others_stay(tmp_path: Path) -> None:
    define(tmp_path, "good.toml", "good")
    define(tmp_path, "half.toml", "half", text="[[peer]]\nname = 3\n")
    define(tmp_path, "key.toml", "key", text="[other]\n")
    define(tmp_path, "not.toml", text="=")
    (tmp_path / "directory.toml").mkdir()
    read = peers.read([], tmp_path)
    assert list(read.by_name) == ["good"]
    assert [problem.removeprefix(f"{tmp_path}/") for problem in read.problems] == [
        "directory.toml: Is a directory",
        "half.toml: peer[2].name: must be a text in quotes, not 3",
        'half.toml: peer[2].address: is needed, such as "10.20.0.5:9737"',
        "key.toml: other: unknown key (known: peer)",
        "not.toml: not TOML: Invalid statement (at line 1, column 1)",
    ]


def test_a_name_that_is_used_twice_stays_with_the_first_and_both_places_are_told(tmp_path: Path) -> None:
    define(tmp_path, "a.toml", "own", "web")
    define(tmp_path, "b.toml", "db", "web")
    read = peers.read([OWN], tmp_path)
    assert list(read.by_name) == ["db", "own", "web"]
    assert read.by_name["own"] is OWN
    assert read.problems == (
        f'{tmp_path}/a.toml: peer[1].name: "own" is the name of agent.toml: relay.peer[1] too',
        f'{tmp_path}/b.toml: peer[2].name: "web" is the name of {tmp_path}/a.toml: peer[2] too',
    )


def test_files_that_others_could_change_are_not_read(tmp_path: Path) -> None:
    define(tmp_path, "open.toml", "open")
    (tmp_path / "open.toml").chmod(0o646)
    define(tmp_path, "good.toml", "good")
    (tmp_path / "link.toml").symlink_to(tmp_path / "good.toml")
    read = peers.read([], tmp_path)
    assert list(read.by_name) == ["good"]
    assert read.problems == (
        f"{tmp_path}/link.toml: is a symbolic link",
        f"{tmp_path}/open.toml: the file can be written by others (mode 646)",
    )
    stranger = peers.read([], tmp_path, frozenset({os.geteuid() + 1}))
    assert not stranger.by_name
    assert "belongs to user" in stranger.problems[0]


def test_an_unknown_name_is_answered_with_the_known_ones_and_not_with_thousands() -> None:
    known = peers.Peers({f"h{number:03}": OWN for number in range(1000)})
    with pytest.raises(PeerUnknown) as caught:
        known.get("\x1b" * 1000)
    assert str(caught.value).endswith("h023, h024 and 975 more")
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    with pytest.raises(PeerUnknown, match='no peer is called "x" here; known are none'):
        peers.Peers().get("x")
