from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyrsyncbackup_agent.modules.detected import Root
from pyrsyncbackup_agent.modules.roots import Place, merge, resolve

ME = frozenset({0, os.geteuid()})
STRANGER = frozenset({os.geteuid() + 1})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A directory that only we can write to."""
    directory = Path(os.path.realpath(tmp_path)) / "base"
    directory.mkdir(mode=0o755)
    return directory


def below(path: Path) -> bytes:
    return os.fsencode(path).lstrip(b"/")


def test_a_directory_is_a_tree_and_a_file_an_entry_of_its_parent(base: Path) -> None:
    (base / "d").mkdir()
    (base / "f").touch()
    assert resolve(os.fsencode(base / "d"), ME) == ([Place(below(base / "d"))], "")
    assert resolve(os.fsencode(base / "f"), ME) == ([Place(below(base), b"f")], "")


def test_the_top_is_a_tree() -> None:
    assert resolve(b"/", ME) == ([Place(b"")], "")


def test_what_is_not_there_is_told_as_that(base: Path) -> None:
    with pytest.raises(FileNotFoundError):
        resolve(os.fsencode(base / "x"), ME)


def test_a_trusted_link_is_an_entry_and_so_is_where_it_leads(base: Path) -> None:
    (base / "real").mkdir()
    (base / "link").symlink_to("real")
    places, note = resolve(os.fsencode(base / "link"), ME)
    assert places == [Place(below(base), b"link"), Place(below(base / "real"), alias=below(base / "link"))]
    assert note == ""


def test_a_trusted_link_to_a_file_brings_the_file(base: Path) -> None:
    (base / "real").mkdir()
    (base / "real" / "f").touch()
    (base / "link").symlink_to(base / "real" / "f")
    places, _ = resolve(os.fsencode(base / "link"), ME)
    assert places[1] == Place(below(base / "real"), b"f", alias=below(base / "link"))


def test_a_trusted_link_above_the_path_gives_the_real_path_an_alias(base: Path) -> None:
    (base / "real" / "d").mkdir(parents=True)
    (base / "one").symlink_to("two")
    (base / "two").symlink_to("../base/real")
    places, note = resolve(os.fsencode(base / "one" / "d"), ME)
    assert places == [Place(below(base / "real" / "d"), alias=below(base / "one" / "d"))]
    assert note == ""


def test_a_dangling_link_is_kept_as_a_link(base: Path) -> None:
    (base / "link").symlink_to("nowhere")
    places, note = resolve(os.fsencode(base / "link"), ME)
    assert places == [Place(below(base), b"link")]
    assert note == f"{base}/link leads nowhere"


def test_a_loop_of_links_ends(base: Path) -> None:
    (base / "a").symlink_to("b")
    (base / "b").symlink_to("a")
    places, note = resolve(os.fsencode(base / "a"), ME)
    assert places == [Place(below(base), b"a")]
    assert "too many links" in note
    places, note = resolve(os.fsencode(base / "a" / "x"), ME)
    assert places == []


@pytest.mark.parametrize("target", ["/proc/self/mounts", "/dev/null", "/sys"])
def test_a_link_into_what_the_kernel_makes_up_is_kept_as_a_link(target: str, base: Path) -> None:
    (base / "link").symlink_to(target)
    places, note = resolve(os.fsencode(base / "link"), ME)
    assert places == [Place(below(base), b"link")]
    assert note.startswith(f"the link {base}/link leads into /")


def test_a_link_of_somebody_else_is_not_followed(base: Path) -> None:
    (base / "real" / "d").mkdir(parents=True)
    (base / "link").symlink_to("real")
    places, note = resolve(os.fsencode(base / "link"), STRANGER)
    assert places == [Place(below(base), b"link")]
    assert note == f"the link {base}/link belongs to user {os.geteuid()}, so it is not followed"
    assert resolve(os.fsencode(base / "link" / "d"), STRANGER) == ([], note)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_link_where_others_can_write_is_not_followed(mode: int, base: Path) -> None:
    (base / "real").mkdir()
    (base / "link").symlink_to("real")
    base.chmod(mode)
    _, note = resolve(os.fsencode(base / "link"), ME)
    assert note == f"the link {base}/link is not followed: others can write to {base}"


def test_a_link_below_a_directory_that_others_can_write_is_not_followed(base: Path) -> None:
    (base / "sub" / "real").mkdir(parents=True)
    (base / "sub" / "link").symlink_to("real")
    base.chmod(0o777)
    _, note = resolve(os.fsencode(base / "sub" / "link"), ME)
    assert note.endswith(f"others can write to {base}")


def test_overlapping_roots_merge_and_ids_follow_path_order() -> None:
    places = [
        Place(b"srv/b/inner"),
        Place(b"srv/b"),
        Place(b"srv/b", b"file"),
        Place(b"srv/b-c"),
        Place(b"etc", b"hosts"),
        Place(b"etc", b"motd", alias=b"old/motd"),
        Place(b"srv/b", alias=b"www"),
    ]
    assert merge(places) == (
        Root(1, b"etc", frozenset({b"hosts", b"motd"}), (b"old/motd",)),
        Root(2, b"srv/b", aliases=(b"www",)),
        Root(3, b"srv/b-c"),
    )


def test_the_top_covers_everything() -> None:
    assert merge([Place(b"etc"), Place(b""), Place(b"", b"x")]) == (Root(1, b""),)
