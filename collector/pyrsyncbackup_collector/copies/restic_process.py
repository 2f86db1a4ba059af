"""The one place that runs restic, and the file system through which it reads a snapshot."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pyrsyncbackup_collector.errors import CopyError, CopyRefused

_LOOK: Final = 0.1
# A mount is there after half a second, on a machine with nothing else to do.
_PATIENCE: Final = 60.0
_END: Final = 10.0


class Ended(NamedTuple):
    """How it ended."""

    code: int
    output: str
    words: str


def run(argv: Sequence[str], environment: Mapping[str, str], directory: Path | None = None) -> Ended:
    """Run restic in `directory` to its end. Raises CopyRefused if it cannot be started."""
    try:
        done = subprocess.run(
            argv, cwd=directory, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as fault:
        if directory is not None and not directory.is_dir():
            raise CopyError(f"there is no directory {directory}") from fault
        raise CopyRefused("restic is not installed", "install it: `apt-get install restic`") from fault
    except OSError as fault:
        raise CopyRefused(f"restic cannot be started: {fault.strerror}") from fault
    return Ended(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


@contextlib.contextmanager
def mounted(config: Path, wait: Callable[[float], None]) -> Iterator[Path]:
    """All snapshots as a file system, by the command `mount` of this program; ended afterwards. Raises CopyError."""
    with tempfile.TemporaryDirectory(prefix="pyrsyncbackup-export-") as folder:
        place = Path(folder, "snapshots")
        place.mkdir()
        # -P: a directory that is called like one of our packages, where somebody happens to stand, is not taken for it.
        ours = [sys.executable, "-P", "-m", "pyrsyncbackup_collector"]
        argv = [*ours, "mount", str(place), "--config", str(config)]
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
            try:
                waited = 0.0
                while not place.is_mount():
                    if process.poll() is not None or waited > _PATIENCE:
                        words.seek(0)
                        raise _not_shown(words.read().decode("utf-8", "replace"))
                    wait(_LOOK)
                    waited += _LOOK
                yield place
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(_END)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if os.path.ismount(place):
                    subprocess.run(["umount", "-l", str(place)], stdin=subprocess.DEVNULL, check=False)


def _not_shown(said: str) -> CopyError:
    """What `mount` said, its cause and its next step each in their place."""
    cause, _, hint = said.strip().removeprefix("error: ").partition("\n  next: ")
    return CopyError(
        f"the snapshots cannot be shown to restic: {cause or '`mount` said nothing'}", hint or "FUSE is needed for it"
    )
