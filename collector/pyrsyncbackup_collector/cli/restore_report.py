"""How a restore's plan and its report are shown: lines for people, documents for programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Final

from pyrsyncbackup_collector.cli import amounts, screen
from pyrsyncbackup_collector.entry import FILE, Entry, printable
from pyrsyncbackup_collector.pull.send import Sent
from pyrsyncbackup_collector.store.overwrite import Action
from pyrsyncbackup_collector.store.restore_plan import Planned
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport, Shortfall

_WORDS: Final = {"file": "file", "dir": "directory", "link": "link"}
_STYLES: Final = {
    Action.MAKE: screen.GOOD,
    Action.REPLACE: screen.DOUBT,
    Action.KEEP: screen.DOUBT,
    Action.LEAVE_OUT: screen.DOUBT,
    Action.SAME: screen.QUIET,
}
_WIDTH: Final = max(len(action.value) for action in Action)


def show(report: RestoreReport, ref: str, *, to_stderr: bool, as_json: bool, sent: Sent | None = None) -> None:
    """What was done; `to_stderr` where standard output is the archive itself, `sent` if it was sent to a host."""
    if as_json:
        there = {} if sent is None else {"directory": sent.directory, "remark": sent.remark}
        screen.json(_document(report, ref) | there)
        return
    say = partial(screen.note, style="") if to_stderr else screen.say
    counts = [amounts.counted(report.counts[kind], word) for kind, word in _WORDS.items() if report.counts.get(kind)]
    others = sum(count for kind, count in report.counts.items() if kind not in _WORDS)
    counts += [amounts.counted(others, "special file")] if others else []
    amount = f"{', '.join(counts) or ('nothing new' if report.complete else 'nothing')}, {amounts.size(report.size)}"
    say(f"restored {ref} to {printable(str(report.target))}: {amount}")
    if report.checked:
        say(f"  {amounts.counted(report.checked, 'file')} read back from the disk")
    width = (screen.err() if to_stderr else screen.out()).width
    for shortfall in report.shortfalls:
        for line in _lines(shortfall, width):
            say(line, style=screen.DOUBT if shortfall.reason.missing else screen.QUIET)
    if sent is not None:
        _show_sent(sent)
    elif os.geteuid() != 0 and any(shortfall.reason is Reason.OWNER for shortfall in report.shortfalls):
        say("  as root these would come back too", style=screen.QUIET)


def _lines(shortfall: Shortfall, width: int) -> list[str]:
    """One line; what is too long for a terminal has a line for each example, so that no path is torn in two."""
    line = f"  {shortfall.line()}"
    if len(line) <= width:
        return [line]
    shown = shortfall.shown()
    more = shortfall.count - len(shown)
    rest = [f"    and {amounts.number(more)} more"] if more else []
    return [f"  {shortfall.head()}:", *(f"    {example}" for example in shown), *rest]


def _show_sent(sent: Sent) -> None:
    if sent.remark:
        screen.say(f"  not all of it could be kept there: {sent.remark}", screen.DOUBT)
    screen.say("  all of it belongs to the agent's user; `--tar` keeps owners and the like", screen.QUIET)


def _document(report: RestoreReport, ref: str) -> dict[str, object]:
    return {
        "ref": ref,
        "target": str(report.target),
        "complete": report.complete,
        "restored": report.counts,
        "size": report.size,
        "same": report.same,
        "checked": report.checked,
        "shortfalls": [_shortfall(shortfall) for shortfall in report.shortfalls],
    }


def _shortfall(shortfall: Shortfall) -> dict[str, object]:
    return {
        "reason": shortfall.reason.name.lower(),
        "text": shortfall.reason.text,
        "what": shortfall.what,
        "missing": shortfall.reason.missing,
        "count": shortfall.count,
        "examples": [{"path": printable(path), "detail": detail} for path, detail in shortfall.examples],
    }


def show_plan(steps: Iterable[Planned], ref: str, target: str, *, as_json: bool) -> None:
    """What would be done, an entry a line, and the sums."""
    if as_json:
        screen.json_list({"ref": ref, "target": target}, "plan", map(_step, steps))
        return
    counts: Counter[Action] = Counter()
    size = 0
    for step in steps:
        action = step.decision.action
        counts[action] += 1
        size += step.entry.size if action in (Action.MAKE, Action.REPLACE) and step.entry.type == FILE else 0
        why = f"  ({_why(step)})" if _why(step) else ""
        path = screen.text(step.entry.path)
        path.append("/" if step.entry.type == "dir" else "")
        screen.line(screen.text(f"{action.value:<{_WIDTH}} ", _STYLES[action]), path, screen.text(why, screen.QUIET))
    sums = ", ".join(f"{action.value} {amounts.number(counts[action])}" for action in Action if counts[action])
    where = f"{ref} to {printable(target)}"
    screen.say(f"would restore {where}: {sums or 'nothing'}; {amounts.size(size)} to write. Nothing was done.")


def _why(step: Planned) -> str:
    reason = step.decision.reason
    if reason is None or step.decision.action in (Action.SAME, Action.REPLACE):
        return ""
    return f"{reason.text}: {step.decision.what}" if step.decision.what else reason.text


def _step(step: Planned) -> dict[str, object]:
    return {
        **_path(step.entry),
        "type": step.entry.type,
        "size": step.entry.size,
        "action": step.decision.action.value,
        "reason": step.decision.reason.name.lower() if step.decision.reason else None,
        "what": step.decision.what,
    }


def _path(entry: Entry) -> dict[str, object]:
    return {"path_b64": entry.path_b64} if entry.path_b64 else {"path": entry.path_text}
