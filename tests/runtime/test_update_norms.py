"""How far an update is from what its client was given, and what is too far."""

from __future__ import annotations

import json
import math
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.common import ndarrays_to_parameters
from umbel.door import Door
from umbel.errors import Rejected
from umbel.fold import distance, in_memory
from umbel.pace import Pace
from umbel.params import Params
from umbel.rounds.messages import Kind, Reply
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.stores.codec import decode_state, encode
from umbel.runtime.transports.http.upload import Upload
from umbel.server import ServerConfig
from umbel.server.strategy import FedAdam, FedAvg, FedAvgM, FedBuff, FedMedian, FedXgbBagging, Krum
from umbel.simulation import start_simulation
from umbel.testing import run_locally
from umbel.training import NumPyClient

DTYPES = ["float32", "float64", "float16", ml_dtypes.bfloat16, ml_dtypes.float8_e5m2, "int64", "bool"]


def model(draw, dtypes):
    return Params.of([(draw.standard_normal(size) * 4).astype(dtype) for dtype, size in dtypes])


def plainly(update, base):
    pairs = [
        (ours.astype("float64"), theirs.astype("float64"))
        for ours, theirs in zip(update.arrays(), base.arrays(), strict=True)
        if ours.dtype.kind in "fV" or theirs.dtype.kind in "fV"
    ]
    return math.sqrt(sum(float(((ours - theirs) ** 2).sum()) for ours, theirs in pairs))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES), st.sampled_from([0, 1, 5, 9000])), min_size=1),
    st.integers(1, 3000),
    st.integers(0, 10**6),
)
def test_the_bits_of_a_norm_do_not_depend_on_how_the_network_cuts_the_data(tensors, cut, seed):
    draw = np.random.RandomState(seed)
    base = model(draw, [(theirs, size) for _, theirs, size in tensors])
    update = model(draw, [(ours, size) for ours, _, size in tensors])
    source = base.schema, in_memory(base)
    norm = distance((update.schema, in_memory(update)), source)
    assert norm == pytest.approx(plainly(update, base), rel=1e-12)
    door = Door(Kind.FIT, None, 10, 2**40, max_norm=math.inf)
    upload = Upload(MemoryContents(), "c", update.schema, Reply(1), door.value_check(update.schema, source))
    data = update.buffer.tobytes()
    for begin in range(0, len(data), cut):
        upload.feed(data[begin : begin + cut])
    assert upload.commit(zlib.crc32(data))
    assert upload.reply.norm == norm


def test_an_update_of_other_shapes_than_the_model_has_no_norm():
    base, update = Params.of([np.zeros(3)]), Params.of([np.zeros(4)])
    assert Door(Kind.FIT, None, 10, 2**40, max_norm=1.0).value_check(update.schema, (base.schema, in_memory(base))) is None


class Adds(NumPyClient):
    def __init__(self, step, lies=None):
        self.step, self.lies = step, lies or {}

    def fit(self, parameters, config):
        step = self.lies.get(config["round"], self.step)
        return [(a + step).astype(a.dtype) if a.dtype.kind == "f" else a for a in parameters], 10, {}

    def evaluate(self, parameters, config):
        return float(parameters[0].mean()), 10, {}


def keywords(**more):
    return {
        "initial_parameters": ndarrays_to_parameters([np.zeros(3, "float32"), np.zeros(1), np.array(7)]),
        "on_fit_config_fn": lambda number: {"round": number},
        "min_fit_clients": 3,
        "min_available_clients": 3,
        **more,
    }


def people(**lies):
    return {"a": Adds(0.5), "b": Adds(0.75), "liar": Adds(1.0, {int(k[1:]): v for k, v in lies.items()})}


def refused(history):
    return [(note.round, note.client, note.text) for note in history.failures]


@pytest.mark.parametrize("kind", [FedAvg, FedAvgM, FedAdam, FedMedian, Krum, FedBuff])
def test_an_update_that_is_too_large_is_refused_with_both_numbers(kind):
    extra = {"buffer_size": 2, "concurrency": 3} if kind is FedBuff else {}
    run = run_locally(kind(max_update_norm=3.0, **keywords(**extra)), people(r2=100.0), num_rounds=2)
    (note,) = refused(run.history)
    assert note[:2] == (2, "liar")
    assert note[2].startswith(
        "fit() returned an update whose norm is 200; the limit is 3 (the server's max_update_norm). Check"
    )
    assert np.abs(run.arrays[0]).max() < 3


@pytest.mark.parametrize("backend", ["inline", "processes", "by itself"])
def test_auto_is_ten_times_the_median_of_what_was_accepted_before(backend):
    class Own(FedAvg):
        def aggregate_fit(self, server_round, results, failures):
            return super().aggregate_fit(server_round, results, failures)

    # round 1: 1, 1.5 and 40, which is not bounded; median 1.5. Round 2: 14 is within 15. Round 3: the median of 6 is 1.5
    lies = {1: 20.0, 2: 7.0, 3: 7.6}
    history = start_simulation(
        client_fn=lambda context: Adds([0.5, 0.75, 1.0][int(context.node_id)], lies if context.node_id == "2" else {}),
        num_clients=3,
        config=ServerConfig(num_rounds=3),
        strategy=(Own if backend == "by itself" else FedAvg)(max_update_norm="auto", **keywords()),
        backend="inline" if backend == "by itself" else backend,
        workers=2,
        progress=False,
    )
    text = "fit() returned an update whose norm is 15.2; the limit is 15 (the server's max_update_norm). "
    assert refused(history) == [(3, "2", text + "Check the data and the learning rate.")]


def test_the_norms_of_a_void_round_do_not_count():
    strategy = FedAvgM(max_update_norm="auto", server_learning_rate=lambda n: 1e308 if n == 1 else 1.0, **keywords())
    run = run_locally(strategy, people(r1=20.0, r2=20.0, r3=20.0), num_rounds=3)
    assert [note[:2] for note in refused(run.history)] == [(3, "liar")]
    assert run.coordinator.state.norms == [1.0, 1.5, 40.0, 1.0, 1.5]  # of rounds 2 and 3


def test_what_idle_clients_send_is_not_the_measure():
    strategy = FedAvg(max_update_norm="auto", **keywords())
    run = run_locally(strategy, {"a": Adds(0.0), "b": Adds(0.0), "c": Adds(0.5)}, num_rounds=3)
    assert not refused(run.history)


def test_the_measure_is_in_the_state_that_a_resumed_run_reads():
    run = run_locally(FedAvg(max_update_norm="auto", **keywords()), people(), num_rounds=2)
    state = run.coordinator.state
    assert state.norms == [1.0, 1.5, 2.0] * 2
    assert decode_state(encode(state)) == state


def test_a_strategy_of_bytes_takes_it_and_measures_nothing():
    tree = {"gbtree_model_param": {"num_trees": "1"}, "iteration_indptr": [0, 1], "tree_info": [0], "trees": [{"id": 0}]}
    class Grows(NumPyClient):
        def fit(self, parameters, config):
            return [json.dumps({"learner": {"gradient_booster": {"model": tree}}}).encode()], 1, {}

    strategy = FedXgbBagging(max_update_norm=1e-9, fraction_evaluate=0.0)
    run = run_locally(strategy, {"a": Grows(), "b": Grows()}, num_rounds=2)
    assert not refused(run.history)
    assert len(json.loads(bytes(run.arrays[0]))["learner"]["gradient_booster"]["model"]["trees"]) == 4


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, "Auto", True, [1.0]])
def test_what_is_no_norm_is_said_when_the_strategy_is_made(value):
    said = r"max_update_norm=.*; it is a number above 0, 'auto', or None for no limit"
    with pytest.raises((TypeError, ValueError), match=said):
        FedAvg(max_update_norm=value)
    with pytest.raises((TypeError, ValueError), match="max_update_norm"):
        Pace(max_update_norm=value)


def test_rejected_is_what_a_check_raises():
    base = Params.of([np.zeros(3)])
    check = Door(Kind.FIT, base.schema, 10, 2**40, max_norm=1.0).value_check(base.schema, (base.schema, in_memory(base)))
    check.feed(0, np.ones(3).view(np.uint8).data)
    with pytest.raises(Rejected, match=r"whose norm is 1.73205; the limit is 1 "):
        check.norm()
