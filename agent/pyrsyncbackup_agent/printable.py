"""Text of a host on a terminal or in a log: control characters and broken encodings are escaped, never passed on."""

from __future__ import annotations

import os


def printable(value: bytes | str) -> str:
    r"""`value` with what cannot be printed as \n, \x1b or \u202e; other characters, the backslash too, as they are."""
    text = os.fsdecode(value) if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
