"""`prune`, `retention`, `pin`, `unpin`, `forget` as an administrator types them, on a real store without a daemon."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, Estate

DAY = 86400.0
FILES = {b"etc/%02d" % number: Content(b"content %d" % number) for number in range(30)}
CONFIG = """
store = "store"
catalog = "catalog.sqlite"
[policy]
keep = { last = 2 }
[[host]]
name = "web1"
"""

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(tmp_path: Path, command: Say) -> Say:
    """Six snapshots of web1/etc, three of old9/etc, and a shrunken web1/nginx."""
    estate = Estate(tmp_path)
    begin = time.time() - 10 * DAY
    for number in range(6):
        estate.pull("web1", "etc", change(number), time=begin + number * DAY)
    for number in range(3):
        estate.pull("old9", "etc", change(number), time=begin + number * DAY)
    for number in range(4):
        files = dict.fromkeys(list(FILES)[:25]) if number == 3 else change(number)
        estate.pull("web1", "nginx", files, time=begin + number * DAY)
    estate.close()
    (tmp_path / "collector.toml").write_text(CONFIG)
    return command


def change(number: int) -> dict[bytes, Content | None]:
    return {b"etc/00": Content(b"%d" % number)} if number else {**FILES}


def answer(said: tuple[int, str, str]) -> Any:
    assert said[0] == 0, said
    return json.loads(said[1])


def left(say: Say, which: str) -> list[int]:
    return [one["sequence"] for one in answer(say("snapshots", which, "--json"))["snapshots"]]


def test_a_dry_run_shows_each_snapshot_with_its_reason_and_changes_nothing(say: Say, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", lock=True):  # as a daemon would hold it
        code, out, _ = say("prune", "web1/etc", "--dry-run")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "web1/etc"
    assert [line.split()[0] for line in lines[2:8]] == ["remove"] * 4 + ["keep"] * 2
    assert lines[2].endswith("no rule keeps it")
    assert lines[7].endswith("newest complete; last 1 of 2")
    assert lines[-1] == "4 snapshots would be removed, 2 kept"
    assert left(say, "web1/etc") == [1, 2, 3, 4, 5, 6]


def test_prune_removes_what_the_dry_run_showed(say: Say) -> None:
    planned = answer(say("prune", "web1/etc", "--dry-run", "--json"))
    done = answer(say("prune", "web1/etc", "--json"))
    assert (planned["removed"], done["removed"], done["kept"]) == (4, 4, 2)
    names = [one["name"] for one in planned["modules"][0]["snapshots"] if not one["keep"]]
    assert [one["name"] for one in done["modules"][0]["snapshots"] if one["removed"]] == names
    assert done["modules"][0]["snapshots"][0]["time"].endswith("Z")
    assert left(say, "web1/etc") == [5, 6]
    code, out, _ = say("prune", "web1/etc")
    assert (code, out.splitlines()[-1]) == (0, "0 snapshots removed, 2 kept")


def test_a_dry_run_of_all_shows_each_with_its_reason(say: Say) -> None:
    code, out, _ = say("prune", "--dry-run")
    assert code == 0
    assert "no rule keeps it" in out
    assert "newest complete" in out
    assert "frozen, nothing is removed: 000004-" in out
    assert out.splitlines()[-1] == "5 snapshots would be removed, 8 kept"
    for module in answer(say("prune", "--dry-run", "--json"))["modules"]:
        assert all(each["name"] in out for each in module["snapshots"])


def test_that_a_module_is_frozen_is_said_before_it_is_forgotten(say: Say) -> None:
    say("prune")
    code, out, _ = say("forget", "web1")
    assert code == 2
    assert "web1/nginx: 4 snapshots\n  frozen: 000004-" in out


def test_what_somebody_reads_is_left_and_told(say: Say, tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as reader, reader.reading(reader.snapshots("web1", "etc")[2]):
        code, out, _ = say("prune", "web1/etc")
    assert code == 13
    assert "somebody reads it: not now" in out
    # The first is its base.
    assert "2 are being read: the next prune removes them" in out


def test_a_frozen_module_is_shown_everywhere_until_it_is_resumed(say: Say) -> None:
    why = "has 6 entries, the median of the 3 before it has 31"
    code, out, _ = say("prune")
    assert code == 0
    assert "frozen, nothing is removed: 000004-" in out
    assert why in out
    assert why in say("snapshots", "web1")[2]
    code, out, _ = say("status")
    assert code == 14
    assert "frozen web1/nginx since" in out
    assert "`pyrsyncbackup retention resume web1/nginx`" in out
    # The command that shows what changed, as it can be typed.
    name = answer(say("snapshots", "web1/nginx", "--json"))["snapshots"][3]["name"]
    look = f"next: `pyrsyncbackup diff web1/nginx@{name} --stat` shows what changed; if that was meant:"
    assert look in out
    assert "25 paths" in say("diff", f"web1/nginx@{name}", "--stat")[1]
    code, out, _ = say("retention")
    assert why in out
    assert look in out
    assert answer(say("retention", "show", "web1/nginx", "--json"))["modules"][0]["why"].endswith(why)
    code, out, _ = say("retention", "resume", "web1/nginx")
    assert (code, out.splitlines()[0]) == (0, "web1/nginx: retention goes on")
    assert "there was nothing to resume" in say("retention", "resume", "web1/nginx")[2]
    assert say("prune", "web1/nginx")[1].splitlines()[-2] == "2 snapshots removed, 2 kept"


def test_what_a_dry_run_shows_as_frozen_can_be_resumed_at_once(say: Say) -> None:
    assert "frozen, nothing is removed: 000004-" in say("prune", "web1/nginx", "--dry-run")[1]
    code, out, _ = say("retention", "resume", "web1/nginx")
    assert (code, out.splitlines()[0]) == (0, "web1/nginx: retention goes on")
    assert "has 6 entries" in out
    assert say("prune", "web1/nginx")[1].splitlines()[-2] == "2 snapshots removed, 2 kept"


def test_a_pinned_snapshot_is_shown_and_stays(say: Say) -> None:
    code, out, _ = say("pin", "web1/etc@1", "--why", "before the upgrade")
    assert code == 0
    assert out.startswith("pinned web1/etc@000001-")
    assert [line for line in say("snapshots", "web1/etc")[1].splitlines() if "pinned" in line] == [
        f"  pinned {out.partition('@')[2].partition(':')[0]}: before the upgrade"
    ]
    assert answer(say("snapshots", "web1/etc", "--json"))["snapshots"][0]["pinned"] == "before the upgrade"
    assert "pinned 000001-" in say("retention")[1]
    say("prune")
    assert left(say, "web1/etc") == [1, 5, 6]
    assert say("unpin", "web1/etc@1")[0] == 0
    code, _, err = say("unpin", "web1/etc@1")
    assert (code, err.splitlines()[0]) == (4, "error: snapshot 1 of web1/etc is not pinned")
    assert "FAILING" not in say("status")[1].upper().partition("HOST")[0]
    say("prune")
    assert left(say, "web1/etc") == [5, 6]


def test_a_reason_that_is_no_text_or_too_long_is_kept_as_far_as_it_is(say: Say) -> None:
    code, out, err = say("pin", "web1/etc@1", "--why", "gr\udcf6sse\x1b[31m" + "x" * 2000)
    assert (code, err) == (0, "")
    assert ": gr\ufffdsse\\x1b[31mxxx" in out
    [why] = answer(say("retention", "show", "web1/etc", "--json"))["modules"][0]["pinned"].values()
    assert len(why) == 1000


def test_the_rules_in_force_are_shown(say: Say) -> None:
    code, out, _ = say("retention", "show", "old9")
    assert code == 0
    assert out.splitlines()[1].split() == ["old9/etc", "3", "last", "2"]
    assert answer(say("retention", "show", "old9", "--json")) == {
        "clock": None,
        "modules": [
            {
                **{"module": "old9/etc", "snapshots": 3, "keep": {"last": 2}, "freeze": 0.5},
                **{"pinned": {}, "frozen": None, "why": None},
            }
        ],
    }


def test_a_host_that_is_gone_is_forgotten_only_when_it_is_said(say: Say) -> None:
    say("prune")
    assert left(say, "old9") == [2, 3]
    code, out, err = say("forget", "old9")
    assert (code, out) == (2, "old9/etc: 2 snapshots\n")
    assert "say it again with --yes" in err
    assert left(say, "old9") == [2, 3]
    say("pin", "old9/etc")
    code, _, err = say("forget", "old9", "--yes")
    assert (code, err.splitlines()[0]) == (1, "error: nothing is removed: old9/etc has pinned snapshots")
    code, out, _ = say("forget", "old9", "--yes", "--pinned-too")
    assert (code, out) == (0, "old9/etc: 2 snapshots removed\n")
    assert say("forget", "old9", "--yes")[0] == 4
    assert say("catalog", "rebuild")[0] == 0
    assert say("prune")[0] == 0


def test_what_stays_of_a_forgotten_host_elsewhere_is_told(say: Say, tmp_path: Path) -> None:
    tree = tmp_path / "store-mirror" / "old9" / "etc"
    tree.mkdir(parents=True)
    with (tmp_path / "collector.toml").open("a") as file:
        file.write('[[copy]]\nname = "far"\nto = "/nonexistent/far"\n')
    code, out, err = say("forget", "old9", "--yes")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == [
        f"  its mirror stays; `rm -r {tree}` removes it",
        "  second copies keep what they have",
    ]


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (("prune", "nobody"), 4, "no host is called nobody"),
        (("prune", "nobody", "--dry-run"), 4, "no host is called nobody"),
        (("prune", "web1/none"), 4, "there is no snapshot of web1/none"),
        (("prune", "../x"), 2, "'../x' does not name a host or a module"),
        (("prune", "web1/"), 2, "'web1/' does not name a host or a module"),
        (("forget", "nobody", "--yes"), 4, "no host is called nobody"),
        (("forget", "web*", "--yes"), 2, "'web*' does not name a host or a module"),
        (("retention", "resume"), 2, "retention of what?"),
        (("retention", "resume", "web1"), 2, "retention of what?"),
        (("retention", "resume", "web1/etc", "--clock"), 2, "retention of what?"),
        (("retention", "resume", "web1/none"), 4, "there is no snapshot of web1/none"),
        (("retention", "show", "nobody"), 4, "no host is called nobody"),
        (("pin", "web1/etc@99"), 4, "web1/etc has no snapshot"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(say: Say, words: tuple[str, ...], code: int, cause: str) -> None:
    said, _, err = say(*words)
    assert said == code
    assert err.startswith(f"error: {cause}")
    assert "\n  next: " in err
    assert "Traceback" not in err


def test_patterns_are_taken_wherever_something_is_looked_at_or_pruned(say: Say) -> None:
    def modules(*words: str) -> list[str]:
        document = answer(say(*words, "--json"))
        found = document.get("snapshots") or document.get("modules")
        return sorted({f"{each['host']}/{each['module']}" for each in found})

    assert modules("snapshots", "*/etc") == ["old9/etc", "web1/etc"]
    assert modules("snapshots", "web*/ng*") == ["web1/nginx"]
    assert modules("space", "*/e*") == ["old9/etc", "web1/etc"]
    assert modules("prune", "*9", "--dry-run") == ["old9/etc"]
    assert modules("prune", "[!w]*/etc", "--dry-run") == ["old9/etc"]
    assert [each["module"] for each in answer(say("retention", "show", "web*", "--json"))["modules"]] == [
        *("web1/etc", "web1/nginx")
    ]
    assert answer(say("verify", "*/etc", "--json"))["manifests"] == 9
    assert {each["host"] for each in answer(say("drill", "*/etc", "--json"))["drills"]} == {"old9", "web1"}
    assert "web1/etc   " in say("space", "web*/*")[1]
    assert answer(say("prune", "old*", "--json"))["removed"] == 1
    assert left(say, "web1/etc") == [1, 2, 3, 4, 5, 6]


def test_a_missing_manifest_stops_no_prune_and_is_in_status_until_a_rule_removes_it(say: Say, tmp_path: Path) -> None:
    next((tmp_path / "store/manifests/web1/etc").glob("000003-*")).unlink()
    # Who writes to the store sees it first.
    assert say("gc")[0] == 0
    code, out, _ = say("status")
    assert code == 14
    assert "damaged web1/etc" in out
    assert "its file is not there" in " ".join(out.split())
    assert say("prune", "--dry-run")[0] == 0
    code, out, _ = say("prune", "web1/etc")
    assert code == 0
    assert "000003-" in out
    assert "damaged web1/etc" not in say("status")[1]
    assert "missing manifest" not in say("verify", "web1/etc")[1]


def test_the_clock_is_called_right_when_nobody_doubts_it(say: Say) -> None:
    code, _, err = say("retention", "resume", "--clock")
    assert (code, err) == (0, "the clock: there was nothing to resume\n")
