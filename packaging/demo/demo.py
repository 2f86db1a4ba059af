"""`make demo`: a host, a collector, and everything between them on this machine, in a private folder.

It starts an sshd on a loopback port, an agent that offers the modules really found here and one small directory of its
own, and the collector's daemon, which reaches the agent through the SSH forward. What it runs is shown as it would be
typed. It ends by itself and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from tests.support.world import World  # noqa: E402 - the same world that the tests live in

HOST = "this-machine"
MODULE = "website"
# First pulls take seconds; a machine with very much in its modules shall not hold the demo up for longer than this.
PATIENCE = 60.0

PAGE = """\
<h1>Our shop</h1>
<p>Open from 9 to 17.</p>
<p>Call us: 555-0100</p>
"""
BROKEN_PAGE = PAGE.replace("Open from 9 to 17.", "TODO")


class Failed(Exception):
    """A step did not end as it should."""


class Demo:
    """The steps, in the order in which a new user takes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world = World(folder, HOST)
        self.console = Console(markup=False, highlight=False, emoji=False)
        self.page = self.world.site / "index.html"
        self.begun = time.monotonic()
        self.number = 0

    def play(self) -> None:
        """All of it."""
        self.console.print(
            Text.assemble(("pyRsyncBackup", "bold"), "  everything here lives in ", (f"{self.folder}", "bold"))
        )
        self.make_host()
        self.make_collector()
        self.make_trust()
        self.first_pulls()
        self.change_and_pull()
        self.restore()

    def make_host(self) -> None:
        """Step 1."""
        self.step("A host", "An sshd on a loopback port, and an agent that finds out what is to back up.")
        self.world.make_host(MODULE, "A small web site, made for this demo")
        self.page.write_text(PAGE)
        (self.world.site / "style.css").write_text("h1 { color: teal }\n")
        self.run(*self.world.agent_command("modules"))
        self.world.start_host()

    def make_collector(self) -> None:
        """Step 2."""
        self.step("A collector", "On the backup host. It starts every connection; hosts never call out.")
        self.run("pyrsyncbackup", "init", "collector")
        self.world.make_collector()
        self.say("\nA host is a few lines in hosts.d:")
        definition = self.world.collector / "hosts.d" / f"{HOST}.toml"
        self.run("cat", str(definition))

    def make_trust(self) -> None:
        """Step 3."""
        self.step(
            "Trust, both ways",
            "The invitation goes to the host by a way that you trust. The agent that",
            "accepted it proves itself; the SSH host key is compared by fingerprint.",
        )
        self.run("pyrsyncbackup", "invitation", HOST, to=self.world.invitation)
        accepted = self.run(*self.world.agent_command("accept", str(self.world.invitation)))
        self.say("That line goes to authorized_keys: it allows one forwarded port and no shell.")
        self.world.sshd.let_in(accepted)
        self.run("pyrsyncbackup", "host", "trust", HOST, "--ssh-fingerprint", self.world.sshd.fingerprint)
        self.run("pyrsyncbackup", "host", "test", HOST)

    def first_pulls(self) -> None:
        """Step 4."""
        self.step("First pulls", "The daemon asks for the modules, and pulls what it does not have yet.")
        self.show("pyrsyncbackup", "daemon", "&")
        self.world.start_daemon()
        self.wait_for_first_pulls()
        self.run("pyrsyncbackup", "modules")
        self.run("pyrsyncbackup", "status", codes=(0, 14))

    def change_and_pull(self) -> None:
        """Step 5."""
        self.step("Something changes", "Somebody edits the web site. Only what changed travels.")
        self.page.write_text(BROKEN_PAGE)
        self.run("pyrsyncbackup", "pull", f"{HOST}/{MODULE}")
        self.run("pyrsyncbackup", "snapshots", f"{HOST}/{MODULE}")
        self.run("pyrsyncbackup", "diff", f"{HOST}/{MODULE}@1", f"{HOST}/{MODULE}@latest")

    def restore(self) -> None:
        """Step 6."""
        self.step("And back again", "The old version, from the first snapshot.")
        target = self.folder / "restored"
        self.run("pyrsyncbackup", "restore", f"{HOST}/{MODULE}@1", str(self.page), "--to", str(target))
        restored = target / self.page.relative_to("/")
        self.run("cat", str(restored))
        if restored.read_text() != PAGE:
            raise Failed("what was restored is not what was there")

    # How it is shown

    def step(self, title: str, *lines: str) -> None:
        """Announce what comes now."""
        self.number += 1
        self.console.print()
        self.console.rule(Text(f"{self.number}  {title}", "bold"), align="left", style="cyan")
        self.say(*lines)

    def say(self, *lines: str) -> None:
        """Words between the commands."""
        for line in lines:
            self.console.print(Text(line, "dim"))

    def show(self, *argv: str) -> None:
        """A command as it would be typed in the demo's folder."""
        shown = " ".join(word if word in "&>" else shlex.quote(self._short(word)) for word in argv)
        self.console.print()
        self.console.print(Text.assemble(("$ ", "bold cyan"), (shown, "bold")), soft_wrap=True)
        sys.stdout.flush()

    def _short(self, word: str) -> str:
        """Relative to the demo's folder, as its user would type it; a path on the host stays what it is."""
        return word if word == str(self.page) else word.removeprefix(f"{self.folder}/")

    def run(self, *argv: str, to: Path | None = None, codes: tuple[int, ...] = (0,)) -> str:
        """Show a command, run it, let its output through; returns the output where it went to a pipe."""
        self.show(*argv, *((">", str(to)) if to else ()))
        piped = to is not None or "accept" in argv
        done = subprocess.run(
            argv, cwd=self.folder, env=self.world.environment, stdout=subprocess.PIPE if piped else None, check=False
        )
        output = (done.stdout or b"").decode(errors="backslashreplace")
        if to is not None:
            to.write_text(output)
        elif piped:
            self.console.print(Text(output.rstrip("\n")), soft_wrap=True)
        if done.returncode not in codes:
            raise Failed(f"`{shlex.join(argv)}` ended with code {done.returncode}")
        return output

    def wait_for_first_pulls(self) -> None:
        """Follow the daemon until it pulled each module once."""
        deadline = time.monotonic() + PATIENCE
        columns = (
            TextColumn("{task.description}"),
            BarColumn(30),
            TextColumn("{task.fields[now]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task("pulling", total=None, now="")
            while not self._all_pulled(progress, task):
                if time.monotonic() > deadline:
                    self.console.print(Text("some are large and still under way; the demo goes on meanwhile", "dim"))
                    return
                time.sleep(0.3)

    def _all_pulled(self, progress: Progress, task: TaskID) -> bool:
        status = self._status()
        modules = [
            module for host in status["hosts"] for module in host["modules"] if module["state"] not in ("absent",)
        ]
        done = [module for module in modules if module["last_pull"]]
        progress.update(
            task, total=len(modules) or None, completed=len(done), now=f"{len(done)} of {len(modules)} modules"
        )
        return bool(modules) and len(done) == len(modules)

    def _status(self) -> Any:
        done = subprocess.run(
            ["pyrsyncbackup", "status", "--json"],
            cwd=self.folder,
            env=self.world.environment,
            capture_output=True,
            check=False,
        )
        if done.returncode not in (0, 14):
            raise Failed(f"`pyrsyncbackup status`: {done.stderr.decode(errors='replace').strip()}")
        return json.loads(done.stdout)


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that is gone at the end, whatever happened in it."""
    folder = Path(tempfile.mkdtemp(prefix="pyrsyncbackup-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Play the demo; returns the exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    with private_folder() as folder:
        demo = Demo(folder)
        try:
            demo.play()
        except Failed as error:
            demo.console.print(Text(f"\nthe demo failed: {error}", "bold red"), soft_wrap=True)
            _show_logs(demo)
            return 1
        except KeyboardInterrupt:
            demo.console.print(Text("\nstopped", "bold"))
            return 130
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            demo.world.close()
        took = time.monotonic() - demo.begun
        demo.console.print()
        demo.console.rule(style="cyan")
        demo.console.print(
            Text(f"That was it, in {took:.0f} s. All processes have ended, the folder is gone.", "bold green")
        )
        demo.console.print(Text("For a real host, go on with the quick start in README.md.", "dim"))
    return 0


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show_logs(demo: Demo) -> None:
    for name in ("daemon.log", "agent.log"):
        log = demo.folder / name
        if log.exists():
            tail = log.read_text(errors="backslashreplace").splitlines()[-15:]
            demo.console.print(Text("\n".join([f"--- the end of {name}", *tail]), "dim"), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
