"""Which of several policies counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import Keep, Policy, effective, load
from pyrsyncbackup_collector.transport.offer import Hints

BASE = 'store = "s"\ncatalog = "c"\n'

CASES = [
    ("nothing written: the defaults", "", Hints(), Policy()),
    ("a hint beats the default", "", Hints(check="5m", pull="12h"), Policy(check=300, pull=43200)),
    ("what is written beats a hint", '[policy]\npull = "6h"', Hints(pull="1h"), Policy(pull=21600)),
    ("a rule beats the policy", '[policy]\npull="6h"\n[[rule]]\npull="2h"', Hints("9m", "1h"), Policy(540, 7200)),
    ("later rules win", '[[rule]]\npull="2h"\n[[rule]]\nhosts="db*"\npull="3h"', Hints(), Policy(pull=10800)),
    ("a rule for other hosts says nothing", '[[rule]]\nhosts="web*"\npull="3h"', Hints(), Policy()),
    ("a rule for other modules says nothing", '[[rule]]\nmodules="nginx"\npull="3h"', Hints(), Policy()),
    ("off switches checks off", '[[rule]]\ncheck="off"', Hints(check="1h"), Policy(check=None)),
    ("a rule switches them on again", '[policy]\ncheck="off"\n[[rule]]\ncheck="1h"', Hints(), Policy(check=3600)),
    ("a later keep replaces", "[policy]\nkeep={last=3}\n[[rule]]\nkeep={daily=7}", Hints(), Policy(keep=Keep(daily=7))),
    ("a hint cannot shorten history", "", Hints(keep={"last": 1}), Policy()),
    ("a hint below a minute is a minute", "", Hints(check="1s", pull="2s"), Policy(check=60, pull=60)),
    ("a hint beyond 30 days is 30 days", "", Hints(pull="99y"), Policy(pull=30 * 86400)),
    ("a hint that cannot be read says nothing", "", Hints(check="\x1b[2J", pull="soon"), Policy()),
    ("sharing can be switched off", '[[rule]]\nmodules="etc*"\nshare="off"', Hints(), Policy(share=False)),
    ("a module can be switched off", '[[rule]]\nmodules="etc*"\nenabled=false', Hints(), Policy(enabled=False)),
    ("the host has its own", '[policy]\nbwlimit=1\n[[host]]\nname="db1"\nbwlimit="2K"', Hints(), Policy(bwlimit=2048)),
]  # fmt: skip


@pytest.mark.parametrize(("written", "hints", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_the_strongest_source_counts(tmp_path: Path, written: str, hints: Hints, expected: Policy) -> None:
    (tmp_path / "collector.toml").write_text(BASE + written)
    assert effective(load(tmp_path / "collector.toml"), "db1", "etc", hints) == expected
