"""Who gives way where memory for messages is short, without a socket."""

from __future__ import annotations

from umbel.runtime.transports.http.buffer import Buffer, Held

KIB = 2**10


def taken(buffer, *messages, size=KIB, **more):
    """These messages, each an address and a client, as far as there is room."""
    held = [Held(address, client, **more) for address, client in messages]
    for one in held:
        if not buffer.take(one, size):
            break
    return held


def test_what_is_given_back_can_be_taken():
    buffer = Buffer(8 * KIB, slow=1.0)
    held = taken(buffer, *[("x", str(n)) for n in range(8)])
    comer = Held("y", "a")
    assert not buffer.take(comer, 1)
    buffer.give_back(held[0])
    assert buffer.take(comer, KIB)
    assert buffer.size == 8 * KIB


def test_one_client_has_an_eighth_at_most_and_nobody_gives_way_to_it():
    buffer = Buffer(8 * KIB, slow=1.0)
    taken(buffer, ("x", "a"))
    again = Held("x", "a")
    assert not buffer.take(again, 1)
    assert buffer.gives_way(again, 1) is None


def test_a_message_that_hardly_moves_gives_way_first():
    buffer = Buffer(8 * KIB, slow=10.0)
    held = taken(buffer, *[("x", str(n)) for n in range(8)])
    held[5].moves = 3.0
    assert buffer.gives_way(Held("x", "a"), KIB) is held[5]


def test_the_address_that_has_most_gives_way():
    buffer = Buffer(80 * KIB, slow=1.0)
    taken(buffer, *[("x", f"m{n}") for n in range(70)], *[("y", str(n)) for n in range(10)])
    way = buffer.gives_way(Held("z", "a"), KIB)
    assert way is not None
    assert way.address == "x"


def test_within_an_address_the_client_that_has_most_gives_way():
    buffer = Buffer(80 * KIB, slow=1.0)
    greedy = taken(buffer, ("x", "m"), size=10 * KIB)
    taken(buffer, *[("x", str(n)) for n in range(70)])
    assert buffer.gives_way(Held("x", "a"), KIB) is greedy[0]


def test_nobody_gives_way_to_one_that_would_have_as_much():
    buffer = Buffer(8 * KIB, slow=1.0)
    taken(buffer, *[("x", str(n)) for n in range(8)])
    assert buffer.gives_way(Held("x", "a"), KIB) is None


def test_a_message_that_has_come_gives_way_to_nobody():
    buffer = Buffer(8 * KIB, slow=1.0)
    taken(buffer, *[("x", str(n)) for n in range(8)], whole=True, moves=0.0)
    assert buffer.gives_way(Held("y", "a"), KIB) is None


def test_nothing_is_kept_of_those_who_have_gone():
    buffer = Buffer(8 * KIB, slow=1.0)
    for one in taken(buffer, *[("x", str(n)) for n in range(8)]):
        buffer.give_back(one)
    assert buffer.size == 0
    assert not buffer._clients
    assert not buffer._addresses
    assert not buffer._held
