"""Whose request is next, on an event loop and without a socket."""

from __future__ import annotations

import asyncio

import pytest

from umbel.runtime.transports.http.turns import Turns


def order(*requests, owing=()):
    """In which order these requests begin, each an address and a client that ask at the same moment."""

    async def ask(turns, begun, address, client):
        await turns.take(address, client, owes=client in owing)
        begun.append(client)

    async def main():
        turns, begun = Turns(), []
        await asyncio.gather(*(ask(turns, begun, *request) for request in requests))
        return begun

    return asyncio.run(main())


def test_whoever_is_alone_begins_at_once():
    async def main():
        turns = Turns()
        with pytest.raises(StopIteration):  # it has nothing to wait for
            turns.take("x", "a", owes=False).send(None)

    asyncio.run(main())


def test_one_request_waits_for_one_turn_and_not_for_a_thousand():
    begun = order(*[("x", "many")] * 1000, ("x", "one"))
    assert begun.index("one") <= 5
    assert len(begun) == 1001


def test_another_address_waits_for_one_turn_and_not_for_all_clients_of_the_first():
    crowd = [("x", f"m{n}") for n in range(500)]
    begun = order(*crowd, ("y", "other"))
    assert begun.index("other") <= 5


def test_clients_of_one_address_take_turns():
    begun = order(*[("x", "a")] * 20, *[("x", "b")] * 20)
    assert "".join(begun[4:36]) in ("ab" * 16, "ba" * 16), begun


def test_whoever_owes_an_answer_does_not_wait_for_those_who_ask():
    begun = order(*[("x", f"m{n}") for n in range(100)], ("x", "a"), owing="a")
    assert begun.index("a") <= 4


def test_those_who_owe_take_turns_as_well():
    begun = order(*[("x", "many")] * 200, ("x", "a"), owing=("many", "a"))
    assert begun.index("a") <= 9


def test_a_request_that_is_given_up_takes_no_turn():
    async def main():
        turns = Turns()
        asked = [asyncio.ensure_future(turns.take("x", str(number), owes=False)) for number in range(20)]
        await asked[0]
        for request in asked[5:19]:
            request.cancel()
        await asyncio.wait_for(asked[19], 5)

    asyncio.run(main())
