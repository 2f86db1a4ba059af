"""Options and exit codes that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from pyrsyncbackup_collector.cli import screen

DEFAULT_CONFIG: Final = Path("/etc/pyrsyncbackup/collector.toml")
CONFIG_VARIABLE: Final = "PYRSYNCBACKUP_CONFIG"

# A pull or a restore that did its work, but not all of it.
PARTIAL: Final = 13
# Something in the store is not what was put there.
DAMAGE: Final = 15
# Apart from all codes of failures: the command worked, what it looked at is not well.
PROBLEMS: Final = 14

_MEANINGS: Final = {
    0: "all went well",
    1: "something else failed",
    2: "the command line is wrong",
    3: "the configuration is wrong",
    4: "no such host, module, snapshot or path",
    5: "a host or its agent cannot be reached, or trust is missing",
    6: "the agent cannot offer the module now",
    7: "the agent sent what no honest agent sends",
    8: "the transfer failed",
    9: "no sandbox works on this machine",
    10: "the store cannot be used",
    11: "the catalog cannot be used",
    12: "the target cannot take what is restored",
    PARTIAL: "partly done: what is missing is listed",
    DAMAGE: "damage was found: it is listed",
    16: "a second copy cannot be used",
    130: "stopped by Ctrl-C or SIGTERM",
}


def exit_codes(*codes: int, **also: str) -> str:
    """The end of a command's help: its exit codes, 2 and 3 included; `_14="..."` gives one a meaning of its own."""
    meanings = {code: _MEANINGS[code] for code in (0, 1, 2, 3, *codes)}
    meanings |= {int(name[1:]): meaning for name, meaning in also.items()}
    lines = [f"{code:>5}  {meaning}" for code, meaning in sorted(meanings.items())]
    return "\b\nExit codes:\n" + "\n".join(lines)


# Stands for a --config that was not written, and cannot exist; None would be a case for every command.
NOT_GIVEN: Final = Path("/dev/null/no-config-given")


def _nearest(context: typer.Context, value: Path) -> Path:
    """The command's own --config, else the one before the command, else the environment's, else the default."""
    top = context.find_root()
    before = top.params.get("config")
    source = top.get_parameter_source("config")
    typed = value if value != NOT_GIVEN else before if source is not None and source.name == "COMMANDLINE" else None
    screen.typed_config.set(str(typed) if isinstance(typed, Path) else "")
    if value != NOT_GIVEN:
        return value
    return before if isinstance(before, Path) else DEFAULT_CONFIG


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_nearest,
        show_default=False,
        help=f"Configuration. [default: ${CONFIG_VARIABLE}, else {DEFAULT_CONFIG}]",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        "--store",
        metavar="COPY",
        show_default=False,
        help="Read a second copy: its name, a directory, ssh://... or s3://...; needs no configuration then.",
    ),
]

IdentityOption = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        metavar="FILE",
        show_default=False,
        help="Secret key of an encrypted copy, in a file with mode 0600.",
    ),
]
