"""What a strategy of one's own receives: a sum where it leaves all to Umbel, each update where it looks; the same bits."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from members import Member, client_fn, fedavg, initial

import umbel as fl
from umbel.common import ndarrays_to_parameters, parameters_to_ndarrays
from umbel.dialogue import FitRes, Parameters, Status
from umbel.dialogue.results import Provenance, Round
from umbel.errors import StrategyError
from umbel.fold import PartialSum, in_memory, plan
from umbel.params import Params, schema_of
from umbel.runtime.transports.simulated.shared import SharedContents, update_file
from umbel.server.strategy import FaultTolerantFedAvg, FedAvg, FedAvgM, Strategy
from umbel.simulation import start_simulation
from umbel.transforms import chain, clip, int8

CLIENTS = 20


def simulate(strategy, client_fn=client_fn, rounds=3):
    config = fl.server.ServerConfig(num_rounds=rounds)
    return start_simulation(
        client_fn=client_fn, num_clients=CLIENTS, config=config, strategy=strategy, backend="inline", progress=False, seed=5
    )


# ---- the same bits, whatever the method does with its results


def as_they_are(results):
    return results


def without_one(results):
    return results[:4] + results[5:]


def backwards(results):
    return results[::-1]


def weighed_otherwise(results):
    for place, (_, res) in enumerate(results):
        res.num_examples = 1 + place % 3
    return results


def exchanged(results):
    results[0][1].parameters, results[1][1].parameters = results[1][1].parameters, results[0][1].parameters
    return results


def of_others(results):
    results[2][1].parameters = ndarrays_to_parameters([a * a.dtype.type(2) for a in results[2][1].parameters.arrays()])
    return results


def changed_in_place(results):
    results[3][1].parameters.arrays()[0][...] = 7
    return results


def copied(results):
    return copy.deepcopy(results)


def looked_at(results):
    assert all(np.isfinite(parameters_to_ndarrays(res.parameters)[0]).all() for _, res in results)
    return results


METHODS = [as_they_are, without_one, backwards, weighed_otherwise, exchanged, of_others, changed_in_place, copied, looked_at]


BASES = [FedAvg, partial(FedAvgM, server_momentum=0.5), partial(FedAvg, transform=chain(clip(0.1), int8()))]


def own(base, change, **members):
    def aggregate_fit(self, server_round, results, failures):
        made, metrics = base.aggregate_fit(self, server_round, change(results), failures)
        return made, metrics

    return type("Own", (base,), {"aggregate_fit": aggregate_fit, **members})


@pytest.mark.parametrize("change", METHODS)
@pytest.mark.parametrize("base", BASES, ids=["FedAvg", "FedAvgM", "codes"])
def test_what_a_method_does_with_its_results_counts_as_if_none_had_been_added_up(base, change):
    named = base.keywords if isinstance(base, partial) else {}
    base = base.func if isinstance(base, partial) else base
    histories = [
        simulate(fedavg(partial(own(base, change, **members), **named)))
        for members in ({}, {"receives": "updates"})  # the second has no sums
    ]
    assert histories[0].metrics_centralized == histories[1].metrics_centralized
    if change in (as_they_are, looked_at, copied):
        assert histories[0].metrics_centralized == simulate(fedavg(partial(base, **named))).metrics_centralized


def test_what_is_kept_of_a_round_is_what_it_was_whenever_it_is_read():
    kept, seen = {}, {}

    class Keeps(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            kept[server_round] = [res.parameters for _, res in results]
            if server_round == 1:
                seen[1] = [parameters_to_ndarrays(parameters)[0].tobytes() for parameters in kept[1]]
            return super().aggregate_fit(server_round, results, failures)

    simulate(fedavg(Keeps))
    assert [parameters_to_ndarrays(parameters)[0].tobytes() for parameters in kept[1]] == seen[1]
    assert [parameters.arrays()[0].tobytes() for parameters in kept[2]] != seen[1]


# ---- sums


def total_of(*updates):
    total = PartialSum(FedAvg().algorithm().aggregator, plan(schema_of([updates[0][0]])))
    for array, examples in updates:
        total.add(total.blocks_of([array]), examples)
    return total


def added_up(*updates):
    """Results that are there as a sum alone."""
    total, weights = total_of(*updates), {task: examples for task, (_, examples) in enumerate(updates)}
    base = Params.of([np.zeros(2)])
    here = Round(number=1, base=(base.schema, in_memory(base)), cohort=len(updates))
    return [
        (None, FitRes(Status(0), Parameters.received(Provenance(task, 0, None, total, weights, here), None), examples, {}))
        for task, examples in weights.items()
    ]


UPDATES = (np.array([1.0, 2.0]), 1), (np.array([5.0, 6.0]), 3)


@pytest.mark.parametrize("kind", [FedAvg, FaultTolerantFedAvg, own(FedAvg, as_they_are)])
def test_where_all_results_are_left_to_umbel_none_is_read(kind):
    made, _ = kind().aggregate_fit(1, added_up(*UPDATES), [])
    assert parameters_to_ndarrays(made)[0].tolist() == [4.0, 5.0]


@pytest.mark.parametrize("change", [without_one, backwards, weighed_otherwise, looked_at, copied])
def test_who_says_sum_and_needs_single_updates_is_told_what_to_say(change):
    strategy = fedavg(own(FedAvg, change, receives="sum"))
    with pytest.raises(StrategyError, match=r'cannot be read by itself, left out or weighed.*receives = "updates"'):
        simulate(strategy, rounds=1)


class Holding(Strategy):
    """Leaves everything to a strategy that it holds."""

    def __init__(self, strategy):
        self.strategy = strategy
        for name in ("initialize_parameters", "configure_fit", "configure_evaluate", "aggregate_evaluate", "evaluate"):
            setattr(self, name, getattr(strategy, name))

    def aggregate_fit(self, server_round, results, failures):
        return self.strategy.aggregate_fit(server_round, results, failures)

    initialize_parameters = configure_fit = configure_evaluate = aggregate_evaluate = evaluate = None


def test_a_strategy_that_is_held_makes_the_bits_that_it_makes_by_itself():
    assert simulate(Holding(fedavg(FedAvg))).metrics_centralized == simulate(fedavg(FedAvg)).metrics_centralized


# ---- updates that are not like the model


def everyone(cls):
    return fedavg(cls, fraction_fit=1.0)


def spoilt(how):
    class Spoils(Member):
        def fit(self, parameters, config):
            answer, *more = super().fit(parameters, config)
            return how(answer) if self.name == "5" else answer, *more

    return Spoils


SPOILT = [
    (lambda answer: answer[:2], "fit() returned 2 arrays, the model has 4 (missing '2', shape (1,))"),
    (lambda answer: [answer[0].T, *answer[1:]], "fit() returned array 0 with shape (5, 20)"),
    (lambda answer: [answer[0] * np.float32(np.nan), *answer[1:]], "array '0' contains nan"),
]


@pytest.mark.parametrize(("how", "why"), SPOILT, ids=["fewer", "turned", "nan"])
def test_an_update_that_umbel_cannot_combine_is_a_failure_there(how, why, caplog):
    told = []

    class Saves(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            told.append([str(failure) for failure in failures])
            return super().aggregate_fit(server_round, results, failures)

    refused, left_out = simulate(everyone(FedAvg), spoilt(how)), simulate(everyone(Saves), spoilt(how))
    assert left_out.metrics_centralized == refused.metrics_centralized
    assert [note.client for note in refused.failures if why in note.text] == ["5"] * 3
    assert not [note for note in left_out.failures if why in note.text]
    assert f"the update of client 5 is left out: {why}" in caplog.text
    assert len(told) == 3
    strict = simulate(everyone(partial(own(FedAvg, as_they_are), accept_failures=False)), spoilt(how), rounds=1)
    (_, before), (_, after) = strict.metrics_centralized["digest"]
    assert before == after


@pytest.mark.parametrize(("how", "why"), SPOILT, ids=["fewer", "turned", "nan"])
def test_a_strategy_that_combines_by_itself_is_given_it_as_it_was_sent(how, why):
    sizes = []

    class Own(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            sent = {proxy.cid: parameters_to_ndarrays(res.parameters) for proxy, res in results}
            sizes.append((len(sent["5"]), sent["5"][0].shape, bool(np.isnan(sent["5"][0]).any())))
            return ndarrays_to_parameters(sent["4"]), {}

    simulate(everyone(Own), spoilt(how), rounds=1)
    whole = how(initial())
    assert sizes == [(len(whole), whole[0].shape, bool(np.isnan(whole[0]).any()))]


def test_who_mends_an_update_has_it_combined():
    class Mends(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            for _, res in results:
                arrays = parameters_to_ndarrays(res.parameters)
                res.parameters = ndarrays_to_parameters([np.nan_to_num(array) for array in arrays])
            return super().aggregate_fit(server_round, results, failures)

    nan = SPOILT[2][0]
    mended, whole = (simulate(everyone(Mends), make, rounds=1) for make in (spoilt(nan), client_fn))
    left_out = simulate(everyone(FedAvg), spoilt(nan), rounds=1)
    digests = [history.metrics_centralized["digest"][-1] for history in (mended, whole, left_out)]
    assert len(set(digests)) == 3


# ---- where single updates lie


def test_updates_lie_on_a_disk_and_are_written_over_once_nobody_reads_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    contents = SharedContents()
    contents.keep_update("a", [b"header", memoryview(b"a longer update")])
    read = contents.open("a")
    assert os.fstat(contents.file("a")).st_dev == os.stat(tmp_path).st_dev
    assert list(tmp_path.iterdir()) == []  # it has no name
    contents.remove("a")
    assert contents.spare() is None
    assert read.read(6, 15) == b"a longer update"
    inode = os.fstat(read._file.fd).st_ino
    read.close()
    contents.keep_update("b", [b"short"])
    assert os.fstat(contents.file("b")).st_ino == inode
    assert contents.open("b").read(0, contents.open("b").size) == b"short"


def test_where_the_disk_refuses_they_lie_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    file = update_file([b"an update"])
    assert os.pread(file, 20, 0) == b"an update"
    os.close(file)
    full = os.open("/dev/full", os.O_RDWR)
    file = update_file([b"an update"], full)
    assert os.pread(file, 20, 0) == b"an update"
    os.close(file)


def measured(*arguments):
    program = Path(__file__).parent / "programs" / "saving.py"
    ran = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, timeout=300, check=True)
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("strategy", ["FedAvg", "FaultTolerantFedAvg"])
def test_to_call_super_and_save_the_model_costs_little_beside_fedavg(strategy):
    plain, saves = measured("FedAvg", "plain"), measured(strategy, "saves")
    assert saves["memory"] <= 1.3 * plain["memory"]
    assert saves["seconds"] <= 1.5 * plain["seconds"]
