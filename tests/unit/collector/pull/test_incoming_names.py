"""Names come in the order of the listing: into directories, out of them, and back to the top."""

import os

from pyrsyncbackup_collector.pull.incoming import Incoming


def test_a_file_of_the_top_is_found_after_one_of_a_subdirectory(tmp_path):
    names = [b"a", b"b/c/d", b"b/e", b"f", b"g/h", b"i"]
    for name in names:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    with Incoming(tmp_path) as incoming:
        for name in names:
            fd = incoming.open(name)
            assert fd is not None, name
            with open(fd, "rb") as file:
                assert file.read() == name


def test_a_directory_that_is_not_there_does_not_lead_elsewhere(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "f").write_bytes(b"another")
    (tmp_path / "f").write_bytes(b"f")
    with Incoming(tmp_path) as incoming:
        assert incoming.open(b"b/gone/d") is None
        fd = incoming.open(b"f")
        assert fd is not None
        with open(fd, "rb") as file:
            assert file.read() == b"f"
