"""The second copy that a command reads in the place of the store: one that is configured, or any, by where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector.config import Config
from pyrsyncbackup_collector.config.copies import place as parse_place
from pyrsyncbackup_collector.config.model import Limits, PolicySettings, Space, Upkeep
from pyrsyncbackup_collector.copies import opening, reading
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.daemon.copying import named
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.pull.cancel import Cancel
from pyrsyncbackup_collector.store.signature import Signer
from pyrsyncbackup_collector.store.store import Store


@dataclass(frozen=True, slots=True)
class Source:
    """A copy to read. `connect` opens its place."""

    connect: Callable[[], Target]
    identity: Path | None

    @staticmethod
    def is_place(text: str) -> bool:
        """Whether it says where, and is no name."""
        return "/" in text or text in (".", "..")

    @classmethod
    def at(cls, text: str, identity: Path | None) -> Source:
        """Where `text` says: a directory, ssh://... or s3://... Raises UsageError."""
        try:
            place = parse_place(text if "://" in text else str(Path(text).absolute()))
        except ValueError as fault:
            raise UsageError(str(fault)) from None
        cancel = Cancel()
        return cls(lambda: opening.open_unconfigured(place, cancel.check, cancel.wait), identity)

    @classmethod
    def named(cls, config: Config, name: str, identity: Path | None) -> Source:
        """The configured copy of that name. Raises NotFound."""
        copy = named(config, name)
        cancel = Cancel()
        return cls(lambda: opening.open_target(config, copy, cancel.check, cancel.wait), identity)

    @contextmanager
    def opened(self, only: str = "", signer: Signer | None = None) -> Iterator[Store]:
        """The copy as an open store."""
        with closing(self.connect()) as target, reading.opened(target, self.identity, only, signer) as store:
            yield store


def no_configuration() -> Config:
    """What stands in for a configuration after a disaster: no hosts, and no place that could be written to."""
    nowhere = Path("/nonexistent")
    return Config(
        file=nowhere,
        store=nowhere,
        catalog=nowhere,
        state=nowhere,
        runtime=nowhere,
        mirror_dir=nowhere,
        sandbox="require",
        limits=Limits(),
        space=Space(),
        upkeep=Upkeep(),
        policy=PolicySettings(),
        rules=(),
        hosts=(),
    )
