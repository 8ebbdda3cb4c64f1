"""The budget for what comes beside bodies, without a socket: what an honest client sends fits, and nothing endless does."""

from __future__ import annotations

import pytest

from umbel.runtime.transports.http.framing import MAX_FIELDS, MAX_HEAD, PIECE, Framing, Overdrawn


def parsed(framing, size):
    """That many bytes that the parser makes nothing of yet; the sizes of its pieces."""
    pieces = []
    while size:
        pieces.append(framing.piece(size))
        size -= pieces[-1]
    framing.piece(0)
    return pieces


def message(framing, *, fields=5, head=300, length=0):
    framing.begins()
    for _ in range(fields):
        framing.field()
    parsed(framing, head)
    framing.head_ends(length)


def test_a_head_comes_in_small_pieces_and_a_body_in_one():
    framing = Framing()
    message(framing, length=10**6)
    assert framing.piece(2**18) == 2**18
    framing.body(2**18)
    assert framing.piece(3 * PIECE) == 3 * PIECE


def test_what_follows_a_body_is_no_body():
    framing = Framing()
    message(framing, length=5000)
    assert framing.piece(10_000) == 5000
    framing.body(5000)
    assert framing.piece(5000) == PIECE


def test_a_head_without_end_is_overdrawn():
    framing = Framing()
    framing.begins()
    parsed(framing, MAX_HEAD)
    with pytest.raises(Overdrawn, match="65,536 bytes of a head"):
        parsed(framing, 1)


def test_one_byte_at_a_time_is_counted_as_well():
    framing = Framing()
    framing.begins()
    for _ in range(MAX_HEAD + 1):
        framing.piece(1)
    with pytest.raises(Overdrawn):
        framing.piece(1)


def test_every_message_has_a_budget_of_its_own():
    framing = Framing()
    for _ in range(100):
        message(framing, head=MAX_HEAD // 2)


def test_nothing_at_all_between_two_messages_is_counted():
    framing = Framing()
    message(framing)
    with pytest.raises(Overdrawn, match="what is no body"):
        parsed(framing, 2 * MAX_HEAD)


def test_too_many_fields():
    framing = Framing()
    framing.begins()
    for _ in range(MAX_FIELDS):
        framing.field()
    with pytest.raises(Overdrawn, match="a head of more than 100 fields"):
        framing.field()


def test_a_field_after_the_head_is_a_trailer():
    framing = Framing()
    message(framing)
    with pytest.raises(Overdrawn, match="trailers"):
        framing.field()


def test_chunks_of_four_kilobytes_fit_beside_the_largest_message():
    framing = Framing()
    message(framing)
    for _ in range(18 * 2**20 // 4096):
        parsed(framing, 4096 + 8)
        framing.body(4096)


def test_chunks_of_a_byte_do_not():
    framing = Framing()
    message(framing)
    for _ in range(900):
        parsed(framing, 6)
        framing.body(1)
    with pytest.raises(Overdrawn):
        parsed(framing, 2**14)


def test_a_body_of_known_length_may_come_byte_by_byte():
    framing = Framing()
    message(framing, length=10**5)
    for _ in range(10**5):
        parsed(framing, 1)
        framing.body(1)
