"""The `pyrsyncbackup` command."""
