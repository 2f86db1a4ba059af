"""Restores entries below a target directory, trusting neither the manifest nor what lies in the target.

One pass in the order of the manifest (see `descent`): an entry is made in the open directory that holds it, by its one
name (see `beneath`), under a temporary name first, and gets its own when it is whole. A directory gets its owner, mode
and time when everything in it is there; until then it is 0700 and ours. What becomes of names that are taken is
decided by `overwrite`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from pyrsyncbackup_collector.entry import DIRECTORY, FIFO, FILE, SOCKET, SYMLINK, Entry, printable
from pyrsyncbackup_collector.errors import RestoreError, StoreDamaged
from pyrsyncbackup_collector.store import attributes, beneath, unfinished
from pyrsyncbackup_collector.store.descent import NOT_MADE, Descent, Level, Taken
from pyrsyncbackup_collector.store.filling import Objects, fill, pieces
from pyrsyncbackup_collector.store.overwrite import ANOTHER, Action, Decision, Overwrite
from pyrsyncbackup_collector.store.read_ahead import ReadAhead
from pyrsyncbackup_collector.store.restore_check import check_files
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport, Tally
from pyrsyncbackup_collector.store.selection import select
from pyrsyncbackup_collector.store.survey import DEVICES, Names, Rules, Survey
from pyrsyncbackup_collector.store.unfinished import Unfinished

__all__ = ["Objects", "Overwrite", "restore"]

# Nothing more can be written, so there is no point in going on.
_FATAL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
_NO_LINK: Final = frozenset({errno.EMLINK, errno.EPERM, errno.EACCES, errno.ENOENT, errno.EXDEV, errno.EOPNOTSUPP})

# Called with what was added since the last call: entries, bytes. It may raise to stop the restore.
Progress = Callable[[int, int], None]


def restore(
    entries: Iterable[Entry],
    objects: Objects,
    target: Path,
    *,
    paths: Sequence[bytes] = (),
    special: bool = False,
    owner: bool | None = None,
    overwrite: Overwrite = Overwrite.NEVER,
    check: Callable[[], Iterable[Entry]] | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore `entries` (in manifest order) into the directory `target`, which is made (0700) if it is not there.

    `paths` selects some, each with all below it; none means all. `special` brings back devices, set-id bits and file
    capabilities too. `owner` gives numeric owners and groups; None means as root only. `check` gives the same entries
    once more: then all is written to the disk, and every file is read back from there.

    What cannot be restored is in the report and stops nothing else. Raises NotFound for a path that is not there
    (before anything is done), RestoreError when the target cannot be used or is full, StoreDamaged when the entries
    are not in order or an entry has no directory. Whatever ended it, the same call again goes on.
    """
    chosen = select(entries, paths) if paths else entries
    rights = attributes.Rights.of_this_process(owner=os.geteuid() == 0 if owner is None else owner, special=special)
    fd = beneath.open_target(target)
    return restore_into(fd, chosen, objects, Rules(rights, overwrite), check=check, progress=progress).report(target)


def restore_into(
    target: int,
    entries: Iterable[Entry],
    objects: Objects,
    rules: Rules,
    *,
    check: Callable[[], Iterable[Entry]] | None = None,
    progress: Progress | None = None,
) -> Tally:
    """Restore into the open directory `target`, and close it; as `restore`, which says what the arguments are."""
    restoration = _Restoration(target, objects, rules, progress or (lambda _entries, _bytes: None))
    try:
        restoration.run(entries)
        if check is not None:
            check_files(target, check(), restoration.names, restoration.tally, progress)
        restoration.unfinished.done()
    finally:
        restoration.close()
    return restoration.tally


class _Restoration:
    """One run: the way down, and what was done."""

    def __init__(self, target: int, objects: Objects, rules: Rules, progress: Progress) -> None:
        self.tally = Tally()
        self._objects = objects
        self._rules = rules
        self._progress = progress
        self._temporary = beneath.temporary_name()
        # A second run finds directories of other users, and such that everybody may write to: what the first one made.
        self._private = beneath.is_private(target)
        lowest = Level(b"", target, gives_acls=beneath.inherits_acls(target), names=self._taken(target))
        self._descent = Descent(lowest, self._leave)
        # Where much may be there already, most of what was read ahead would be for nothing.
        self._ahead = None if beneath.names(target) else ReadAhead(objects)
        self.names = Names(target)
        try:
            self.unfinished = Unfinished(target, self._temporary)
        except RestoreError:
            self._descent.close()
            raise
        except OSError as error:
            self._descent.close()
            why = error.strerror or str(error)
            raise RestoreError(f"cannot write to the target: {why}", "make room, or name another target") from error
        self._survey = Survey(rules, self.unfinished.before, self.names)
        self._entered(lowest)

    def run(self, entries: Iterable[Entry]) -> None:
        """Make every entry, then give the directories that are still open their attributes."""
        for entry in self._ahead.over(entries) if self._ahead is not None else entries:
            level, name = self._descent.at(entry.path)
            self._place(level, name, entry)
        self._descent.up()
        self._remove_strangers(self._descent.target)

    def close(self) -> None:
        """Close what is open; after an error these directories stay as they are, 0700."""
        if self._ahead is not None:
            self._ahead.close()
        self.unfinished.close()
        self._descent.close()

    def _place(self, level: Level, name: bytes, entry: Entry) -> None:
        path = entry.path
        if level.fd == NOT_MADE:
            self._lost(entry, Reason.BELOW)
            return
        if level.strangers is not None:
            level.strangers.discard(name)
        try:
            decision = self._decided(level, name, entry)
            done = self._do(decision, level, name, entry)
            if done and level.names is not None:
                level.names.add(name)
        except FileExistsError:
            self._lost(entry, Reason.EXISTS)
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno in _FATAL:
                hint = "what is there so far stays, and the same command goes on from there"
                raise RestoreError(f"cannot restore {printable(path)}: {why}", hint) from error
            self._lost(entry, Reason.FAILED, why)
        except (OverflowError, ValueError):
            self._lost(entry, Reason.FAILED, "impossible value in the snapshot")
        except StoreDamaged as error:
            self._lost(entry, Reason.DAMAGED, detail=error.cause)
        else:
            if done:
                self._done(entry, decision)

    def _decided(self, level: Level, name: bytes, entry: Entry) -> Decision:
        decision = self._survey.decide(level, name, entry)
        if level.names is None or not level.names.is_another(name):
            return decision
        # Two entries never replace each other, nor are two directories made one.
        goes_in = entry.type == DIRECTORY and decision.action is not Action.LEAVE_OUT
        if (goes_in or decision.action is Action.REPLACE) and beneath.status(level.fd, name) is not None:
            return ANOTHER
        return decision

    def _lost(self, entry: Entry, reason: Reason, what: str = "", detail: str = "") -> None:
        self.tally.note(entry.path, reason, what, detail)
        if entry.type == DIRECTORY:
            self._descent.enter(Level(entry.path, NOT_MADE))

    def _done(self, entry: Entry, decision: Decision) -> None:
        self._progress(1, entry.size if decision.action is Action.SAME else 0)
        if decision.action is not Action.SAME:
            self.tally.counts[entry.type] += 1
        if decision.reason is not None:
            self.tally.note(entry.path, decision.reason, decision.what)
        self.names.add(entry)
        self.tally.note_state(entry)

    def _do(self, decision: Decision, level: Level, name: bytes, entry: Entry) -> bool:
        """Do what was decided; False where that was to leave it, which was noted."""
        match decision:
            case Decision(Action.LEAVE_OUT):
                self.tally.note(entry.path, decision.reason or Reason.FAILED, decision.what, entry.error)
                return False
            case Decision(Action.KEEP, Reason.DIRECTORY_KEPT):
                self._enter_directory(level, name, entry, ours=False)
                return True
            case Decision(Action.KEEP):
                self._lost(entry, decision.reason or Reason.EXISTS, decision.what)
                return False
            case Decision(Action.SAME) if entry.type != DIRECTORY:
                return True
        replace = decision.action is Action.REPLACE
        if entry.type == DIRECTORY:
            self._make_directory(level, name, entry, replace=replace)
        elif not (entry.link_to and self._make_hard_link(level, name, entry, replace=replace)):
            if entry.type == FILE:
                self._make_file(level, name, entry, replace=replace)
            else:
                self._make_node(level, name, entry, replace=replace)
        return True

    # Directories

    def _make_directory(self, level: Level, name: bytes, entry: Entry, *, replace: bool) -> None:
        try:
            self._enter_directory(level, name, entry, ours=True)
        except FileExistsError:
            if not replace:
                raise
            os.mkdir(self._temporary, 0o700, dir_fd=level.fd)
            beneath.exchange(level.fd, self._temporary, name)
            beneath.discard(level.fd, self._temporary)
            self._enter_directory(level, name, entry, ours=True)

    def _enter_directory(self, level: Level, name: bytes, entry: Entry, *, ours: bool) -> None:
        fd, new = beneath.enter(level.fd, name, private=self._private)
        if new and level.gives_acls:
            beneath.drop_acls(fd)
        if not new and not ours:
            self.unfinished.keep(entry.path)
        inside = Level(entry.path, fd, entry if new or ours else None, fresh=new, names=self._taken(fd))
        if not new:
            inside.gives_acls = beneath.inherits_acls(fd)
            self._entered(inside)
        self._descent.enter(inside)

    def _taken(self, directory: int) -> Taken | None:
        return None if self._rules.overwrite is Overwrite.NEVER else Taken(beneath.names(directory))

    def _entered(self, level: Level) -> None:
        """In a directory that was there before: what a killed restore left goes, and strangers are counted."""
        unfinished.clear(level.fd, self.unfinished.before.drafts)
        if self._rules.exact:
            level.strangers = beneath.names(level.fd) - {unfinished.NAME}

    def _leave(self, level: Level) -> None:
        self._remove_strangers(level)
        if level.entry is not None:
            self._apply(level.fd, level.entry)

    def _remove_strangers(self, level: Level) -> None:
        for name in sorted(level.strangers or ()):
            beneath.remove_tree(level.fd, name)
            self.tally.removed += 1

    # Everything else

    def _make_hard_link(self, level: Level, name: bytes, entry: Entry, *, replace: bool) -> bool:
        """Link to what was made for its first name; False where the content has to be restored on its own."""
        source = self.names.first(entry)
        if not source:
            return False
        *directories, source_name = beneath.split(source)
        made = self._temporary if replace else name
        try:
            fd = beneath.open_below(self._descent.target.fd, directories)
            try:
                beneath.link(fd, source_name, level.fd, made)
            finally:
                os.close(fd)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self.tally.note(entry.path, Reason.LINK, error.strerror or "")
            return False
        if replace:
            self._publish(level.fd, name, replace=True)
        return True

    def _make_file(self, level: Level, name: bytes, entry: Entry, *, replace: bool) -> None:
        with beneath.Draft(level.fd, self._temporary) as draft:
            if level.gives_acls:
                beneath.drop_acls(draft.fd)
            written = self._fill(draft.fd, entry)
            self._apply(draft.fd, entry)
            self._publish(level.fd, name, replace=replace)
            draft.published = True
        self.tally.size += written

    def _fill(self, fd: int, entry: Entry) -> int:
        """Write the content; one in chunks that was not right is tried once more, each chunk proven first."""
        try:
            return fill(fd, entry, self._content(entry), lambda size: self._progress(0, size))
        except StoreDamaged:
            if not entry.chunks:
                raise
        os.lseek(fd, 0, os.SEEK_SET)
        os.ftruncate(fd, 0)
        return fill(fd, entry, pieces(entry, self._objects, proven=True), lambda _: self._progress(0, 0))

    def _content(self, entry: Entry) -> Iterable[bytes]:
        return pieces(entry, self._objects) if self._ahead is None else self._ahead.content(entry)

    def _make_node(self, level: Level, name: bytes, entry: Entry, *, replace: bool) -> None:
        draft = self._temporary
        try:
            _make(level.fd, draft, entry)
            with beneath.node(level.fd, draft) as handle:
                if level.gives_acls:
                    beneath.drop_acls(handle)
                self._apply(handle, entry)
            self._publish(level.fd, name, replace=replace)
        except BaseException:
            beneath.discard(level.fd, draft)
            raise

    def _publish(self, directory: int, name: bytes, *, replace: bool) -> None:
        try:
            beneath.publish(directory, self._temporary, name, replace=replace)
        except FileExistsError:
            if not (replace and self._rules.exact):
                raise
            beneath.remove_tree(directory, name)
            beneath.publish(directory, self._temporary, name, replace=replace)

    def _apply(self, handle: int | str, entry: Entry) -> None:
        attributes.apply(
            handle, entry, self._rules.rights, lambda reason, what: self.tally.note(entry.path, reason, what)
        )


def _make(directory: int, name: bytes, entry: Entry) -> None:
    """A link or a special file, ours alone. OSError where the file system has none of its kind."""
    try:
        if entry.type == SYMLINK:
            os.symlink(entry.target, name, dir_fd=directory)
        elif entry.type == FIFO:
            os.mkfifo(name, 0o600, dir_fd=directory)
        elif entry.type == SOCKET:
            os.mknod(name, stat.S_IFSOCK | 0o600, dir_fd=directory)
        elif entry.type in DEVICES:
            os.mknod(name, DEVICES[entry.type] | 0o600, os.makedev(*entry.rdev), dir_fd=directory)
        else:
            raise ValueError(entry.type)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        # What FUSE makes of a file system that made a plain file instead. A disk that is broken will say so again.
        raise OSError(errno.EOPNOTSUPP, "the file system has no such files") from error
