"""What both sides of the wire must agree on: messages, names, keys, the proof of an invitation."""

import re

# Both ends included. A new number is needed when an old peer would misunderstand, not for new fields.
PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

DEFAULT_AGENT_PORT = 9737

# Names of hosts and modules: safe as a file name, in a URL and on a terminal.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def valid_name(name: str) -> bool:
    """Whether `name` can name a host or a module (DESIGN section 5)."""
    return NAME.match(name) is not None
