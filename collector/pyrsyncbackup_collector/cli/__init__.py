"""The `pyrsyncbackup` command.

`main` is its one error border: whatever goes wrong below ends here as `error: cause`, `  next: hint` on stderr and the
exit code of the error's class. A traceback is shown to nobody who did not ask for it with `--debug`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from pyrsyncbackup_collector import logs
from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.errors import BackupError, Cancelled, ConfigError

# What a shell reports for a program that SIGINT ended.
INTERRUPTED = 130
# As of `| head`: nobody reads any more, which is no failure worth a word. What a shell says of one that SIGPIPE ended.
READER_GONE = 128 + signal.SIGPIPE


def main() -> None:
    """Run the command line of this process and exit with its code."""
    signal.signal(signal.SIGTERM, _terminated)
    _fill_standard_streams()
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command line, report what goes wrong on stderr, and return the exit code."""
    debug = "--debug" in args
    screen.typed_config.set("")
    if not debug:
        # gRPC's library writes about failed handshakes to stderr by itself; what they mean is said by us.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # It looks for plug-ins in every distribution that is installed: as long as a command takes to answer, for none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # What a command has to say it says itself; the daemon sets its own level.
    logs.configure(level="debug" if debug else "critical")
    try:
        # Here, where Ctrl-C while it loads is what it is later: the end, with no traceback.
        from pyrsyncbackup_collector.cli.commands import app

        app(args=list(args), prog_name="pyrsyncbackup", standalone_mode=True)
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
        if isinstance(exit_.__context__, BrokenPipeError):
            # Typer makes 1 of it, in silence.
            code = _reader_is_gone()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        code = _reader_is_gone()
    except BackupError as error:
        if debug:
            traceback.print_exc()
        _report(error)
        code = error.exit_code
    except OSError as error:
        if debug:
            traceback.print_exc()
        screen.error(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        code = 1
    except Exception as error:  # noqa: BLE001 - the border: nobody above could say it better
        code = _unexpected(error, debug=debug)
    return _flushed(code)


def _fill_standard_streams() -> None:
    """Where we were started with one closed (`>&-`), the next file that is opened would get its number, and our words.

    What is written to standard output then fails, as it should; standard error has nobody to tell.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free.
            os.open(os.devnull, flags)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def _terminated(_signal: int, _frame: FrameType | None) -> None:
    raise Cancelled("asked to stop by SIGTERM")


def _flushed(code: int) -> int:
    """Flush here, where a full disk or a closed pipe can still be told; at exit Python would print a traceback."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_is_gone()
    except OSError as error:
        if code == 0:
            screen.error(f"the output could not be written: {error.strerror}")
        _discard_output()
        return code or 1
    return code


def _reader_is_gone() -> int:
    _discard_output()
    return READER_GONE


def _discard_output() -> None:
    """What is still in the buffer has nowhere to go; without this Python would try once more at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report(error: BackupError) -> None:
    if isinstance(error, ConfigError):
        *others, last = error.problems or [error.cause]
        for problem in others:
            screen.error(problem)
        screen.error(last, error.hint)
    else:
        screen.error(error.cause, error.hint)


def _unexpected(error: Exception, *, debug: bool) -> int:
    """A fault of this program: one line for the user, the rest where a developer finds it."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if debug:
        traceback.print_exc()
        screen.error(f"unexpected: {what}")
        return 1
    handle, name = tempfile.mkstemp(prefix="pyrsyncbackup-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as details:
        traceback.print_exc(file=details)
    screen.error(f"unexpected: {what}", f"this is a fault of pyrsyncbackup; the details are in {Path(name)}")
    return 1
