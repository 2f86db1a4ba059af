"""What every transport must do alike: the way differs, what comes out and what is refused does not."""

from __future__ import annotations

import contextlib

import pytest
from pyrsyncbackup import identity
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import invite, own_identity

from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, make_config, relayed_host, ssh_host
from tests.support.plain_agent import PlainAgent, serving
from tests.support.sshd import running
from tests.support.waiting import until


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with running(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    with RunningAgent(tmp_path_factory.mktemp("relay"), name="bastion", relay=True) as relay:
        yield relay


@pytest.fixture(params=["sshtunnel", "openssh", "direct", "relay"])
def transport(request):
    return request.param


@pytest.fixture
def make_host(transport, sshd, relay, config):
    def make(agent_port, **more):
        if transport == "direct":
            return direct_host(agent_port, **more)
        if transport == "relay":
            relay.peer(f"p{agent_port}", f"127.0.0.1:{agent_port}")
            relay.reload()
            return relayed_host(trusted_relay(relay, config), f"p{agent_port}", **more)
        return ssh_host(sshd, agent_port, transport=transport, **more)

    return make


def trusted_relay(relay, config):
    """The relay as a host, with both sides trusting each other."""
    relay.trust("contract", own_identity(config.state).certificate_pem)
    pin = config.state / "pins" / "bastion.pem"
    pin.parent.mkdir(parents=True, exist_ok=True)
    pin.write_bytes(relay.certificate_pem)
    return direct_host(relay.port, name="bastion")


@pytest.fixture
def config(tmp_path):
    return make_config(tmp_path / "c")


@pytest.fixture
def connections(config):
    with contextlib.closing(Connections(config, SystemClock())) as connections:
        yield connections


@pytest.fixture
def invitation(config, transport):
    return invite(config.state, via="bastion" if transport == "relay" else None)


@pytest.fixture
def agent(tmp_path, invitation):
    own = identity.load_or_create(tmp_path / "agent")
    with serving(PlainAgent(own, invitation.secret), [invitation.certificate_pem]) as agent:
        yield agent


@pytest.fixture
def host(make_host, agent):
    return make_host(int(agent.address.rpartition(":")[2]))


def test_an_invited_agent_is_pinned_at_first_contact_and_answers(connections, host, agent, config):
    with connections.agent(host) as client:
        assert client.info().name == "plain"
    assert (config.state / "pins/web1.pem").read_bytes() == agent.identity.certificate_pem
    with connections.agent(host) as client, client.open("etc") as session:
        assert session.offer.name == "etc"


def test_an_agent_without_proof_is_refused_until_it_is_pinned(connections, host, agent):
    agent.secret = b""
    with pytest.raises(errors.AgentKeyUnknown, match="did not prove") as caught, connections.agent(host):
        pass
    assert f"--fingerprint {agent.identity.fingerprint}" in caught.value.hint
    seen = connections.inspect(host)
    assert (seen.agent_fingerprint, seen.agent_trusted, seen.proven) == (agent.identity.fingerprint, False, False)
    connections.pin(host, seen.agent_certificate)
    with connections.agent(host) as client:
        assert client.info().name == "plain"
    assert connections.inspect(host).agent_trusted


def test_a_proof_with_a_foreign_secret_is_no_proof(connections, host, agent):
    agent.secret = identity.new_secret()
    with pytest.raises(errors.AgentKeyUnknown), connections.agent(host):
        pass


def test_a_secret_for_one_host_proves_that_host_only(connections, make_host, agent, config):
    agent.secret = invite(config.state, "web2").secret
    port = int(agent.address.rpartition(":")[2])
    with pytest.raises(errors.AgentKeyUnknown), connections.agent(make_host(port, name="web1")):
        pass
    with connections.agent(make_host(port, name="web2")) as client:
        assert client.info().name == "plain"


def test_with_trust_set_to_pinned_no_proof_suffices(connections, make_host, agent):
    port = int(agent.address.rpartition(":")[2])
    with (
        pytest.raises(errors.AgentKeyUnknown, match="pinned keys only"),
        connections.agent(make_host(port, trust="pinned")),
    ):
        pass


def test_a_changed_agent_key_is_refused_with_both_fingerprints_until_replaced(connections, host, agent):
    old = identity.create()[1]
    connections.pin(host, old)
    with pytest.raises(errors.AgentKeyChanged) as caught, connections.agent(host):
        pass
    assert identity.fingerprint(old) in caught.value.cause
    assert agent.identity.fingerprint in caught.value.cause
    assert "--replace" in caught.value.hint
    with pytest.raises(errors.AgentKeyChanged):
        connections.pin(host, agent.identity.certificate_pem)
    connections.pin(host, agent.identity.certificate_pem, replace=True)
    with connections.agent(host) as client:
        assert client.info().name == "plain"


@pytest.mark.parametrize("pinned", [True, False])
def test_an_agent_that_does_not_trust_us_is_named(connections, make_host, tmp_path, pinned):
    own = identity.load_or_create(tmp_path / "agent2")
    with serving(PlainAgent(own), [identity.create()[1]]) as agent:
        host = make_host(int(agent.address.rpartition(":")[2]))
        if pinned:
            connections.pin(host, own.certificate_pem)
        with (
            pytest.raises(errors.AgentRefused, match="does not trust this collector") as caught,
            connections.agent(host),
        ):
            pass
    assert "accept" in caught.value.hint


def test_protocol_ranges_that_do_not_meet_are_named(connections, host, agent):
    agent.protocol = (7, 9)
    with pytest.raises(errors.ProtocolMismatch, match="7 to 9"), connections.agent(host):
        pass


def test_the_connection_is_shared_kept_and_made_anew_after_a_loss(connections, host, agent):
    with connections.agent(host) as one, connections.agent(host) as two:
        assert one is two
    with connections.agent(host) as three:
        assert three is one
    with pytest.raises(errors.ConnectionLost), connections.agent(host):
        raise errors.ConnectionLost("cut")
    until(lambda: "web1" not in connections.open_names())
    with connections.agent(host) as four:
        assert four is not one
        assert four.info().name == "plain"


def test_something_else_on_the_port_is_named(connections, make_host, transport, sshd):
    with (
        pytest.raises(errors.AgentUnreachable, match="does not speak TLS") as caught,
        connections.agent(make_host(sshd.port)),
    ):
        pass
    assert ("agent.toml of bastion" if transport == "relay" else "agent_port") in caught.value.hint


def test_an_idle_connection_is_closed(tmp_path, make_host, agent, config):
    class Hand:
        value = 0.0

        def now(self):
            return self.value

        def monotonic(self):
            return self.value

    clock = Hand()
    with contextlib.closing(Connections(config, clock)) as connections:
        host = make_host(int(agent.address.rpartition(":")[2]))
        with connections.agent(host):
            clock.value += 1000
            connections.sweep()
            assert "web1" in connections.open_names()
        clock.value += 119
        connections.sweep()
        assert "web1" in connections.open_names()
        clock.value += 2
        connections.sweep()
        assert "web1" not in connections.open_names()
        # What it rested upon is idle only since then.
        clock.value += 121
        connections.sweep()
        assert connections.open_names() == []
