"""A copy in a directory of another machine, by rsync over OpenSSH: all that machine needs is an account and rsync."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.config.copies import SshPlace
from pyrsyncbackup_collector.copies import rsync_command, rsync_outcome, rsync_process
from pyrsyncbackup_collector.copies.proven import NO_SUMS, Sums
from pyrsyncbackup_collector.copies.rsync_outcome import Ended
from pyrsyncbackup_collector.copies.target import Listed
from pyrsyncbackup_collector.errors import CopyMissing, CopyRefused, CopyUnreachable

# Seconds to wait before a run that failed in passing is tried again.
PAUSES: Final = (2.0, 10.0)


class SshTarget:
    """The Target at `place`. `wait` lets so many seconds pass, or raises to end it all; `check` likewise at once."""

    def __init__(
        self,
        place: SshPlace,
        *,
        key: Path | None,
        known_hosts: Sequence[Path],
        connect: float,
        check: Callable[[], None],
        wait: Callable[[float], None],
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        user = f"{place.user}@" if place.user else ""
        self.where = f"ssh://{user}{place.host}{f':{place.port}' if place.port else ''}{place.path}"
        self._place, self._key, self._known_hosts = place, key, known_hosts
        self._check, self._wait, self._pauses = check, wait, pauses
        # A short name without spaces, whatever TMPDIR says: a Unix socket is made in it, and rsync splits its name.
        self._folder = Path(tempfile.mkdtemp(prefix="pyrsyncbackup-", dir="/tmp"))
        self._config = self._folder / "ssh_config"
        self._config.write_text(
            rsync_command.ssh_config(place, key, known_hosts, self._folder / "control", connect), "utf-8"
        )
        self._durable = True

    def read(self, name: str) -> bytes | None:
        """By fetching it."""
        with self._scratch() as root:
            self.fetch(root, [name])
            file = root / name
            return file.read_bytes() if file.exists() else None

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """By one list."""
        if not names:
            return {}
        with self._scratch() as nothing, self._names(names) as file:
            ended = self._run(rsync_command.sizes(self._place, self._config, nothing, file))
        return dict(rsync_outcome.listed(ended.output))

    def walk(self, prefix: str) -> Iterator[Listed]:
        """By one list; the place itself must be there, what is below it need not."""
        try:
            ended = self._run(rsync_command.listing(self._place, self._config, prefix))
        except CopyMissing:
            if not prefix:
                raise
            return
        yield from rsync_outcome.listed(ended.output, prefix)

    def put(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:  # noqa: ARG002 - rsync reads
        """In one run, which leaves alone what is there."""
        self._upload(root, names, replace=False)

    def replace(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:  # noqa: ARG002 - rsync reads
        """In one run; each file is written under another name, then renamed."""
        self._upload(root, names, replace=True)

    def _upload(self, root: Path, names: Sequence[str], *, replace: bool) -> None:
        if not names:
            return
        with self._names(names) as file:

            def argv() -> list[str]:
                place, durable = self._place, self._durable
                return rsync_command.upload(place, self._config, root, file, replace=replace, durable=durable)

            ended = self._once(argv())
            if self._durable and rsync_outcome.has_no_fsync(ended):
                self._durable = False
                ended = self._once(argv())
            if ended.code != 0:
                self._run(argv(), ended)

    def fetch(self, root: Path, names: Sequence[str]) -> None:
        """In one run."""
        if not names:
            return
        with self._names(names) as file:
            self._run(rsync_command.download(self._place, self._config, root, file))

    def delete(self, names: Sequence[str]) -> None:
        """In one run from an empty tree."""
        if not names:
            return
        with self._scratch() as nothing, self._names(names) as file:
            for parent in {Path(name).parent for name in names}:
                (nothing / parent).mkdir(parents=True, exist_ok=True)
            self._run(rsync_command.delete(self._place, self._config, nothing, file))

    def close(self) -> None:
        """End the connection, and forget what was written for it."""
        if (self._folder / "control").exists():
            # One that cannot be ended now ends by itself, and what was copied is copied.
            with contextlib.suppress(CopyRefused, OSError):
                rsync_process.run(rsync_command.end(self._place, self._config), lambda: None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _once(self, argv: Sequence[str]) -> Ended:
        return rsync_process.run(argv, self._check)

    def _run(self, argv: Sequence[str], ended: Ended | None = None) -> Ended:
        """Run it until it ends well, is tried often enough, or fails for a reason that stays."""
        for pause in (*self._pauses, None):
            ended = ended or self._once(argv)
            if ended.code == 0:
                return ended
            known_hosts = str(self._known_hosts[0]) if self._known_hosts else "known_hosts"
            key = f"the public key of {self._key}" if self._key else "your public key"
            error = rsync_outcome.failure(self.where, ended, key, known_hosts)
            if pause is None or not isinstance(error, CopyUnreachable):
                raise error
            self._wait(pause)
            ended = None
        raise AssertionError("the last try returns or raises")

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            yield Path(folder)

    @contextlib.contextmanager
    def _names(self, names: Sequence[str]) -> Iterator[Path]:
        with tempfile.NamedTemporaryFile(dir=self._folder) as file:
            file.write("".join(f"{name}\0" for name in names).encode())
            file.flush()
            yield Path(file.name)
