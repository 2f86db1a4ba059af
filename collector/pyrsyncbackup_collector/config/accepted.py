"""The files of hosts that were found through relays and taken in: plain ones, to be edited like those in hosts.d."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pyrsyncbackup.identity import write_atomically

from pyrsyncbackup_collector.config.load import ACCEPTED_DIRECTORY
from pyrsyncbackup_collector.config.model import Config
from pyrsyncbackup_collector.errors import ConfigError

_TEXT = """\
# Taken in {how}, {when}. Edit it like a file of hosts.d, or move it there.
[[host]]
name = "{name}"
via = "{relay}"
peer = "{peer}"
"""


def write(config: Config, *, name: str, relay: str, peer: str, how: str, when: str) -> Path:
    """Define the host `name` behind `relay`, which calls it `peer`; names were checked. Returns the file.

    Raises ConfigError if there is such a file, whatever is in it now, or it cannot be written. A configuration that is
    loaded afterwards has the host.
    """
    file = config.state / ACCEPTED_DIRECTORY / f"{name}.toml"
    draft = file.with_name(f".{name}.draft")
    text = _TEXT.format(name=name, relay=relay, peer=peer, how=how, when=when)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(draft, text.encode(), 0o600)
        _give_to_owner(config.state, file.parent, draft)
        os.link(draft, file)
    except FileExistsError:
        raise ConfigError([f"{file}: exists already"], "move it away, or choose another name with --as") from None
    except OSError as error:
        raise ConfigError(
            [f"{file}: cannot be written: {error.strerror}"], "run it as the collector's user, who owns that directory"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return file


def _give_to_owner(state: Path, *paths: Path) -> None:
    """What root writes here the collector's user has to read."""
    if os.geteuid() == 0:
        owner = state.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
