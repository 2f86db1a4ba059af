"""One module definition: what its TOML file says, checked as strictly as the agent's own settings.

A definition decides what a privileged reader reads and which commands run, so nothing in it is guessed: whatever does
not fit makes the module invalid, with every problem in one line. What the host has is `detection`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyrsyncbackup import valid_name

from pyrsyncbackup_agent import patterns, toml
from pyrsyncbackup_agent.patterns import Rules
from pyrsyncbackup_agent.toml import Table

KEEP_RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
HOOK_TIMEOUT = 600  # seconds; a dump of a small database takes a few, a large one says so itself


@dataclass(frozen=True)
class Detect:
    """When a module is there: any one that holds is enough. All empty: one of the module's paths exists."""

    paths: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    @property
    def by_paths_alone(self) -> bool:
        """Whether nothing is said, so that the module's own paths decide."""
        return not (self.paths or self.commands or self.packages or self.units)


@dataclass(frozen=True)
class Hooks:
    """Commands around a backup, each an argument list; `timeout` in seconds holds for each of them."""

    before: tuple[tuple[str, ...], ...] = ()
    after: tuple[tuple[str, ...], ...] = ()
    timeout: int = HOOK_TIMEOUT

    def __bool__(self) -> bool:
        """Whether there is any command."""
        return bool(self.before or self.after)


@dataclass(frozen=True)
class Hints:
    """What the definition proposes for the collector's policy: intervals such as "15m", retention counts by rule."""

    check: str = ""
    pull: str = ""
    keep: dict[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Validator:
    """How a restore of the module is tried out: an argument list in which {root} stands for where it was restored.

    `beside` are other modules that it needs, `directories` empty ones that the program expects.
    """

    command: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Definition:
    """A definition that parsed. `paths` are absolute and may hold globs."""

    name: str
    title: str
    paths: tuple[str, ...]
    rules: Rules = field(default_factory=Rules)
    detect: Detect = field(default_factory=Detect)
    hooks: Hooks = field(default_factory=Hooks)
    hints: Hints = field(default_factory=Hints)
    validator: Validator = field(default_factory=Validator)


def parse(name: str, content: bytes) -> Definition | None:
    """The definition in `content`; None if it defines nothing (empty or comments only), which masks the module.

    Raises ValueError with all problems in one line.
    """
    values = toml.parse(content)
    if not values:
        return None
    table = Table(values, [])
    definition = Definition(
        name=name,
        title=table.text("title", name),
        paths=_paths(table, "paths"),
        rules=_rules(table),
        detect=_detect(table.table("detect")),
        hooks=_hooks(table.table("hooks")),
        hints=_hints(table.table("hints")),
        validator=_validator(table.table("validate")),
    )
    if not definition.paths and not any(problem.startswith("paths:") for problem in table.problems):
        table.problem("paths", "at least one is needed")
    table.done()
    if table.problems:
        raise ValueError("; ".join(table.problems))
    return definition


def _paths(table: Table, key: str) -> tuple[str, ...]:
    paths = table.texts(key)
    for path in paths:
        if fault := _path_fault(path):
            table.problem(key, f"{path!r} {fault}")
    return tuple(path.rstrip("/") or "/" for path in paths)


def _path_fault(path: str) -> str:
    if not path.startswith("/"):
        return "is not absolute"
    if "\0" in path or "\n" in path:
        return "holds a line break or a NUL"
    if any(part in (".", "..") for part in path.split("/")) or "//" in path:
        return "holds an empty, . or .. component"
    return ""


def _rules(table: Table) -> Rules:
    checked: dict[str, tuple[bytes, ...]] = {}
    for key in ("include", "exclude"):
        lines = [text.encode() for text in table.texts(key)]
        for line in lines:
            if fault := patterns.problem(line):
                table.problem(key, f"pattern {line.decode()!r} {fault}")
        checked[key] = tuple(line for line in lines if not patterns.problem(line))
    return Rules(includes=checked["include"], excludes=checked["exclude"])


def _detect(table: Table) -> Detect:
    detect = Detect(
        paths=_paths(table, "paths"),
        commands=table.texts("commands"),
        packages=table.texts("packages"),
        units=table.texts("units"),
    )
    for key, names in (("commands", detect.commands), ("packages", detect.packages), ("units", detect.units)):
        for name in names:
            if "/" in name or name.startswith("-"):
                table.problem(key, f"{name!r} must be a name, without slash or leading dash")
    table.done()
    return detect


def _hooks(table: Table) -> Hooks:
    timeout = HOOK_TIMEOUT
    if interval := table.interval("timeout"):
        timeout = toml.seconds(interval)
    hooks = Hooks(before=table.commands("before"), after=table.commands("after"), timeout=timeout)
    table.done()
    return hooks


def _hints(table: Table) -> Hints:
    hints = Hints(check=table.interval("check"), pull=table.interval("pull"), keep=table.counts("keep", KEEP_RULES))
    table.done()
    return hints


def _validator(table: Table) -> Validator:
    validator = Validator(
        command=table.texts("command"), beside=table.texts("with"), directories=_paths(table, "directories")
    )
    if any("\0" in word for word in validator.command):
        table.problem("command", "holds a NUL")
    if validator.command and (not validator.command[0] or "/" in validator.command[0]):
        table.problem("command", "begins with the name of a program, without slash")
    for name in validator.beside:
        if not valid_name(name):
            table.problem("with", f"{name!r} is not a module's name")
    if not validator.command and (validator.beside or validator.directories):
        table.problem("command", "is needed where the other keys are")
    table.done()
    return validator
