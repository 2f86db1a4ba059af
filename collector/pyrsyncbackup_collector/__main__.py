"""`python -m pyrsyncbackup_collector`: the same as the `pyrsyncbackup` command."""

from pyrsyncbackup_collector.cli import main

main()
