"""Addresses as settings write them: "host:port", and "[address]:port" for IPv6."""

from __future__ import annotations

import ipaddress
import re

_ADDRESS = re.compile(r"(?:\[(?P<six>[^\s\[\]]+)\]|(?P<host>[^\s\[\]:]+)):(?P<port>[0-9]{1,5})\Z")


def split(address: str) -> tuple[str, int]:
    """Host and port (0 to 65535), the host without brackets; ValueError if it is no address."""
    match = _ADDRESS.match(address)
    if match is None or int(match["port"]) > 65535:
        raise ValueError(f'{address!r} is not "address:port", such as "127.0.0.1:9737" or "[::1]:9737"')
    if match["six"]:
        try:
            ipaddress.IPv6Address(match["six"])
        except ValueError:
            raise ValueError(f"{address!r}: there is no IPv6 address between the brackets") from None
    return match["six"] or match["host"], int(match["port"])
