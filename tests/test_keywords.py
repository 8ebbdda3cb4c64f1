"""Every public keyword is checked before anything starts; what is said has the argument, the value and the right form."""

from __future__ import annotations

import inspect
import math
import os
from typing import get_type_hints

import numpy as np
import pytest

import umbel as fl
from umbel import selectors
from umbel.client import ClientApp, start_client, start_numpy_client
from umbel.common import ndarrays_to_parameters
from umbel.errors import SimulationError
from umbel.forms import function, instance, pem, real, whole
from umbel.keywords import TAKES, form_of
from umbel.server import Algorithm, Pace, Server, ServerApp, ServerConfig, SimpleClientManager, Until, start_server, strategy
from umbel.server.strategy import FedAdam, FedAvg, FedAvgM, FedBuff, FedMedian, Krum, MultiKrum, PowerOfChoice
from umbel.simulation import start_simulation

STRATEGIES = [getattr(strategy, name) for name in strategy.__all__ if name != "Strategy"]
CALLBACKS = [getattr(fl.callbacks, name) for name in fl.callbacks.__all__ if name != "Callback"]
CLASSES = [ServerConfig, Server, ServerApp, Pace, Until, Algorithm, ClientApp, *STRATEGIES, *CALLBACKS]
SELECTORS = [selectors.uniform, selectors.weighted, selectors.everyone, selectors.only]
NET = fl.federate(lambda: None, lambda model: None)
PUBLIC = [*CLASSES, start_server, start_client, start_simulation, NET.simulate, NET.serve, NET.join, *SELECTORS]

INITIAL = ndarrays_to_parameters([np.zeros(2)])
NEEDED = {  # of those that cannot be made without
    "start_client": {"server_address": "127.0.0.1:1", "client": fl.client.NumPyClient()},
    "start_simulation": {"client_fn": lambda context: None},
    "simulate": {"clients": 3},
    "join": {"address": "127.0.0.1:1"},
    "ClientApp": {"client_fn": lambda context: None},
    "Until": {"seconds": 1},
    "CSVLogger": {"path": "rounds.csv"},
    "ModelCheckpoint": {"path": "model.safetensors"},
    "FedProx": {"proximal_mu": 0.1},
    "FLTrust": {"root_fit": lambda number, arrays: arrays},
    "Bucketing": {"strategy": FedMedian()},
    "NearestNeighbourMixing": {"strategy": FedMedian()},
    "PowerOfChoice": {"strategy": FedAvg(), "candidates": 3},
    "uniform": {"fraction": 0.1, "min_clients": 1, "min_available": 1},
    "weighted": {"weight": len, "fraction": 0.1, "min_clients": 1, "min_available": 1},
    "only": {"able": bool, "selector": selectors.everyone()},
} | {name: {"initial_parameters": INITIAL} for name in ("FedOpt", "FedAdagrad", "FedAdam", "FedYogi")}
MEANINGLESS = {
    "data",  # of join: whatever the functions take
    "grpc_max_message_length",
    "transport",
    "keep_initialised",
    "actor_type",
    "actor_kwargs",
    "actor_scheduling",
    "first_aggregation_rule",  # Bulyan looks at it itself
}
BELOW_ZERO = {"seed", "at_least", "at_most"}


def parameters_of(thing):
    """Its own keywords; those that a class passes on are its parents' own."""
    function = vars(thing).get("__init__") if isinstance(thing, type) else thing
    found = [] if function is None else inspect.signature(function).parameters.values()
    return [one for one in found if one.name != "self" and one.kind is not one.VAR_KEYWORD]


def is_number(one):
    return one.annotation.split(" | ")[0] in ("int", "float", "Rate")


def is_count(one):
    return one.annotation.split(" | ")[0] == "int"


def refused(thing, name, value):
    """What is said of this value of this keyword."""
    given = {key: one for key, one in NEEDED.get(thing.__name__, {}).items() if key != name}
    if name == "client_fn" and thing is start_client:
        given.pop("client")
    with pytest.raises((TypeError, ValueError)) as raised:
        thing(**given, **{name: value})
    said = str(raised.value)
    assert said.startswith(f"{name}="), said
    assert "; it is " in said
    return said


def test_every_public_keyword_has_a_line_in_the_table_and_every_line_a_keyword():
    everywhere = {(thing.__name__, one.name) for thing in PUBLIC for one in parameters_of(thing)}
    missing = sorted(f"{owner}({name}=)" for owner, name in everywhere if form_of(owner, name) is None)
    assert missing == [], "say in umbel/keywords.py, TAKES, what these take"
    known = {name for _, name in everywhere} | {f"{owner}.{name}" for owner, name in everywhere}
    assert sorted(set(TAKES) - known) == []


class Strange:
    def __repr__(self):
        raise OSError("no repr")


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_what_is_of_another_kind_is_refused_by_every_keyword(thing):
    for one in parameters_of(thing):
        if one.name in MEANINGLESS:
            continue
        assert "<Strange>" in refused(thing, one.name, Strange())
        if not form_of(thing.__name__, one.name).none:
            refused(thing, one.name, None)


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda thing: thing.__name__)
def test_every_number_is_refused_as_text_as_a_flag_and_where_it_is_none(thing):
    for one in filter(is_number, parameters_of(thing)):
        if one.name in MEANINGLESS:
            continue
        assert f"write {one.name}=3, without quotes" in refused(thing, one.name, "3").replace("3.0", "3")
        for value in ("three", b"3", True, [1], {}, math.nan, math.inf, -math.inf, 1j):
            refused(thing, one.name, value)
        if one.name not in BELOW_ZERO:
            refused(thing, one.name, -1)
        if is_count(one):
            refused(thing, one.name, 2.5)
            assert f"write {one.name}=3, or int(…) around it" in refused(thing, one.name, 3.0)
        if is_count(one) and one.name != "seed":
            assert "9,223,372,036,854,775,807 is the most" in refused(thing, one.name, 10**30)


def test_every_default_is_a_right_value_and_none_has_a_meaning():
    for thing in PUBLIC:
        for one in parameters_of(thing):
            form = form_of(thing.__name__, one.name)
            if one.default is not one.empty:
                assert form.check(one.name, one.default) == one.default
            optional = "None" in one.annotation or one.default is None or one.name in {*MEANINGLESS, "initial_parameters"}
            assert bool(form.none) == optional, (thing, one.name)


def test_numbers_of_numpy_are_numbers_and_become_plain():
    config = ServerConfig(num_rounds=np.int64(3), round_timeout=np.float32(2.5))
    assert (type(config.num_rounds), type(config.round_timeout)) == (int, float)
    numbers = {"eta": np.float32(0.5), "min_fit_clients": np.uint8(3), "accept_failures": np.bool_(False)}
    made = FedAdam(initial_parameters=INITIAL, **numbers)
    assert (made.eta, made.min_fit_clients, made.accept_failures) == (0.5, 3, False)
    assert type(made.min_fit_clients) is int
    assert Pace(goal=np.int32(3), deadline=5).deadline == 5
    assert FedAvg(fraction_fit=1, accept_failures=0).accept_failures is False
    assert start_simulation.__wrapped__ is not None


class Learner(fl.client.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1], 1, {}


def test_a_run_may_be_told_everything_in_numpy_s_numbers():
    history = start_simulation(
        client_fn=lambda context: Learner(),
        num_clients=np.int64(3),
        config=ServerConfig(num_rounds=np.int16(2)),
        strategy=FedAvgM(
            server_learning_rate=np.float32(0.5),
            fraction_fit=np.float64(1),
            fraction_evaluate=0,
            initial_parameters=INITIAL,
            pace=Pace(quorum=np.int8(1), until=Until(seconds=np.float32(1000))),
            evaluate_fn=lambda number, arrays, config: (float(arrays[0][0]), {}),
        ),
        seed=2**100,
        backend="inline",
        threads=np.int8(1),
    )
    assert history.losses_centralized == [(0, 0.0), (1, 0.5), (2, 1.0)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ServerConfig(num_rounds="3"), "num_rounds='3'; it is a whole number of rounds, 0 or more: write"),
        (lambda: ServerConfig(rounds=3), r"ServerConfig\(\) has no keyword 'rounds'; did you mean 'num_rounds'\?"),
        (lambda: ServerConfig(round_timeout=0), "round_timeout=0; it is a number of seconds above 0"),
        (lambda: start_server(config={"num_rounds": 3}), r"it is a ServerConfig, .*=ServerConfig\(num_rounds=3\)"),
        (lambda: start_server(config=ServerConfig), r"config=ServerConfig; .* class; write config=ServerConfig\(\)"),
        (lambda: start_server(strategy="FedAvg"), r"write strategy=FedAvg\(\), without quotes; there are B.*QFedAvg"),
        (lambda: start_server(strategy="fedadm"), r"write strategy=FedAdam\(\), without quotes; there are"),
        (lambda: start_server(strategy="scaffold"), r"give the object, not its name; there are Bucketing"),
        (lambda: start_server(strategy=FedAvg), r"strategy=FedAvg; it is a strategy, .* write strategy=FedAvg\(\)"),
        (lambda: start_server(strategy=SimpleClientManager()), r"it is a strategy, .* write strategy=FedAvg\(\)"),
        (lambda: start_server(stratgy=FedAvg()), r"start_server\(\) has no keyword 'stratgy'; did you mean 'strategy'\?"),
        (lambda: start_server("0.0.0.0:8080"), r"takes keywords only: write start_server\(server_address=…\)"),
        (lambda: start_server(server_address=8080), "server_address=8080; it is host:port: write server_address='127"),
        (lambda: start_server(server_address=("::", 8080)), "it is host:port: write server_address="),
        (lambda: start_server(certificates="cert.pem"), r"certificates=\('ca.pem', 'certificate.pem', 'key.pem'\)"),
        (lambda: start_server(certificates=("ca.pem", "cert.pem")), "it is a tuple of 3: ca, certificate, key"),
        (lambda: start_server(durability="powr"), "it is one of 'process', 'power': did you mean 'power'"),
        (lambda: start_server(audit="no"), "audit='no'; it is True or False"),
        (lambda: start_client(server_address="h:1", client=Learner), r"client=Learner; .* write client=Learner\(\)"),
        (lambda: start_client(server_address="h:1", client_fn=Learner()), r"write client_fn=lambda context: Learner\(\)"),
        (lambda: start_client(server_address="h:1", client=lambda cid: Learner()), "it is a NumPyClient or a Client"),
        (lambda: start_client(server_adress="h:1", client=Learner()), "did you mean 'server_address'"),
        (lambda: start_numpy_client("h:1", Learner(), max_retry=3), "did you mean 'max_retries'"),
        (lambda: start_numpy_client("h:1", Learner), r"write client=Learner\(\)"),
        (lambda: start_simulation(lambda c: Learner(), 3), r"write start_simulation\(client_fn=…, num_clients=…\)"),
        (lambda: start_simulation(client_fn=Learner(), num_client=3), "did you mean 'num_clients'"),
        (lambda: start_simulation(client_fn=Learner, num_clients=3), r"lambda context: Learner\(…\); this one takes \(\)"),
        (lambda: FedAvg(initial_parameters=3), r"it is Parameters, a list of arrays or a mapping of names .*: .* got int"),
        (lambda: FedAvg(initial_parameters={"w": None}), r"array 'w': dtype object cannot travel"),
        (lambda: FedAvg(evaluate_fn={"accuracy": 1.0}), r"a function \(round, arrays, config\) .*without calling it"),
        (lambda: FedAvg(evaluate_fn=lambda arrays: 0.5), r"^evaluate_fn=<lambda>; .*: this one takes \(arrays\)"),
        (lambda: FedAvg(on_fit_config_fn={"lr": 0.1}), r"on_fit_config_fn={'lr': 0.1}; it is a function \(round\) → a dict"),
        (lambda: FedAvg(pace={"goal": 10}), r"it is a Pace, .* write pace=Pace\(goal=10\)"),
        (lambda: FedAvg(until="accuracy"), "it is an Until, or None for nothing"),
        (lambda: FedAvg(fraction_fit=10), "fraction_fit=10; it is a part of the present clients, from 0 to 1"),
        (lambda: FedAvgM(server_learning_rate=lambda: 0.1), r"or a function of the round: this one takes \(\)"),
        (lambda: FedBuff(buffer_size=5, concurrency=2), "the buffer is 1 to concurrency"),
        (lambda: Krum(num_malicious_clients=0.5), "num_malicious_clients=0.5; it is a whole number of clients, 0 or more"),
        (lambda: PowerOfChoice(FedAvg(), candidates="3"), "write candidates=3, without quotes"),
        (lambda: Until(at_least="0.9"), "write at_least=0.9, without quotes"),
    ],
)
def test_a_slip_is_told_the_argument_the_value_and_the_right_form(make, text):
    with pytest.raises((TypeError, ValueError), match=text):
        make()


def test_none_of_krum_is_no_number_and_of_multi_krum_all_but_f():
    refused(Krum, "num_clients_to_keep", None)
    assert MultiKrum(num_clients_to_keep=None).num_clients_to_keep is None


def test_a_subclass_is_checked_where_it_passes_keywords_on_and_may_give_its_own_another_meaning():
    class Own(FedAvg):
        def __init__(self, iterations="many", **others):
            super().__init__(**others)
            self.iterations = iterations

    assert Own(iterations="few").iterations == "few"
    with pytest.raises(TypeError, match=r"fraction_fit='0\.5'"):
        Own(fraction_fit="0.5")


def test_a_simulation_raises_its_own_error():
    with pytest.raises(SimulationError, match=r"num_clients='3'; .* write num_clients=3, without quotes"):
        start_simulation(client_fn=lambda context: Learner(), num_clients="3")


def test_nothing_has_begun_when_a_keyword_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = {"seed": "1", "keep_rounds": 0, "store_patience": "60", "max_bytes": -1, "strategy": "FedAvg"}
    for name, value in wrong.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name}="):
            start_server(server_address="127.0.0.1:0", **{name: value})
    with pytest.raises(ValueError, match="max_wait_time"):
        start_client(server_address="127.0.0.1:1", client=Learner(), join_token="umbel-join-", max_wait_time=math.nan)
    assert os.listdir() == []


def test_forms_name_classes_that_exist():
    import importlib

    for form in TAKES.values():
        inside = inspect.getclosurevars(form.read).nonlocals
        if "module" in inside and "kind" in inside:
            assert isinstance(getattr(importlib.import_module(inside["module"]), inside["kind"]), type)


def test_signatures_and_hints_are_those_of_the_functions():
    assert "server_address" in inspect.signature(start_server).parameters
    assert get_type_hints(ServerConfig)["num_rounds"] is int


def test_a_long_value_is_cut_off_and_braces_are_no_fields():
    with pytest.raises(TypeError) as raised:
        whole(1, of="of rounds").check("n", ["x" * 1000])
    assert len(str(raised.value)) < 150
    with pytest.raises(TypeError, match=r"takes \(a={}, \*, b\)"):
        function("round", returns="a dict").check("f", lambda a={}, *, b: a)
    with pytest.raises(TypeError, match=r"write c=ServerConfig\(x={1: 2}\)"):
        instance("umbel.config:ServerConfig", "ServerConfig()").check("c", {"x": {1: 2}})


def test_functions_that_do_not_tell_what_they_take_are_taken():
    assert function("round", returns="a number").check("f", max) is max


def test_an_array_without_dimensions_is_no_list():
    with pytest.raises(TypeError, match=r"averaged=array\(1\); it is a list of patterns of names, or positions"):
        FedAvgM(averaged=np.array(1))


def test_a_number_too_large_for_a_float_is_refused_where_a_float_is_meant():
    with pytest.raises(ValueError, match="it is a finite number"):
        real("a finite number").check("x", 10**400)


def test_certificates_may_be_a_list_and_of_any_kind(tmp_path):
    assert pem("ca", "key").check("c", [b"a", tmp_path]) == (b"a", tmp_path)


def test_classes_show_the_signature_of_their_init():
    assert [*inspect.signature(ServerConfig).parameters] == ["num_rounds", "round_timeout"]
    assert "fraction_fit" in inspect.signature(FedMedian).parameters


@pytest.mark.parametrize(
    ("module", "name", "remedy"),
    [
        (fl, "Client", "module 'umbel' has no attribute 'Client'; it is umbel.client.Client"),
        (fl, "start_simulation", "; it is umbel.simulation.start_simulation"),
        (fl, "FedAvg", "; it is umbel.server.strategy.FedAvg"),
        (fl, "start_sever", "; did you mean umbel.server.start_server?"),
        (strategy, "fedavg", "; did you mean umbel.server.strategy.FedAvg?"),
        (strategy, "Scaffold", "; it has Bucketing, Bulyan, CenteredClipping, "),
        (fl, "__wrapped__", "module 'umbel' has no attribute '__wrapped__'"),
    ],
)
def test_a_name_that_is_not_there_is_told_where_it_is(module, name, remedy):
    with pytest.raises(AttributeError) as raised:
        getattr(module, name)
    assert remedy in str(raised.value)
