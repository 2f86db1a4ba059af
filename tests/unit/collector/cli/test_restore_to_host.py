"""`--to-host` with and without its host, as it may be typed."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.cli.restore_to_host import with_own_host


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("web1/etc --to-host web2", "web1/etc --to-host web2"),
        ("web1/etc --to-host .", "web1/etc --to-host ."),
        ("web1/etc --to-host=web2 etc", "web1/etc --to-host=web2 etc"),
        ("web1/etc --to-host", "web1/etc --to-host ."),
        ("web1/etc --to-host --dry-run", "web1/etc --to-host . --dry-run"),
        ("--to-host web1/etc@3d hosts", "--to-host . web1/etc@3d hosts"),
        ("web1/etc --to-host /etc/hosts", "web1/etc --to-host . /etc/hosts"),
        ("web1/etc --to-host -- hosts", "web1/etc --to-host . -- hosts"),
        ("web1/etc --to x -- --to-host", "web1/etc --to x -- --to-host"),
    ],
)
def test_a_host_that_is_left_out_is_the_snapshots_own(typed: str, meant: str) -> None:
    assert with_own_host(typed.split()) == meant.split()
