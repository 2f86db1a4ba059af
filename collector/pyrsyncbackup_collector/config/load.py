"""Read collector.toml and hosts.d/*.toml beside it: everything is right, or all problems are told at once.

Each problem is one line: file, line where it can be had, key, what is wrong. Nothing is opened or created but the
configuration files themselves.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

import tomllib
from pydantic import BaseModel, ValidationError

from pyrsyncbackup_collector.config import copies, hops
from pyrsyncbackup_collector.config.lines import Location, line_of, locate
from pyrsyncbackup_collector.config.model import CollectorFile, Config, CopyConfig, HostConfig, HostsFile, Rule
from pyrsyncbackup_collector.errors import ConfigError

DEFAULT_FILE: Final = Path("/etc/pyrsyncbackup/collector.toml")
HOSTS_DIRECTORY: Final = "hosts.d"
# In the state directory: hosts that were found through relays and taken in, a file for each.
ACCEPTED_DIRECTORY: Final = "accepted"

M = TypeVar("M", bound=HostsFile)


@dataclass
class _Source:
    """One file while it is read."""

    path: Path
    lines: dict[Location, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def problem(self, location: Location, text: str) -> None:
        """Note that something is wrong with the key at `location` (empty: with the file)."""
        line = line_of(self.lines, location)
        place = f"{self.path}:{line}" if line else f"{self.path}"
        key = _key(location)
        self.problems.append(f"{place}: {key}: {text}" if key else f"{place}: {text}")


_NO_FILE = (
    "name the right one with --config FILE or the environment's PYRSYNCBACKUP_CONFIG; "
    "where there is none yet, `pyrsyncbackup init DIR` writes it"
)


def load(path: Path) -> Config:
    """The configuration of `path` and the hosts.d beside it. Raises ConfigError with all problems."""
    path = path.absolute()
    try:
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError([f"{path}: does not exist"], _NO_FILE) from None
    except IsADirectoryError:
        raise ConfigError([f"{path}: is a directory"], f"name the file in it: {path}/collector.toml") from None
    except PermissionError:
        raise ConfigError([f"{path}: cannot be read by this user"], "run it as the collector's user") from None
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"], _NO_FILE) from error
    source = _Source(path)
    main = _read(source, CollectorFile)
    problems = source.problems
    problems += _copies_twice(source, main) + _one_in_another(source, main)
    hosts: list[tuple[_Source, Location, HostConfig]] = _hosts(source, main)
    rules: list[Rule] = list(main.rule) if main else []
    for extra in _further_files(path, main):
        source = _Source(extra)
        part = _read(source, HostsFile)
        hosts += _hosts(source, part)
        rules += part.rule if part else ()
        problems += source.problems
    # A host that could not be read would be missing in the ways of others.
    problems += _duplicates(hosts) + ([] if problems else _hop_problems(hosts))
    if problems or main is None:
        raise ConfigError(problems)
    return _assemble(path, main, tuple(rules), tuple(host for _, _, host in hosts))


def _read(source: _Source, model: type[M]) -> M | None:
    try:
        text = source.path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError:
        source.problem((), "does not exist")
        return None
    except OSError as error:
        source.problem((), f"cannot be read: {error.strerror}")
        return None
    except UnicodeDecodeError:
        source.problem((), "is not UTF-8 text")
        return None
    except tomllib.TOMLDecodeError as error:
        source.problem((), f"is not valid TOML: {_lower(str(error))}")
        return None
    source.lines = locate(text)
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        for fault in sorted(faults, key=lambda fault: line_of(source.lines, fault["loc"]) or 0):
            source.problem(fault["loc"], _explain(fault, model))
        return None


def _hosts(source: _Source, part: HostsFile | None) -> list[tuple[_Source, Location, HostConfig]]:
    if part is None:
        return []
    return [(source, ("host", index, "name"), host) for index, host in enumerate(part.host)]


def _further_files(path: Path, main: CollectorFile | None) -> list[Path]:
    state = path.parent / main.state.expanduser() if main and main.state else path.parent
    directories = (path.parent / HOSTS_DIRECTORY, state / ACCEPTED_DIRECTORY)
    return [file for directory in directories for file in sorted(directory.glob("*.toml"))]


def _hop_problems(hosts: list[tuple[_Source, Location, HostConfig]]) -> list[str]:
    places = {host.name: (source, location[:2]) for source, location, host in hosts}
    problems = []
    for host, location, text in hops.faults({host.name: host for _, _, host in hosts}):
        source, table = places[host.name]
        apart = _Source(source.path, source.lines)
        apart.problem((*table, *location), text)
        problems += apart.problems
    return problems


def _duplicates(hosts: list[tuple[_Source, Location, HostConfig]]) -> list[str]:
    problems: list[str] = []
    first: dict[str, str] = {}
    for source, location, host in hosts:
        line = line_of(source.lines, location)
        place = f"{source.path}:{line}" if line else f"{source.path}"
        if host.name in first:
            problems.append(f'{place}: {_key(location)}: "{host.name}" is defined already in {first[host.name]}')
        else:
            first[host.name] = place
    return problems


def _copies_twice(source: _Source, main: CollectorFile | None) -> list[str]:
    apart = _Source(source.path, source.lines)
    names = [copy.name for copy in main.copies] if main else []
    for index, name in enumerate(names):
        if name in names[:index]:
            apart.problem(("copy", index, "name"), f'"{name}" is the name of another copy already')
    places = [copies.where(copy.to) for copy in main.copies] if main else []
    for index, place in enumerate(places):
        # Directories are looked at more closely, beside the store.
        if place in places[:index] and not place.startswith("/"):
            apart.problem(("copy", index, "to"), f'"{place}" is the place of another copy already')
    return apart.problems


def _one_in_another(source: _Source, main: CollectorFile | None) -> list[str]:
    """Mirrors and copies on this machine that the store, or one another, would take for its own."""
    apart = _Source(source.path, source.lines)
    if main is None:
        return []
    taken = {"the store": _normal(source.path.parent, main.store)}
    mirror = _normal(source.path.parent, _mirror_dir(main))
    places: list[tuple[Location, str, Path]] = [(("mirror_dir",), "the place of mirrors", mirror)]
    for index, copy in enumerate(main.copies):
        if isinstance(copy.to, copies.DirectoryPlace):
            places.append((("copy", index, "to"), f"copy {copy.name}", _normal(source.path.parent, copy.to.path)))
    for location, name, place in places:
        for other, path in taken.items():
            if place == path or path in place.parents or place in path.parents:
                how = "is" if place == path else "is in" if path in place.parents else "holds"
                apart.problem(location, f'"{place}" {how} {other}, {path}: each needs a directory of its own')
        taken.setdefault(name, place)
    return apart.problems


def _mirror_dir(main: CollectorFile) -> Path:
    # Beside the store: below it would be taken for a part of it.
    return main.mirror_dir or main.store.with_name(f"{main.store.name}-mirror")


def _normal(base: Path, path: Path) -> Path:
    return Path(os.path.normpath(base / path.expanduser()))


def _assemble(path: Path, main: CollectorFile, rules: tuple[Rule, ...], hosts: tuple[HostConfig, ...]) -> Config:
    base = path.parent

    def absolute(value: Path) -> Path:
        return base / value.expanduser()

    return Config(
        file=path,
        store=absolute(main.store),
        catalog=absolute(main.catalog),
        state=absolute(main.state) if main.state else base,
        runtime=absolute(main.runtime) if main.runtime else _default_runtime(path),
        mirror_dir=absolute(_mirror_dir(main)),
        sandbox=main.sandbox,
        limits=main.limits,
        upkeep=main.upkeep,
        space=main.space,
        policy=main.policy,
        rules=rules,
        hosts=tuple(_with_paths(host, absolute) for host in hosts),
        copies=tuple(_copy_with_paths(copy, absolute) for copy in main.copies),
    )


def _with_paths(host: HostConfig, absolute: Any) -> HostConfig:
    changes = {
        name: absolute(value) for name in ("key", "known_hosts") if (value := getattr(host.ssh, name)) is not None
    }
    return host.model_copy(update={"ssh": host.ssh.model_copy(update=changes)}) if changes else host


def _copy_with_paths(copy: CopyConfig, absolute: Any) -> CopyConfig:
    changes = {name: absolute(value) for name in ("credentials", "key") if (value := getattr(copy, name)) is not None}
    return copy.model_copy(update=changes)


def _default_runtime(path: Path) -> Path:
    """A short private directory, as Unix sockets allow 107 bytes; one for each configuration file."""
    own = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    if os.access("/run/pyrsyncbackup", os.W_OK) or os.geteuid() == 0:
        return Path("/run/pyrsyncbackup", own)
    session = os.environ.get("XDG_RUNTIME_DIR")
    if session and os.access(session, os.W_OK):
        return Path(session, "pyrsyncbackup", own)
    return Path(tempfile.gettempdir(), f"pyrsyncbackup-{os.geteuid()}", own)


def _key(location: Location) -> str:
    """As in `host[1].ssh.port`; positions count from 1."""
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _explain(fault: Any, model: type[BaseModel]) -> str:
    kind, given, context = fault["type"], fault["input"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + _suggestion(str(fault["loc"][-1]), _known_keys(model, fault["loc"][:-1]))
    if kind == "value_error":
        return str(context["error"])
    sentences = {
        "missing": "is missing",
        "string_type": f"must be text, not {_shown(given)}",
        "int_type": f"must be a whole number, not {_shown(given)}",
        "int_from_float": f"must be a whole number, not {_shown(given)}",
        "bool_type": f"must be true or false, not {_shown(given)}",
        "greater_than_equal": f"must be at least {context.get('ge')}, not {_shown(given)}",
        "less_than_equal": f"must be at most {context.get('le')}, not {_shown(given)}",
        "literal_error": f"must be {_quoted(context.get('expected', ''))}, not {_shown(given)}",
        "model_type": f"must be a table, not {_shown(given)}",
        "tuple_type": f"must be a list, not {_shown(given)}",
    }
    return sentences.get(kind, _lower(fault["msg"]))


def _known_keys(model: type[BaseModel], location: Location) -> list[str]:
    for part in location:
        if isinstance(part, str):
            by_key = {field.alias or name: field for name, field in model.model_fields.items()}
            model = _model_in(by_key[part].annotation)
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(found for argument in get_args(annotation) if (found := _model_in(argument)) is not BaseModel)


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known)}"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list | tuple) else str(value)


def _quoted(expected: str) -> str:
    return expected.replace("'", '"')


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
