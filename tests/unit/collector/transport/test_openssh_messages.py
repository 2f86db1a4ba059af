"""The stderr of OpenSSH's client, as it comes."""

from __future__ import annotations

from pyrsyncbackup_collector.transport.openssh_messages import LINE_BYTES, TAIL_LINES, Messages, Refusal

REQUESTED = b"debug1: Connection to port -2 forwarding to 10.0.0.1 port 22 requested.\n"
OPENED = b"debug1: channel 3: new direct-tcpip [direct-tcpip] (inactive timeout: 0)\n"
REFUSED = b"channel 3: open failed: connect failed: Connection refused\r\n"


def heard(*parts: bytes) -> Messages:
    messages = Messages()
    for part in parts:
        messages.feed(part)
    return messages


def test_lines_are_put_together_from_pieces_and_the_rest_counts_at_the_end():
    messages = heard(b"one\r\nt", b"wo\nthr", b"ee")
    assert messages.said.lines == ("one", "two")
    messages.finish()
    assert messages.said.lines == ("one", "two", "three")


def test_remarks_of_the_client_are_no_last_lines():
    assert heard(b"debug1: Connecting to x\nbad\n").said.lines == ("bad",)


def test_what_comes_without_end_is_cut_and_counted():
    messages = heard(b"x" * 10_000_000, b"y\n", *(b"line %d\n" % number for number in range(100)))
    assert len(messages.said.lines) == TAIL_LINES
    assert heard(b"x" * 10_000_000, b"y\nz\n").said.lines == ("x" * LINE_BYTES, "z")


def test_nothing_gets_through_that_a_terminal_obeys():
    assert heard(b"\x1b[31m\xff\x07\n").said.lines == ("\\x1b[31m\\xff\\x07",)


def test_a_connection_that_is_refused_is_known_by_where_it_led():
    messages = heard(REQUESTED, OPENED, REFUSED)
    assert messages.refusal("10.0.0.1", 22) == Refusal(False, "Connection refused")
    assert messages.refusal("10.0.0.1", 23) is None
    assert messages.said.lines == ("channel 3: open failed: connect failed: Connection refused",)


def test_the_words_for_a_forbidden_one_may_be_missing():
    forbidden = b"channel 3: open failed: administratively prohibited\n"
    assert heard(REQUESTED, OPENED, forbidden).refusal("10.0.0.1", 22) == Refusal(True, "administratively prohibited")


def test_the_next_connection_to_there_makes_it_forgotten():
    assert heard(REQUESTED, OPENED, REFUSED, REQUESTED, OPENED).refusal("10.0.0.1", 22) is None


def test_a_channel_that_was_closed_says_nothing_of_the_next_with_its_number():
    freed = b"debug1: channel 3: free: direct-tcpip, nchannels 3\n"
    assert heard(REQUESTED, OPENED, freed, REFUSED).refusal("10.0.0.1", 22) is None


def test_what_was_said_before_the_login_does_not_count_after_it():
    messages = heard(REQUESTED, OPENED, REFUSED)
    messages.logged_in()
    assert messages.said.lines == ()
    assert messages.refusal("10.0.0.1", 22) is None


def test_keys_that_were_tried_taken_and_not_enough():
    said = heard(
        b"debug1: Offering public key: /my keys/one ED25519 SHA256:abc explicit\n" * 9,
        b"debug1: Server accepts key: /my keys/one ED25519 SHA256:abc explicit\n",
        b'Authenticated using "publickey" with partial success.\n',
    ).said
    assert said.offered == ("/my keys/one",) * 5
    assert said.accepted == "/my keys/one"
    assert said.partial
