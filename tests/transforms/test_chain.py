"""Transforms one after another: which orders there are, what a task says of them, and what the other side makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.client import NumPyClient
from umbel.common import ndarrays_to_parameters
from umbel.errors import Rejected
from umbel.params import Params
from umbel.server.strategy import FedAvg, FedMedian, FedXgbBagging, Krum, Strategy
from umbel.strategies.classic.adapter import host_of
from umbel.testing import run_locally
from umbel.transforms import (
    Applied,
    Reader,
    Site,
    Totals,
    Transform,
    cast,
    chain,
    chain_of,
    clip,
    differences,
    identity,
    int8,
    register,
    top_k,
)
from umbel.transforms.base import _registry
from umbel.update import MODEL, Layout, Update


def refusal(function, *arguments, **keywords) -> str:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the words are compared
        function(*arguments, **keywords)
    return str(refused.value)


def test_differences_come_first_by_themselves_and_once():
    assert repr(chain(clip(1.0), int8())) == "chain(differences(), clip(norm=1.0), int8(block=4096))"
    assert chain(chain(differences(), clip(1.0)), differences(), int8()).layouts(None)[0] == Layout.of(None)
    assert [link.name for link in chain(chain(clip(1.0)), int8()).links] == ["differences", "clip", "int8"]
    assert [link.name for link in chain(differences()).links] == ["differences"]


def test_no_transforms_are_the_identity():
    assert chain() is chain(None) is chain(identity()) is identity()


def test_orders_that_cannot_work_are_refused_with_the_one_that_does():
    assert refusal(chain, int8(), clip(1.0)) == (
        "chain() has clip after int8, whose codes it would see; write chain(clip(…), int8(…))"
    )
    assert refusal(chain, int8(), cast("fp16")) == "chain() has the codecs int8 and cast; an update travels in one of them"
    assert refusal(chain, clip(1.0), clip(2.0)) == "chain() has clip twice; once is enough"


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        *((clip, odd) for odd in (0, float("nan"), True, "1")),
        *((cast, odd) for odd in ("fp8", ["fp16"])),
        *((int8, odd) for odd in (0, 1.5)),
        *((top_k, odd) for odd in (0.0, 1.01)),
    ],
)
def test_settings_that_make_no_sense_are_refused_where_the_transform_is_made(make, setting):
    assert repr(setting) in refusal(make, setting)


def test_a_task_carries_names_settings_and_facts_and_the_other_side_makes_the_same():
    ours = chain(clip(2.0), int8(block=64))
    applied = ours.applied({"clip": {"norm": 1.5}})
    assert applied == (
        Applied("differences"),
        Applied("clip", {"norm": 2.0}, {"norm": 1.5}),
        Applied("int8", {"block": 64}),
    )
    assert repr(chain_of(applied)) == repr(ours)


def test_a_transform_that_is_not_known_is_refused_by_name_with_the_remedy():
    with pytest.raises(Rejected, match=r"the transform 'rotate', which this client does not know. Import the mod"):
        chain_of([Applied("rotate")])
    with pytest.raises(Rejected, match=r"'int8' with settings that it does not take here .*the same version"):
        chain_of([Applied("int8", {"bits": 4})])


def test_a_name_that_another_function_has_is_not_given_away():
    def int8() -> Transform:
        return Transform("int8")

    assert refusal(register, int8) == (
        "umbel.transforms.int8 has registered a transform called 'int8'; give yours another name"
    )


def test_what_is_no_transform_is_named():
    for odd in ("clip", clip, 3, [clip(1.0)]):
        with pytest.raises(TypeError, match=r"chain\(\) takes transforms; got .*: write chain\(clip\(1.0\), int8\(\)\)"):
            chain(odd)
    for odd in (None, clip(1.0), lambda: clip(1.0)):
        with pytest.raises(TypeError, match=r"register\(\) takes a function with a name"):
            register(odd)


def test_settings_may_be_numbers_of_numpy():
    assert repr(chain(clip(np.float32(0.5)), int8(np.int64(64)))) == repr(chain(clip(0.5), int8(64)))
    assert repr(top_k(np.float32(0.5))) == "top_k(fraction=0.5)"


def test_a_transform_that_nobody_registered_is_refused_before_the_run():
    assert "no transform is registered as 'lonely'" in refusal(lambda: chain(Transform("lonely")).makers)


def test_settings_and_facts_are_plain():
    for setting in (np.ones(3), float("nan"), 2**70, None):
        assert refusal(Transform, "odd", {"mask": setting}).endswith("a task carries numbers and texts alone")
    for fact in ("1", float("inf"), 2**70):
        assert refusal(Transform, "odd", facts={"norm": fact}).endswith("facts are finite numbers")
    assert refusal(Transform, "odd", {3: 4}) == "odd has the settings {3: 4}; they are a dict with names"
    assert refusal(Transform, "odd", encode=None) == "odd has encode=None; it is a function"
    assert refusal(Transform, "").startswith("a transform has the name of the function that makes it")
    growing = chain(Transform("growing", advance=lambda facts, totals: {"norm": np.float64(totals.examples)}))
    assert growing.advance({}, Totals(1, 2, 30)) == {"growing": {"norm": 30.0}}
    broken = chain(Transform("growing", advance=lambda facts, totals: {"norm": float("inf")}))
    assert refusal(broken.advance, {}, Totals(1, 2, 30)) == (
        "advance() of growing made the fact norm=inf; facts are finite numbers"
    )


def test_a_transform_whose_layout_is_not_what_it_makes_is_named():
    wrong = chain(Transform("wrong", encode=lambda update, base, site: update._replace(parts={**update.parts, "more": []})))
    base = Params.of([np.zeros(2)])
    assert refusal(wrong.encode, Update({MODEL: [np.ones(2)]}, 1, {}), base, lambda link: Site(link.name)) == (
        "encode() of wrong made difference: float64[2]; more: , and its layout says difference: float64[2]"
    )


def made_once(name, settings, **halves):
    """A transform that anyone can make."""

    def make(**given) -> Transform:
        return Transform(name, given, **halves)

    make.__name__ = name
    make.__qualname__ += repr(halves)
    _registry.pop(name, None)
    return register(make)(**settings)


def test_settings_that_do_not_make_the_transform_again_are_refused_before_the_run():
    def shy() -> Transform:
        return Transform("shy", {"size": 2})

    register(shy)
    said = refusal(run_locally, FedAvg(transform=shy()), {})
    assert "shy() does not take the settings of its shy(size=2) by name" in said


@pytest.mark.parametrize(
    ("half", "returns", "words"),
    [
        ("layout", None, "layout() of nonsense returned a NoneType; return a Layout"),
        ("layout", Layout(()), "layout() of nonsense has no part 'difference' any more, and no decode()"),
        ("layout", Layout((("difference", [3]),)), "layout() of nonsense has a list for the part 'difference'"),
        ("decode", None, "decode() of nonsense returned a NoneType; return Reader(arrival.layout, read)"),
        ("decode", Reader(Layout(()), lambda *_: None), "decode() of nonsense read a NoneType where "),
        ("decode", Reader(Layout(()), lambda *_: np.ones(2)), "decode() of nonsense read float64[2] where "),
        ("decode", Reader(Layout(()), lambda *_: np.ones(1, complex)), "decode() of nonsense read complex128[1] where "),
        ("finish", None, "finish() of nonsense returned a NoneType for float64[3]; return a block like it"),
        ("finish", 0.0, "finish() of nonsense returned a float for float64[3]; return a block like it"),
        ("advance", None, "advance() of nonsense returned a NoneType; return a dict of numbers"),
        ("advance", {"norm": 10**400}, "advance() of nonsense made the fact norm=1000"),
        ("advance", {3: 1.0}, "advance() of nonsense made the fact 3=1.0"),
    ],
)
def test_what_a_servers_half_returns_is_checked_and_named(half, returns, words):
    link = made_once("nonsense", {}, **{half: lambda *_: returns})
    made = FedAvg(
        fraction_evaluate=0.0, transform=link, initial_parameters=ndarrays_to_parameters([np.zeros(3), np.array([1])])
    )
    assert words in refusal(run_locally, made, {"0": Still(), "1": Still()}, num_rounds=1)


def test_what_a_servers_half_raises_has_a_note_that_says_whose_it_is():
    link = made_once("divides", {}, finish=lambda *_: 1 / 0)
    made = FedAvg(fraction_evaluate=0.0, transform=link, initial_parameters=ndarrays_to_parameters([np.zeros(3)]))
    with pytest.raises(ZeroDivisionError) as raised:
        run_locally(made, {"0": Still(), "1": Still()}, num_rounds=1)
    assert raised.value.__notes__ == ["raised by finish() of divides"]


def test_facts_that_advance_makes_out_of_nothing_are_kept():
    seen = []

    def encode(update, base, site):
        seen.append(dict(site.facts))
        return update

    link = made_once("counting", {}, encode=encode, advance=lambda facts, totals: {"rounds": facts.get("rounds", 0) + 1})
    made = FedAvg(fraction_evaluate=0.0, transform=link, initial_parameters=ndarrays_to_parameters([np.zeros(3)]))
    run_locally(made, {"0": Still(), "1": Still()}, num_rounds=3)
    assert seen[::2] == [{}, {"rounds": 1}, {"rounds": 2}]


class Still(NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


# ---- with strategies


def test_pairs_that_cannot_work_are_refused_when_the_strategy_is_made():
    for cls in (Krum, FedMedian):
        assert refusal(cls, transform=top_k()).startswith(f"{cls.__name__} compares updates with each other, and top_k")
        cls(transform=chain(clip(1.0), int8()))
    assert refusal(FedXgbBagging, transform=clip(1.0)) == (
        "FedXgbBagging takes updates of any form, and transforms need the model's; leave out transform="
    )
    assert refusal(FedAvg, transform=clip(1.0), max_update_norm=3.0).endswith(
        "bound every update by clip(NORM) in the transform instead"
    )


def test_transform_takes_a_transform_or_a_chain_and_nothing_else():
    FedAvg(transform=clip(1.0))
    FedAvg(transform=chain(clip(1.0)))
    for wrong in (3, clip, "clip"):
        with pytest.raises(TypeError, match=r"it is a Transform, or None for none: write transform=clip\(1.0\)"):
            FedAvg(transform=wrong)


class Own(FedAvg):
    def aggregate_fit(self, server_round, results, failures):
        return None, {}


def test_a_strategy_that_takes_updates_of_any_form_is_refused_before_the_first_round():
    Own.receives = "anything"
    try:
        with pytest.raises(ValueError, match="Own takes updates of any form"):
            run_locally(Own(transform=clip(1.0)), {})
    finally:
        del Own.receives


def test_a_step_on_the_sum_needs_to_know_that_umbel_combines():
    noisy = Transform("noisy", finish=lambda block, start, totals, facts: block)
    with pytest.raises(ValueError, match=r"Own has an aggregate_fit of its own, and noisy.*receives = \"sum\" in its class"):
        run_locally(Own(transform=noisy), {})


class Holding(Strategy):
    """Leaves everything to another strategy."""

    def __init__(self, held):
        self.held = held

    def initialize_parameters(self, client_manager):
        return self.held.initialize_parameters(client_manager)

    def configure_fit(self, server_round, parameters, client_manager):
        return self.held.configure_fit(server_round, parameters, client_manager)

    def aggregate_fit(self, server_round, results, failures):
        return self.held.aggregate_fit(server_round, results, failures)

    def configure_evaluate(self, server_round, parameters, client_manager):
        return []

    def aggregate_evaluate(self, server_round, results, failures):
        return None, {}

    def evaluate(self, server_round, parameters):
        return None


def test_a_strategy_that_holds_another_has_its_transforms():
    assert repr(host_of(Holding(FedAvg(transform=clip(1.0)))).declared.transforms) == "chain(differences(), clip(norm=1.0))"
    assert host_of(Holding(FedAvg())).declared.transforms is identity()
