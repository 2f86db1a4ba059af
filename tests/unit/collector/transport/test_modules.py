"""Modules as a host offers them: kept, dropped, or made invalid with the reason."""

from __future__ import annotations

import pytest
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup_collector.transport.modules import offer, offers
from pyrsyncbackup_collector.transport.offer import ModuleState, Validator


def module(name: str = "etc", *roots: pb.Root, **more) -> pb.Module:
    return pb.Module(name=name, state=1, roots=roots or [pb.Root(id=1, path=b"etc")], **more)


def test_names_that_are_no_names_and_twins_are_dropped_with_a_reason():
    found = offers([module("ok"), module("../x"), module("A"), module("ok"), module("x\x1b[2J")])
    assert [one.name for one in found.modules] == ["ok"]
    assert len(found.dropped) == 4
    assert not any("\x1b" in line for line in found.dropped)


def test_a_thousand_modules_are_enough():
    found = offers(module(f"m{number}") for number in range(2000))
    assert len(found.modules) == 1000
    assert "more than" in found.dropped[0]


@pytest.mark.parametrize(
    "roots",
    [
        [pb.Root(id=0, path=b"etc")],
        [pb.Root(id=1, path=b"/etc")],
        [pb.Root(id=1, path=b"../etc")],
        [pb.Root(id=1, path=b"etc"), pb.Root(id=1, path=b"usr")],
        [pb.Root(id=1, path=b"etc"), pb.Root(id=2, path=b"etc", names=[b"x"])],
        [pb.Root(id=1, path=b"etc"), pb.Root(id=2, path=b"etc/nginx")],
        [pb.Root(id=1, path=b"etc"), pb.Root(id=3, path=b"etc-x"), pb.Root(id=2, path=b"etc/nginx/a")],
        [pb.Root(id=1, path=b""), pb.Root(id=2, path=b"etc")],
        [pb.Root(id=1, path=b"etc", names=[b"a/b"])],
        [pb.Root(id=1, path=b"etc", names=[b".."])],
    ],
)
def test_roots_that_do_not_hold_together_make_it_invalid(roots):
    found = offer(module("etc", *roots))
    assert found.state is ModuleState.INVALID
    assert found.reason
    assert found.roots == ()


def test_single_names_beside_a_tree_below_hold_together():
    found = offer(module("etc", pb.Root(id=1, path=b"etc", names=[b"hosts"]), pb.Root(id=2, path=b"etc/nginx")))
    assert found.state is ModuleState.READY
    assert [root.path for root in found.roots] == [b"etc", b"etc/nginx"]


def test_every_text_is_cut_and_made_printable():
    found = offer(
        module(title="\x1b[2J" + "x" * 1000, reason="y" * 5000, hints=pb.Hints(check="1h", keep={"last": 3, "x": 1}))
    )
    assert "\x1b" not in found.title
    assert len(found.title) < 220
    assert len(found.reason) == 1000
    assert (found.hints.check, found.hints.pull, found.hints.keep) == ("1h", None, {"last": 3})


def test_a_ready_module_without_roots_is_invalid_and_an_unknown_state_too():
    assert offer(pb.Module(name="x", state=1)).state is ModuleState.INVALID
    assert offer(pb.Module(name="x", state=77)).state is ModuleState.INVALID
    assert offer(pb.Module(name="x", state=2, reason="no nginx")).state is ModuleState.ABSENT


def test_a_validator_is_taken_as_it_is_said():
    message = pb.Validator(command=["nginx", "-t", "{root}/x"], beside=["etc"], directories=["/var/log/nginx"])
    expected = Validator(("nginx", "-t", "{root}/x"), ("etc",), ("/var/log/nginx",))
    assert offer(module(validator=message)).validator == expected


@pytest.mark.parametrize(
    "message",
    [
        pb.Validator(),
        pb.Validator(command=[""]),
        pb.Validator(command=["/bin/sh", "-c", "x"]),
        pb.Validator(command=["../x"]),
        pb.Validator(command=["x", "a\0b"]),
        pb.Validator(command=["x"] * 51),
        pb.Validator(command=["x", "y" * 9000]),
        pb.Validator(command=["x"], beside=["../etc"]),
        pb.Validator(command=["x"], directories=["var"]),
        pb.Validator(command=["x"], directories=["/var/../usr"]),
        pb.Validator(command=["x"], directories=["/"]),
        pb.Validator(command=["x"], directories=["/a//b"]),
    ],
)
def test_a_validator_that_cannot_be_meant_is_none(message):
    found = offer(module(validator=message))
    assert (found.state, found.validator) == (ModuleState.READY, Validator())
