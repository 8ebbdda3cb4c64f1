"""What may befall a client's code, each a function: python mishaps.py ADDRESS has one befall `fit` in each round."""

import argparse
import asyncio
import sys

import numpy as np

import umbel as fl


def exits():
    sys.exit(2)


def exits_with_words():
    sys.exit("no data at this site")


def quits():
    quit()


def parses_arguments():
    argparse.ArgumentParser().parse_args(["--no-such-option"])


def is_cancelled():
    raise asyncio.CancelledError


def is_cancelled_inside_a_loop():
    asyncio.run(_cancelled())


async def _cancelled():
    raise asyncio.CancelledError


def closes_a_generator():
    raise GeneratorExit


def groups():
    raise BaseExceptionGroup("two at once", [SystemExit(1), ValueError("no")])


class OfOnesOwn(BaseException):
    pass


def raises_its_own():
    raise OfOnesOwn("mine")


def stops():
    next(iter([]))


def has_no_memory():
    raise MemoryError


def recurses():
    recurses()


class Mute(BaseException):
    def __str__(self):
        sys.exit("not even words")


def cannot_say_why():
    raise Mute


MISHAPS = [
    exits, exits_with_words, quits, parses_arguments, is_cancelled, is_cancelled_inside_a_loop, closes_a_generator, groups,
    raises_its_own, stops, has_no_memory, recurses, cannot_say_why,
]  # fmt: skip

SAID = [
    "SystemExit: 2",
    "SystemExit: no data at this site",
    "SystemExit: None",
    "SystemExit: 2",
    "CancelledError",
    "CancelledError",
    "GeneratorExit",
    "BaseExceptionGroup: two at once (2 sub-exceptions)",
    "OfOnesOwn: mine",
    "StopIteration",
    "MemoryError",
    "RecursionError: maximum recursion depth exceeded",
    "Mute: (it cannot say why: its __str__ raises)",
]


def lines():
    """What is said of each mishap in `fit`, with its place."""
    inner = {is_cancelled_inside_a_loop: _cancelled}
    places = [inner.get(each, each).__code__.co_firstlineno + 1 for each in MISHAPS]
    return [f"fit raised {said} (mishaps.py:{line})" for said, line in zip(SAID, places, strict=True)]


class Unlucky(fl.client.NumPyClient):
    """Has the mishap of the round's number; a simulated one, that of its own number."""

    def __init__(self, number=None):
        self.number = number

    def get_parameters(self, config):
        return [np.zeros(3, "float32")]

    def fit(self, parameters, config):
        number = int(config["round"]) - 1 if self.number is None else self.number
        if number < len(MISHAPS):
            MISHAPS[number]()
        return [parameters[0] + 1], 1, {}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 1, {}


if __name__ == "__main__":
    fl.client.start_client(server_address=sys.argv[1], client=Unlucky(), client_id="unlucky")
    print("start_client returned")
