"""`python -m pyrsyncbackup_agent`."""

from __future__ import annotations

import sys

from pyrsyncbackup_agent.cli import main

sys.exit(main())
