"""Finding a text in contents."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.store.search import MAX_LINE, MAX_LINES, Line, Needle, is_text


def lines(needle: Needle, content: bytes, context: int = 0) -> list[tuple[int, str, bool]]:
    hit = needle.hit(content, context)
    return [(line.number, line.text, line.matches) for line in hit.lines] if hit else []


def test_a_text_is_found_as_it_is() -> None:
    assert lines(Needle("a.c"), b"abc\na.c\r\nxa.cx") == [(2, "a.c", True), (3, "xa.cx", True)]
    assert Needle("a.c").hit(b"abc") is None
    assert Needle("A").hit(b"a") is None
    assert lines(Needle("\xc4", ignore_case=True), "xä\n".encode()) == [(1, "xä", True)]
    assert lines(Needle("\udcff"), b"a\xffb") == [(1, "a\udcffb", True)]


def test_a_regular_expression_sees_one_line_at_a_time() -> None:
    needle = Needle(r"^b\s*$", regex=True)
    assert lines(needle, b"a\nb\nc") == [(2, "b", True)]
    assert Needle(r"a\sb", regex=True).hit(b"a\nb") is None


def test_lines_around_come_once() -> None:
    found = lines(Needle("x"), b"1\n2\nx\n4\nx\n6\n7\n", 1)
    assert found == [(2, "2", False), (3, "x", True), (4, "4", False), (5, "x", True), (6, "6", False)]


def test_many_matches_are_counted_and_the_first_kept() -> None:
    hit = Needle("x").hit(b"x\n" * (MAX_LINES + 5))
    assert hit is not None
    assert (len(hit.lines), hit.count, hit.lines[-1]) == (MAX_LINES, MAX_LINES + 5, Line(MAX_LINES, "x", True))


def test_a_regular_expression_does_not_see_the_end_of_an_endless_line() -> None:
    content = b"a" * MAX_LINE + b"b"
    assert Needle("b", regex=True).hit(content) is None
    assert Needle("b").hit(content) is not None


def test_zero_bytes_make_a_content_binary() -> None:
    assert is_text(b"\xff\x01")
    assert not is_text(b"text\0")


@pytest.mark.parametrize(("text", "regex"), [("", False), ("a\nb", False), ("(", True), ("a{99999999999}", True)])
def test_what_cannot_be_looked_for_is_told(text: str, regex: bool) -> None:
    with pytest.raises(UsageError):
        Needle(text, regex=regex)
