"""All commands, in the order in which help lists them. Importing a module adds its commands to `app`."""
# ruff: isort: skip_file

from __future__ import annotations

from pyrsyncbackup_collector.cli.app import app
from pyrsyncbackup_collector.cli import first_steps as _first_steps  # noqa: F401
from pyrsyncbackup_collector.cli import status as _status  # noqa: F401
from pyrsyncbackup_collector.cli import schedule as _schedule  # noqa: F401
from pyrsyncbackup_collector.cli import hosts as _hosts  # noqa: F401
from pyrsyncbackup_collector.cli import trust as _trust  # noqa: F401
from pyrsyncbackup_collector.cli import accept as _accept  # noqa: F401
from pyrsyncbackup_collector.cli import walk as _walk  # noqa: F401
from pyrsyncbackup_collector.cli import tunnel as _tunnel  # noqa: F401
from pyrsyncbackup_collector.cli import modules as _modules  # noqa: F401
from pyrsyncbackup_collector.cli import pull as _pull  # noqa: F401
from pyrsyncbackup_collector.cli import snapshots as _snapshots  # noqa: F401
from pyrsyncbackup_collector.cli import diff as _diff  # noqa: F401
from pyrsyncbackup_collector.cli import history as _history  # noqa: F401
from pyrsyncbackup_collector.cli import changes as _changes  # noqa: F401
from pyrsyncbackup_collector.cli import compare as _compare  # noqa: F401
from pyrsyncbackup_collector.cli import find as _find  # noqa: F401
from pyrsyncbackup_collector.cli import grep as _grep  # noqa: F401
from pyrsyncbackup_collector.cli import restore as _restore  # noqa: F401
from pyrsyncbackup_collector.cli import verify as _verify  # noqa: F401
from pyrsyncbackup_collector.cli import drill as _drill  # noqa: F401
from pyrsyncbackup_collector.cli import mount as _mount  # noqa: F401
from pyrsyncbackup_collector.cli import retention as _retention  # noqa: F401
from pyrsyncbackup_collector.cli import prune as _prune  # noqa: F401
from pyrsyncbackup_collector.cli import space as _space  # noqa: F401
from pyrsyncbackup_collector.cli import gc as _gc  # noqa: F401
from pyrsyncbackup_collector.cli import copies as _copies  # noqa: F401
from pyrsyncbackup_collector.cli import recover as _recover  # noqa: F401
from pyrsyncbackup_collector.cli import export as _export  # noqa: F401
from pyrsyncbackup_collector.cli import catalog as _catalog  # noqa: F401

__all__ = ["app"]
