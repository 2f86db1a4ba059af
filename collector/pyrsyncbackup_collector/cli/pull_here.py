"""Pulls in this process, under the store's lock: what `pull` does when no daemon runs, and every dry run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack

from pyrsyncbackup_collector.cli.progress import PullDisplay
from pyrsyncbackup_collector.cli.pull_result import Result, of_error, of_run
from pyrsyncbackup_collector.cli.targets import Target
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.config import effective
from pyrsyncbackup_collector.daemon import Parts, PullOrder, check_host, looking, opened
from pyrsyncbackup_collector.daemon import pull as pull_one
from pyrsyncbackup_collector.daemon.requests import not_there
from pyrsyncbackup_collector.discovery import Discovery, discover
from pyrsyncbackup_collector.errors import BackupError, Cancelled
from pyrsyncbackup_collector.pull.cancel import GLANCE, Cancel
from pyrsyncbackup_collector.pull.driver import plan_module
from pyrsyncbackup_collector.pull.report import PlannedChange
from pyrsyncbackup_collector.pull.task import Task
from pyrsyncbackup_collector.schedule.tokens import Tokens
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

Told = Callable[[Result], None]


def pull_all(place: Workplace, targets: list[Target], display: PullDisplay, told: Told) -> None:
    """Pull all `targets`, hosts side by side, the modules of one after each other; each result is told at once.

    A signal stops everything in order and comes out as Cancelled.
    """
    cancel = Cancel()
    workers = place.config.limits.pulls.max
    tokens = Tokens(place.config.limits.per_hop)
    with opened(place.config) as parts, ThreadPoolExecutor(workers, thread_name_prefix="pull") as pool:
        jobs = [pool.submit(_pull_host, place, parts, target, tokens, cancel, display, told) for target in targets]
        _finish(jobs, cancel)


def _finish(jobs: list[Future[None]], cancel: Cancel) -> None:
    ended, left = set[Future[None]](), set(jobs)
    try:
        while left and not any(job.exception() for job in ended):
            ended, left = wait(jobs, timeout=GLANCE, return_when=FIRST_EXCEPTION)
    except (KeyboardInterrupt, Cancelled) as signal:
        # What ends a session may wait for the network; a second signal must find us waiting, not in there.
        threading.Thread(target=cancel.set, name="cancel", daemon=True).start()
        wait(jobs)
        why = signal.cause if isinstance(signal, Cancelled) else "stopped by Ctrl-C"
        raise Cancelled(why, "run it again; what was transferred is kept") from None
    for job in jobs:
        job.result()


def _pull_host(
    place: Workplace,
    parts: Parts,
    target: Target,
    tokens: Tokens,
    cancel: Cancel,
    display: PullDisplay,
    told: Told,
) -> None:
    host = target.host
    begin = parts.clock.now()
    try:
        cancel.check()
        checked = check_host(parts, host, ())
    except BackupError as error:
        if not isinstance(error, Cancelled):
            parts.catalog.check_done(host.name, begin=begin, error=error)
        told(of_error(host.name, "", error))
        return
    found = checked.discovery
    parts.catalog.check_done(host.name, begin=begin)
    if checked.peers is not None:
        refused = {peer.name: peer.refused for peer in parts.catalog.peers(host.name)}
        parts.catalog.peers_seen(host.name, checked.peers, refused)
    for module, problem in _chosen(target, found):
        if problem is not None:
            told(of_error(host.name, module, problem))
            continue
        with tokens.held(parts.connections.passes(host)):
            if not cancel.is_set:
                told(_pull_module(place, parts, target, found, module, cancel, display))


def _pull_module(
    place: Workplace,
    parts: Parts,
    target: Target,
    found: Discovery,
    module: str,
    cancel: Cancel,
    display: PullDisplay,
) -> Result:
    offer = found.offer(module)
    policy = effective(place.config, target.host.name, module, offer.hints if offer else None)
    config = place.config
    mirror = config.mirror_dir if policy.mirror else None
    order = PullOrder(target.host, module, policy, config.limits, "command", config.space, mirror)
    name = f"{target.host.name}/{module}"
    own = Cancel()  # its deadline ends this pull and no other
    try:
        with cancel.ends(own.set):
            ended = pull_one(parts, order, own, watch=lambda progress: display.show(name, progress))
        return of_run(parts.catalog, ended.run)
    except BackupError as error:
        return of_error(target.host.name, module, error)
    finally:
        display.ended(name)


def _chosen(target: Target, found: Discovery) -> Iterator[tuple[str, BackupError | None]]:
    """The modules to pull, each with the reason why it cannot be."""
    if not target.modules:
        yield from ((offer.name, None) for offer in found.ready)
        if not found.ready:
            yield "", BackupError(f"{target.host.name} offers no module that is ready", "`host test` shows what it has")
        return
    for module in target.modules:
        offer: ModuleOffer | None = found.offer(module)
        if offer is not None and offer.state is ModuleState.READY:
            yield module, None
        else:
            yield module, not_there(target.host.name, module, found)


def plan_all(place: Workplace, targets: list[Target]) -> Iterator[tuple[str, Iterator[PlannedChange] | BackupError]]:
    """What pulls of `targets` would bring: (HOST/MODULE, changes); without the store's lock, nothing is recorded."""
    with looking(place.config) as parts:
        for target in targets:
            yield from _plan_host(parts, target)


def _plan_host(parts: Parts, target: Target) -> Iterator[tuple[str, Iterator[PlannedChange] | BackupError]]:
    host = target.host.name
    with ExitStack() as stack:
        try:
            agent = stack.enter_context(parts.connections.agent(target.host))
            found = discover(agent, target.host)
        except BackupError as error:
            yield host, error
            return
        for module, problem in _chosen(target, found):
            name = f"{host}/{module}" if module else host
            if problem is not None:
                yield name, problem
                continue
            try:
                with agent.open(module) as session:
                    yield name, plan_module(Task("plan", host, module), session, parts.tools)
            except BackupError as error:
                yield name, error
