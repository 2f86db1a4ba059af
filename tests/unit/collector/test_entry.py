"""Names of extended attributes as text, and back."""

from hypothesis import given
from hypothesis import strategies as st
from pyrsyncbackup_collector.entry import attribute_name, attribute_text


@given(st.binary().map(lambda name: name.replace(b"\0", b"")))
def test_every_name_comes_back(name: bytes) -> None:
    assert attribute_name(attribute_text(name)) == name


@given(st.lists(st.binary(max_size=4).map(lambda name: name.replace(b"\0", b"")), unique=True))
def test_no_two_names_are_one_text(names: list[bytes]) -> None:
    assert len({attribute_text(name) for name in names}) == len(names)


def test_a_name_that_is_text_is_itself() -> None:
    for name in ("user.zürich", r"user.\xff", "security.capability"):
        assert attribute_text(name.encode()) == name


def test_a_text_makes_no_name_that_is_looked_out_for() -> None:
    assert attribute_name("security.capabilit\x0079") == b"security.capabilit\x0079"
