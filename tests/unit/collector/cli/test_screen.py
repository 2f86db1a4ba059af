import io
import json
import re
import sys

import pytest
from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.screen import Column

HOSTILE = b"\x1b]0;owned\x07\x1b[2J[bold red]x[/] :smile: \xff\r\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def use_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_text_of_a_host_cannot_control_the_terminal_nor_use_markup(capsys):
    screen.say(HOSTILE)
    screen.table([Column("NAME")], [[screen.text(HOSTILE)], [HOSTILE.decode("latin-1")]])
    screen.error(HOSTILE.decode("latin-1"), HOSTILE.decode("latin-1"))
    shown = capsys.readouterr()
    assert "\x1b" not in shown.out + shown.err
    assert "\x07" not in shown.out + shown.err
    assert "\r" not in shown.out + shown.err
    assert "[bold red]x[/] :smile: \\xff\\r\\n" in shown.out


def test_a_pipe_gets_whole_aligned_lines_without_colour_and_trailing_blanks(capsys):
    long = "x" * 300
    screen.table([Column("NAME"), Column("SIZE", right=True)], [["a", "1"], [long, "1000"]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)
    assert lines[2].startswith(long)
    assert {len(line) for line in lines} == {300 + 2 + 4}


def test_a_terminal_that_is_too_narrow_loses_no_column_and_no_digit(monkeypatch):
    stream = use_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "20")
    columns = [Column("HOST", fold=True), Column("TAKEN"), Column("SIZE", right=True)]
    screen.table(columns, [["web1", "2026-11-25 21:18", "38.1 MiB"]])
    assert stream.getvalue().splitlines()[1] == "web1  2026-11-25 21:18  38.1 MiB"


def test_a_long_table_has_one_heading_and_pages_that_get_no_narrower(capsys, monkeypatch):
    monkeypatch.setattr(screen, "PAGE", 2)
    taken = []

    def rows():
        for name, size in (("a", "1"), ("longer", "1000"), ("b", "2"), ("c", "3"), ("d", "4")):
            taken.append(name)
            yield [name, size]

    screen.table([Column("NAME"), Column("SIZE", right=True)], rows())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", *taken]
    assert {len(line) for line in lines} == {len("longer") + 2 + 4}


def test_a_terminal_gets_colour_unless_no_color_is_set(monkeypatch):
    terminal = use_terminal(monkeypatch)
    screen.say("fine", screen.GOOD)
    assert "\x1b[32m" in terminal.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.truncate(0)
    screen.say("fine", screen.GOOD)
    assert "\x1b[32m" not in terminal.getvalue()


def test_a_sentence_is_folded_between_words_on_a_terminal_and_whole_in_a_pipe(monkeypatch, capsys):
    words = ", ".join(["copy disk2 13m ago"] * 8)
    screen.sentence(words)
    assert capsys.readouterr().out == f"{words}\n"
    terminal = use_terminal(monkeypatch)
    screen.sentence(words)
    lines = [line.rstrip() for line in terminal.getvalue().splitlines()]
    assert len(lines) > 1
    assert " ".join(lines) == words


def test_on_a_narrow_terminal_the_folding_column_takes_several_lines_and_loses_nothing(monkeypatch):
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    reason = " ".join(["because"] * 30)
    screen.table([Column("NAME"), Column("REASON", fold=True)], [["nginx", reason]])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert terminal.getvalue().count("because") == 30


def test_json_is_one_document_in_which_no_control_character_is_raw(capsys):
    screen.json({"name": "\x1b[2J\x9b2J\x7f"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": "\x1b[2J\x9b2J\x7f"}
    assert not any(0x7F <= ord(char) <= 0x9F or char == "\x1b" for char in shown)


@pytest.mark.parametrize("items", [[], [1], [{"a": ["\x1b"], "b": {}}, "\x9b2J"]])
def test_a_long_list_of_json_is_the_same_document(capsys, items):
    screen.json({"before": {"x": 1}, "every \x9b": items})
    expected = capsys.readouterr().out
    screen.json_list({"before": {"x": 1}}, "every \x9b", iter(items))
    assert capsys.readouterr().out == expected


def test_json_escapes_marks_of_writing_direction_and_stays_the_same_document(capsys):
    value = "\u202eesrever\u2066 \u2028 \U000e0001 \u00e4\u4e2d \U0001f604"
    screen.json({"name": value})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": value}
    assert "\u00e4\u4e2d \U0001f604" in shown
    assert not any(char in shown for char in "\u202e\u2066\u2028\U000e0001")
