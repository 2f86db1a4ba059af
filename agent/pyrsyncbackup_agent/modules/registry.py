"""The modules of this host, always as they are now.

Definitions are read again when a file in the module directories changed; detection runs whenever somebody asks, which
costs a few milliseconds, so that newly installed software appears by itself. Who wants to be told registers with
`watch`: only then does a thread look every few seconds. Thread-safe.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from pyrsyncbackup_agent.errors import ModuleNotReady, ModuleUnknown
from pyrsyncbackup_agent.modules import sources
from pyrsyncbackup_agent.modules.detected import DetectedModule, ModuleState
from pyrsyncbackup_agent.modules.detection import detect
from pyrsyncbackup_agent.modules.host import Host
from pyrsyncbackup_agent.settings import Settings

WATCH_INTERVAL = 5.0  # seconds; a look costs milliseconds, and nobody waits for it at a screen


class Registry:
    """Knows every defined module and looks up its present state.

    `trusted_uids` are the owners whose links are followed at detection (root); the agent's own user is trusted besides
    for definition files only.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        trusted_uids: frozenset[int] = frozenset({0}),
        host: Host | None = None,
        catalogue: Path | None = sources.CATALOGUE,
        watch_interval: float = WATCH_INTERVAL,
    ) -> None:
        self._directories = settings.module_dirs
        self._catalogue = catalogue
        self._trusted_links = trusted_uids
        self._trusted_files = trusted_uids | {0, os.geteuid()}
        self._host = host or Host()
        self._lock = threading.Lock()
        self._sources = sources.Sources({}, ())
        self._signature: object = None
        self._last: tuple[DetectedModule, ...] | None = None
        self._generation = 0
        self._watchers: dict[object, Callable[[int], None]] = {}
        self._interval = watch_interval
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def generation(self) -> int:
        """Grows whenever `modules` finds something different from the time before."""
        return self._generation

    def modules(self) -> list[DetectedModule]:
        """Every defined module as it is now, in the order of names."""
        with self._lock:
            current = self._current_sources()
            detected = tuple(self._detect(source) for source in current.by_name.values())
            changed = detected != self._last
            if changed:
                self._last = detected
                self._generation += 1
            generation, watchers = self._generation, list(self._watchers.values()) if changed else []
        for callback in watchers:
            callback(generation)
        return list(detected)

    def problems(self) -> tuple[str, ...]:
        """What is wrong with files and directories that define no module, one line each."""
        with self._lock:
            return self._current_sources().problems

    def get(self, name: str) -> DetectedModule:
        """The module as it is now, if it is ready; ModuleUnknown names the known ones, ModuleNotReady the reason."""
        with self._lock:
            current = self._current_sources()
        source = current.by_name.get(name)
        if source is None:
            known = ", ".join(current.by_name) or "none"
            raise ModuleUnknown(f"no module is named {name!r}", f"known modules: {known}")
        module = self._detect(source)
        if module.state is not ModuleState.READY:
            raise ModuleNotReady(f"module {module.state.value}: {module.reason}")
        return module

    def reload(self) -> None:
        """Read all definition files anew at the next question, changed or not."""
        with self._lock:
            self._signature = None
        self._wake.set()

    def watch(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with the generation after each change, until the returned function is called.

        It is called from any thread and must not block.
        """
        key = object()
        with self._lock:
            self._watchers[key] = callback
            if self._thread is None:
                self._wake.clear()
                self._thread = threading.Thread(target=self._look, name="modules-watch", daemon=True)
                self._thread.start()

        def stop() -> None:
            with self._lock:
                self._watchers.pop(key, None)
            self._wake.set()

        return stop

    def _look(self) -> None:
        while True:
            with self._lock:
                if not self._watchers:
                    self._thread = None
                    return
            with contextlib.suppress(OSError):
                self.modules()
            self._wake.wait(self._interval)
            self._wake.clear()

    def _current_sources(self) -> sources.Sources:
        signature = sources.signature(self._directories)
        if signature != self._signature:
            self._sources = sources.read(self._directories, self._trusted_files, self._catalogue)
            self._signature = signature
        return self._sources

    def _detect(self, source: sources.Source) -> DetectedModule:
        return detect(source, self._host, self._trusted_links)
