"""The server's steps: by hand, over blocks, and with what they remember from one step to the next."""

from __future__ import annotations

import numpy as np
import pytest

from umbel.aggregators import mean
from umbel.errors import StrategyError
from umbel.fold import Contribution, Memory, combine, in_memory, stepped_schema
from umbel.fold.stepping import slot_schema
from umbel.optimizers import Optimizer, adagrad, adam, momentum, sgd, yogi
from umbel.params import Params
from umbel.server.strategy import FedAsync, FedBuff

OPTIMIZERS = {
    "sgd": sgd(0.5),
    "momentum": momentum(0.5, 0.9),
    "adagrad": adagrad(0.1),
    "adam": adam(0.1),
    "yogi": yogi(0.1),
}


class Kept:
    """Slots in memory, as a run keeps them in files."""

    def __init__(self):
        self.slots = {}

    def memory(self):
        return Memory(lambda name: self._read(name), lambda name, schema: _Sink(self.slots, name, schema))

    def _read(self, name):
        return (self.slots[name].schema, in_memory(self.slots[name])) if name in self.slots else None


class _Sink:
    def __init__(self, slots, name, schema):
        self.slots, self.name, self.schema, self.data = slots, name, schema, bytearray()

    def write(self, data):
        self.data += data

    def commit(self):
        self.slots[self.name] = Params(self.schema, np.frombuffer(bytes(self.data), np.uint8))

    def abort(self):
        self.data.clear()


def stepped(optimizer, model, update, kept=None, number=1):
    schema = stepped_schema(model.schema, [update.schema])
    blocks = combine(
        schema,
        (model.schema, in_memory(model)),
        [Contribution(0, update.schema, in_memory(update), 1)],
        aggregator=mean(),
        optimizer=optimizer,
        chunk=1,
        number=number,
        memory=kept.memory() if kept else None,
    )
    return Params(schema, np.frombuffer(b"".join(bytes(block) for block in blocks), np.uint8))


def one(*values):
    return Params.of([np.array(values)])


# ---- by hand


def rounds(optimizer, target=2.0, count=3):
    """Where a model at 1 goes whose clients always answer `target`."""
    kept, model, path = Kept(), one(1.0), []
    for number in range(1, count + 1):
        model = stepped(optimizer, model, one(target), kept, number)
        path.append(float(model.arrays()[0][0]))
    return path


def test_sgd_goes_a_part_of_the_way():
    assert rounds(sgd(0.5)) == [1.5, 1.75, 1.875]


def test_momentum_adds_up_what_was_left_of_the_past():
    x, m, path = 1.0, 0.0, []
    for _ in range(3):
        m = 0.9 * m + (2.0 - x)
        x += 0.5 * m
        path.append(x)
    assert rounds(momentum(0.5, 0.9)) == pytest.approx(path, rel=1e-15)


def test_adagrad_divides_by_the_length_of_all_steps():
    x, v, path = 1.0, 0.0, []
    for _ in range(3):
        delta = 2.0 - x
        v += delta**2
        x += 0.1 * delta / (v**0.5 + 1e-9)
        path.append(x)
    assert rounds(adagrad(0.1)) == pytest.approx(path, rel=1e-15)


def test_adam_corrects_the_bias_by_the_round_s_number_plus_one_as_flwr_does():
    x, m, v, path = 1.0, 0.0, 0.0, []
    for number in (1, 2, 3):
        delta = 2.0 - x
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        eta = 0.1 * (1 - 0.99 ** (number + 1)) ** 0.5 / (1 - 0.9 ** (number + 1))
        x += eta * m / (v**0.5 + 1e-9)
        path.append(x)
    assert rounds(adam(0.1)) == pytest.approx(path, rel=1e-14)


def test_yogi_moves_v_by_a_step_of_fixed_relative_size():
    x, m, v, path = 1.0, 0.0, 0.0, []
    for _ in range(3):
        delta = 2.0 - x
        m = 0.9 * m + 0.1 * delta
        v -= 0.01 * delta**2 * np.sign(v - delta**2)
        x += 0.1 * m / (v**0.5 + 1e-3)
        path.append(x)
    assert rounds(yogi(0.1)) == pytest.approx(path, rel=1e-14)


def test_a_learning_rate_may_depend_on_the_round():
    assert rounds(sgd(lambda number: 1 / 2**number)) == [1.5, 1.625, 1.671875]
    halved = momentum(lambda number: 0.5 if number == 1 else 0.0, 0.0)
    assert rounds(halved) == [1.5, 1.5, 1.5]


@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "adam", "yogi"])
@pytest.mark.parametrize(
    "returned", [float("nan"), float("inf"), -0.5, None, "0.1", 1j, np.ones(2), np.float32("nan"), 10**400], ids=repr
)
def test_what_a_schedule_returns_and_is_no_rate_is_named_as_the_schedule_s(name, returned):
    make = {"sgd": sgd, "momentum": momentum, "adagrad": adagrad, "adam": adam, "yogi": yogi}[name]
    with pytest.raises(StrategyError, match=r"the learning rate returned .* for round 1; return a finite number"):
        rounds(make(lambda number: returned))


@pytest.mark.parametrize("kind", [FedBuff, FedAsync])
@pytest.mark.parametrize("returned", [float("nan"), -1.0, None, "1"])
def test_so_is_what_staleness_returns(kind, returned):
    strategy = kind(staleness=lambda rounds: returned)
    with pytest.raises(StrategyError, match=r"staleness\(\) returned .* for 2 rounds; return a finite number, 0 or more"):
        strategy._share(2)


@pytest.mark.parametrize("returned", [np.float32(0.5), np.array(0.5), np.ones(1) / 2, 1, True, 0])
def test_a_schedule_may_return_any_one_number(returned):
    assert rounds(sgd(lambda number: returned)) == rounds(sgd(lambda number: float(np.ravel(returned)[0])))


def test_a_coordinate_that_never_moved_stays_even_without_tau():
    assert stepped(adagrad(0.1, tau=0.0), one(1.0, 1.0), one(1.0, 2.0)).arrays()[0].tolist() == [1.0, 1.1]


# ---- blocks, dtypes, slots


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_block_boundaries_do_not_show(name, monkeypatch):
    def path():
        rng, kept, model = np.random.RandomState(0), Kept(), Params.of([np.zeros(5000, "float32"), np.zeros(3)])
        for number in (1, 2):
            update = Params.of([rng.standard_normal(5000).astype("float32"), rng.standard_normal(3)])
            model = stepped(OPTIMIZERS[name], model, update, kept, number)
        return model.buffer.tobytes(), {slot: params.buffer.tobytes() for slot, params in kept.slots.items()}

    whole = path()
    monkeypatch.setattr("umbel.fold.blocks.BLOCK", 1000)
    assert path() == whole


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_integers_and_booleans_take_the_combined_value_and_have_no_slots(name):
    kept = Kept()
    model = Params.of([np.array([10]), np.zeros(2, "float32"), np.array([True])])
    update = Params.of([np.array([20]), np.ones(2, "float32"), np.array([False])])
    result = stepped(OPTIMIZERS[name], model, update, kept).arrays()
    assert (result[0].tolist(), result[2].tolist()) == ([20], [False])
    assert set(kept.slots) == set(OPTIMIZERS[name].slots)
    assert all(params.schema.names == ("1",) for params in kept.slots.values())


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_slots_of_narrow_models_are_float32(dtype):
    kept = Kept()
    stepped(momentum(), Params.of([np.zeros(2, dtype)]), Params.of([np.ones(2, dtype)]), kept)
    assert kept.slots["momentum"].arrays()[0].dtype == np.float32


def test_slots_follow_their_tensors_when_an_integer_becomes_floating():
    """Then the layout of all others changes: float64 lies before float32."""
    kept, optimizer = Kept(), momentum(1.0, 0.5)
    model = Params.of([np.zeros(3, "float32"), np.array([0]), np.zeros(2, "float32")])
    whole = Params.of([np.full(3, 1, "float32"), np.array([5]), np.full(2, 4, "float32")])
    model = stepped(optimizer, model, whole, kept)
    assert [a.tolist() for a in model.arrays()] == [[1] * 3, [5], [4] * 2]
    floats = Params.of([np.full(3, 1, "float32"), np.array([7.5]), np.full(2, 4, "float32")])
    model = stepped(optimizer, model, floats, kept, 2)
    assert [a.tolist() for a in model.arrays()] == [[1.5] * 3, [7.5], [6] * 2]
    assert kept.slots["momentum"].schema == slot_schema(model.schema)
    assert [a.tolist() for a in kept.slots["momentum"].arrays()] == [[2.5], [0.5] * 3, [2] * 2]


def test_a_pass_that_ends_half_way_leaves_the_slots_as_they_were():
    kept, model = Kept(), one(0.0)
    stepped(momentum(), model, one(1.0), kept)
    before = kept.slots["momentum"].buffer.tobytes()
    broken = Optimizer(lambda *_: 1 / 0, ("momentum",))
    with pytest.raises(ZeroDivisionError):
        stepped(broken, model, one(1.0), kept, 2)
    assert kept.slots["momentum"].buffer.tobytes() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: sgd(0),
        lambda: sgd(-1),
        lambda: sgd(float("nan")),
        lambda: momentum(1.0, 1.0),
        lambda: momentum(1.0, -0.1),
        lambda: adagrad(0.1, tau=-1),
        lambda: adam(beta_1=1.0),
        lambda: adam(beta_2=2.0),
        lambda: yogi(0.0),
    ],
)
def test_numbers_that_go_nowhere_are_refused(make):
    with pytest.raises(ValueError, match=r"=.*; it"):
        make()
