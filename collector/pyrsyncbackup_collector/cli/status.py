"""`status`: what is late, failing or unreachable, and since when."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import typer
from rich.text import Text

from pyrsyncbackup_collector.catalog.views import DaemonView
from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli.behind import Behind, grouped
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, PROBLEMS, ConfigOption, JsonOption, exit_codes
from pyrsyncbackup_collector.cli.screen import Column
from pyrsyncbackup_collector.cli.verdict import HostVerdict, State, Verdict, badness, judge_daemon
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.errors import StoreError

# The daemon gives a sign of life every few seconds; after this long it is taken for dead.
SILENCE = 30.0
# Of hosts that wait for another one so many are named; the table has them all.
NAMED = 8

STYLES = {
    State.STOPPED: f"bold {screen.BAD}",
    State.DAMAGED: f"bold {screen.BAD}",
    State.UNREACHABLE: f"bold {screen.BAD}",
    State.FAILING: f"bold {screen.BAD}",
    State.LATE: screen.DOUBT,
    State.UNSOUND: f"bold {screen.BAD}",
    State.REJECTED: screen.DOUBT,
    State.PARTIAL: screen.DOUBT,
    State.FROZEN: screen.DOUBT,
    State.INVALID: screen.DOUBT,
    State.OK: screen.GOOD,
}


@app.command(
    epilog=exit_codes(10, 11, _14="no daemon runs, or something is damaged, failing, late, frozen, ..."),
)
def status(as_json: JsonOption = False, config: ConfigOption = NOT_GIVEN) -> None:
    """Show what needs somebody and since when, the daemon first, then each host in a line, then the sum."""
    place = Workplace.load(config)
    now = SystemClock().now()
    hosts, chores, others, known = place.verdicts(now)
    daemon = known.daemon
    # First of all: without it the rest is as old as its end. Who has no hosts yet needs none.
    stopped = [judge_daemon(daemon, known.daemon_ended)] if hosts and not is_alive(daemon, now) else []
    problems = stopped + place.damage() + [problem for host in hosts for problem in host.problems]
    problems += [verdict for verdict in (*others, *chores) if verdict.state.is_problem]
    problems.sort(key=badness)
    hosts = [host.with_found(problems) for host in hosts]
    full = _full(place)
    if as_json:
        screen.json({**_document(hosts, chores, problems, daemon, now), "store": _store(place, full)})
    else:
        for problem in stopped:
            show_problem(problem, now)
        if full:
            _show_full(full)
        _show_problems(grouped(problems[len(stopped) :], place.fleet.hosts), now)
        if problems or full:
            screen.say()
        _show_hosts(hosts, now)
        _show_sum(hosts, grouped(problems, place.fleet.hosts), daemon, now)
        _show_chores(chores, now)
    if problems or full:
        raise typer.Exit(PROBLEMS)


def _full(place: Workplace) -> StoreError | None:
    """Why no pull begins, if it is for the store."""
    try:
        place.try_room()
    except StoreError as error:
        return error
    return None


def _show_full(error: StoreError) -> None:
    screen.line(screen.text("full", f"bold {screen.BAD}"), " ", screen.text("store", screen.TITLE))
    screen.paragraph(error.cause)
    screen.paragraph(f"next: {screen.as_typed(error.hint)}", screen.QUIET)


def _store(place: Workplace, error: StoreError | None) -> dict[str, object]:
    document: dict[str, object] = {"problem": error and error.cause, "hint": error.hint if error else ""}
    with contextlib.suppress(StoreError):
        there, floor = place.room()
        document |= {"free": there.free, "total": there.total, "min_free": floor.free}
    return document


def state_text(state: State) -> Text:
    """The word for a state, in its colour."""
    return screen.text(state.value, STYLES.get(state, screen.QUIET))


def _show_problems(problems: Sequence[Verdict | Behind], now: float) -> None:
    for problem in problems:
        if isinstance(problem, Behind):
            _show_behind(problem, now)
        else:
            show_problem(problem, now)


def _show_hosts(hosts: Sequence[HostVerdict], now: float) -> None:
    columns = [
        Column("HOST", fold=True),
        Column("STATE"),
        Column("MODULES", fold=True),
        Column("CHECKED"),
        Column("LAST PULL"),
    ]
    if hosts:
        screen.table(columns, [_row(host, now) for host in hosts])
        screen.say()


def _show_sum(
    hosts: Sequence[HostVerdict], problems: Sequence[Verdict | Behind], daemon: DaemonView | None, now: float
) -> None:
    screen.say(_summary(hosts, problems), f"bold {screen.BAD}" if problems else f"bold {screen.GOOD}")
    if is_alive(daemon, now):
        assert daemon is not None  # noqa: S101 - is_alive said so
        sandbox = f"sandbox: {daemon.sandbox}"
        screen.sentence(
            f"daemon: runs since {amounts.local(daemon.started)} (process {daemon.pid}), {sandbox}, "
            f"pulls: {daemon.pulls} of {daemon.workers}",
            screen.QUIET,
        )
    else:
        screen.say("daemon: does not run; nothing is pulled by schedule", screen.DOUBT)


def _show_chores(chores: Sequence[Verdict], now: float) -> None:
    done = [f"{chore.host} {amounts.ago(chore.last_good, now)}" for chore in chores if chore.last_good is not None]
    if done:
        screen.sentence(f"upkeep: {', '.join(done)}", screen.QUIET)


def is_alive(daemon: DaemonView | None, now: float) -> bool:
    """Whether the daemon said something lately, and its process is there."""
    return daemon is not None and now - daemon.heartbeat < SILENCE and _runs(daemon.pid)


def _runs(pid: int) -> bool:
    """One that was killed has no time to say so. Both are on the store's machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def show_problem(problem: Verdict, now: float, waiting: str = "") -> None:
    """What it is, since when, why, who waits for it, and the next step."""
    since = f" since {amounts.local(problem.since)} ({amounts.span(now - problem.since)})" if problem.since else ""
    screen.line(state_text(problem.state), " ", screen.text(problem.name, screen.TITLE), screen.text(since))
    screen.paragraph(problem.cause)
    if waiting:
        screen.paragraph(waiting)
    again = ""
    if problem.next_try is not None:
        again = f"tried again {amounts.ago(problem.next_try, now) if problem.next_try > now else 'now'}"
    if problem.hint:
        screen.say(f"  next: {screen.as_typed(problem.hint)}" + (f" ({again})" if again else ""), screen.QUIET)
    elif again:
        screen.say(f"  {again}", screen.QUIET)


def _show_behind(those: Behind, now: float) -> None:
    """A hop that is not reached, with the hosts that wait for it."""
    first = those.first
    count = len(those.waiting)
    names = [one.host for one in those.waiting]
    listed = ", ".join(names[:NAMED]) + (f" and {count - NAMED} more" if count > NAMED else "")
    waiting = f"{amounts.counted(count, 'host')} behind it wait: {listed}"
    if those.own is None:
        # What is wrong with the hop is known only from those that are reached through it.
        cause = first.cause.removeprefix(f"{first.host}: ")
        first = replace(first, host=those.hop, cause=cause, next_try=None)
    show_problem(first, now, waiting)


def _row(host: HostVerdict, now: float) -> list[Text | str]:
    pulled = max((module.last_pull for module in host.modules if module.last_pull is not None), default=None)
    return [
        host.host.host,
        state_text(host.worst),
        _counts(Counter(module.state for module in host.modules)),
        amounts.ago(host.checked, now),
        amounts.ago(pulled, now),
    ]


def _counts(states: Counter[State]) -> str:
    """`11 ok, 1 failing`; absent ones are no news."""
    shown = [f"{states[state]} {state.value}" for state in State if states[state] and state is not State.ABSENT]
    return ", ".join(shown) or "none"


def _summary(hosts: Sequence[HostVerdict], problems: Sequence[Verdict | Behind]) -> str:
    modules = sum(1 for host in hosts for module in host.modules if module.state is not State.ABSENT)
    found = f"{amounts.counted(len(hosts), 'host')}, {amounts.counted(modules, 'module')}"
    if not hosts:
        return "no hosts are configured: add one in hosts.d"
    return f"{found}: {amounts.counted(len(problems), 'problem')}" if problems else f"{found}: all is well"


def _document(
    hosts: Sequence[HostVerdict],
    chores: Sequence[Verdict],
    problems: Sequence[Verdict],
    daemon: DaemonView | None,
    now: float,
) -> dict[str, object]:
    return {
        "time": amounts.iso(now),
        "daemon": {
            "pid": daemon.pid,
            "started": amounts.iso(daemon.started),
            "heartbeat": amounts.iso(daemon.heartbeat),
            "sandbox": daemon.sandbox,
            "pulls": daemon.pulls,
            "workers": daemon.workers,
        }
        if daemon and is_alive(daemon, now)
        else None,
        "problems": [document(problem) for problem in problems],
        "upkeep": [document(chore) for chore in chores],
        "hosts": [
            {
                **document(host.host),
                "worst": host.worst.value,
                "checked": amounts.iso(host.checked),
                "last_seen": amounts.iso(host.last_seen),
                "modules": [document(module) for module in host.modules],
            }
            for host in hosts
        ],
    }


def document(verdict: Verdict) -> dict[str, object]:
    """A verdict for JSON."""
    return {
        "host": verdict.host,
        "module": verdict.module or None,
        "state": verdict.state.value,
        "since": amounts.iso(verdict.since),
        "cause": verdict.cause,
        "hint": verdict.hint,
        "next_try": amounts.iso(verdict.next_try),
        "last_good": amounts.iso(verdict.last_good),
        "last_pull": amounts.iso(verdict.last_pull),
    }
