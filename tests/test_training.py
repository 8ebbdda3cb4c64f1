"""One task, done by user code that may do anything: the answer is uniform, or a failure says what went wrong."""

from __future__ import annotations

import json
import math
import signal
import sys
from asyncio import CancelledError
from bdb import BdbQuit
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from umbel.accidents import Interruption
from umbel.context import Context
from umbel.dialogue import Code, EvaluateRes, FitRes, Parameters, Status, as_text
from umbel.rounds.messages import Failure, FailureKind, Kind
from umbel.runtime.stores.codec import encode
from umbel.training import Answer, Client, NumPyClient, make_client, run_task

KINDS = {"fit": Kind.FIT, "evaluate": Kind.EVALUATE, "get_parameters": Kind.PARAMETERS, "get_properties": Kind.PROPERTIES}
MODEL = [np.zeros((4, 3), "float32"), np.zeros(3, "float32")]


def client(**answers):
    """A NumPyClient whose methods return these values, or raise them."""

    def method(answer):
        def call(self, *_):
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return call

    return type("Fake", (NumPyClient,), {name: method(answer) for name, answer in answers.items()})().to_client()


RAISES = f"test_training.py:{client.__code__.co_firstlineno + 6}"  # the place of the line above that raises


def answer_of(**answers) -> Answer | Failure:
    (name,) = answers
    return run_task(client(**answers), KINDS[name], [a.copy() for a in MODEL], {"lr": 0.5})


# ---- what is accepted


@pytest.mark.parametrize("count", [10, np.int64(10), np.uint8(10), 10.0, np.float32(10), np.array(10)])
def test_the_number_of_examples_is_any_whole_number(count):
    answer = answer_of(fit=(MODEL, count, {}))
    assert isinstance(answer, Answer)
    assert (answer.num_examples, type(answer.num_examples)) == (10, int)


@pytest.mark.parametrize(
    "returned",
    [
        [1.5, 2],
        [np.float32(1.5), np.int64(2)],
        (np.array(1.5), np.array(2)),
        [[[1.5]], [2]],
        np.zeros(3),
        [np.zeros((4, 3)).T, np.zeros(6)[::2]],
        [np.zeros(3, ">f8")],
    ],
    ids=["Python", "numpy scalars", "0-d", "lists", "bare array", "not contiguous", "big-endian"],
)
def test_parameters_are_taken_as_people_send_them(returned):
    answer = answer_of(fit=(returned, 1, {}))
    assert isinstance(answer, Answer), answer
    assert all(array.flags.c_contiguous and array.dtype.isnative for array in answer.arrays)


def test_a_list_of_three_is_as_good_as_a_tuple():
    assert isinstance(answer_of(fit=[MODEL, 1, {}]), Answer)


def test_metrics_become_plain_python_values():
    metrics = {"f": np.float32(0.5), "i": np.int8(3), "b": np.bool_(True), "s": np.str_("x"), "z": np.array(2), "raw": b"\0"}
    answer = answer_of(evaluate=(np.float64(0.25), 3, metrics))
    assert answer == Answer(loss=0.25, num_examples=3, metrics={"f": 0.5, "i": 3, "b": True, "s": "x", "z": 2, "raw": b"\0"})
    assert {type(value) for value in answer.metrics.values()} == {float, int, bool, str, bytes}
    assert type(answer.loss) is float


def test_properties_and_parameters_are_answers_too():
    assert answer_of(get_properties={"gpu": np.bool_(False)}) == Answer(metrics={"gpu": False})
    assert [a.shape for a in answer_of(get_parameters=MODEL).arrays] == [(4, 3), (3,)]


def test_the_arrays_that_a_client_gets_are_its_own_to_change():
    class Doubling(NumPyClient):
        def fit(self, parameters, config):
            for array in parameters:
                array += config["lr"]
            return parameters, 1, {}

    answer = run_task(Doubling().to_client(), Kind.FIT, [a.copy() for a in MODEL], {"lr": 0.5})
    assert [a.tolist() for a in answer.arrays] == [[[0.5] * 3] * 4, [0.5] * 3]


# ---- what is refused


@pytest.mark.parametrize("method", ["fit", "evaluate"])
@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "returned a NoneType"),
        (3, "returned a int"),
        ((1, 2), "returned a tuple of length 2"),
        ((1, 2, {}, 4), "returned a tuple of length 4"),
        ([], "returned a list of length 0"),
        ({"a": 1}, "returned a dict"),
        ("abc", "returned a str"),
    ],
)
def test_what_is_no_3_tuple_is_refused(method, returned, words):
    failure = answer_of(**{method: returned})
    assert failure.kind is FailureKind.REJECTED
    assert failure.text.startswith(f"{method}() {words}; return the 3-tuple (")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array(["a"]), "array 1: dtype <U1 cannot travel"),
        (np.array([object()]), "array 1: dtype object cannot travel"),
        (np.zeros(3, "complex64"), "array 1: dtype complex64 cannot travel"),
        (None, "array 1: dtype object cannot travel"),
        ([[1], [2, 3]], "array 1 is a list that numpy cannot read"),
    ],
)
def test_arrays_that_cannot_travel_are_refused(array, words):
    for answers in ({"fit": ([np.zeros(1), array], 1, {})}, {"get_parameters": [np.zeros(1), array]}):
        failure = answer_of(**answers)
        assert failure.kind is FailureKind.REJECTED
        assert words in failure.text
        assert failure.text.startswith(f"{next(iter(answers))}() returned parameters that cannot travel")


COUNTS = [math.nan, math.inf, 1.5, "10", None, [10], np.array([10]), 1j, True, np.bool_(True), Decimal(10), Fraction(10)]


@pytest.mark.parametrize("count", [*COUNTS, 10**30, -(10**30), 1e30, np.float64(1e19), np.uint64(2**64 - 1)])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_number_of_examples_that_is_no_whole_number_is_refused(method, count):
    failure = answer_of(**{method: (MODEL if method == "fit" else 0.5, count, {})})
    assert failure.kind is FailureKind.REJECTED
    assert failure.text == f"{method}() returned num_examples={count!r}; return a whole number of examples, 0 or more"


def test_a_number_that_python_itself_does_not_write_is_refused():
    for answers in ({"fit": (MODEL, 10**5000, {})}, {"evaluate": (0.5, 10**5000, {})}, {"evaluate": (10**5000, 1, {})}):
        failure = answer_of(**answers)
        assert failure.kind is FailureKind.REJECTED
        assert "<int>" in failure.text


@pytest.mark.parametrize("loss", ["low", None, [0.5], np.zeros(2)])
def test_a_loss_that_is_no_number_is_refused(loss):
    failure = answer_of(evaluate=(loss, 1, {}))
    assert failure.kind is FailureKind.REJECTED
    assert failure.text.startswith("evaluate() returned the loss ")
    assert failure.text.endswith("; return a float")


@pytest.mark.parametrize("metrics", [None, [1], {"a": [1]}, {"a": None}, {2: 1.0}, {"a": np.zeros(2)}, {"f": "\udce9"}])
def test_metrics_that_cannot_travel_are_refused(metrics):
    for answers in ({"fit": (MODEL, 1, metrics)}, {"evaluate": (0.5, 1, metrics)}, {"get_properties": metrics}):
        failure = answer_of(**answers)
        assert failure.kind is FailureKind.REJECTED
        assert "metrics that cannot travel" in failure.text


# ---- what is raised


def test_an_exception_is_reported_with_type_message_and_traceback():
    failure = answer_of(fit=ZeroDivisionError("no data"))
    assert failure.kind is FailureKind.RAISED
    assert failure.text == f"fit raised ZeroDivisionError: no data ({RAISES})"
    assert failure.detail.startswith("Traceback")
    assert "in call" in failure.detail


def test_a_traceback_is_cut_and_a_message_too():
    failure = answer_of(fit=ValueError("x" * 100_000))
    assert len(failure.text) == 2000
    assert failure.text.endswith(f"xxx ({RAISES})")  # where it was is never cut off
    assert len(failure.detail) <= 20_000


def test_a_file_name_that_is_not_unicode_can_be_reported():
    failure = answer_of(fit=FileNotFoundError("caf\udce9.csv"))
    assert encode(failure)
    assert failure.text == f"fit raised FileNotFoundError: caf\\udce9.csv ({RAISES})"


def test_an_exception_that_cannot_be_printed_is_reported_all_the_same():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    failure = answer_of(fit=Mute())
    assert failure.text == f"fit raised Mute: (it cannot say why: its __str__ raises) ({RAISES})"


def test_ctrl_c_and_umbels_own_interruption_pass_through():
    for error in (KeyboardInterrupt(), Interruption()):
        with pytest.raises(type(error)):
            answer_of(fit=error)


@pytest.mark.parametrize("method", list(KINDS))
@pytest.mark.parametrize("error", [SystemExit(3), CancelledError(), GeneratorExit(), BaseExceptionGroup("", [SystemExit()])])
def test_what_is_no_exception_proper_is_reported_by_every_method(method, error):
    failure = answer_of(**{method: error})
    assert failure.kind is FailureKind.RAISED
    assert failure.text.startswith(f"{KINDS[method]} raised {type(error).__name__}")
    assert failure.text.endswith(f" ({RAISES})")


def test_what_is_raised_around_a_method_is_reported_with_its_place():
    class Leaves(NumPyClient):
        def __init__(self, where=""):
            self.where = where
            self.leave_at("constructor")

        def leave_at(self, here):
            if self.where == here:
                sys.exit(f"left at {here}")

        def to_client(self):
            self.leave_at("to_client")
            return super().to_client()

        def evaluate(self, parameters, config):
            class Number:
                ndim = 0

                def item(inner):
                    self.leave_at("item")

            return 0.5, 1, {"metric": Number()}

    for where in ("constructor", "to_client", "item"):
        failure = run_task(lambda where=where: make_client(lambda _: Leaves(where), Context("a")), Kind.EVALUATE, [], {})
        line = Leaves.leave_at.__code__.co_firstlineno + 2
        assert failure.text == f"evaluate raised SystemExit: left at {where} (test_training.py:{line})"


def test_the_place_is_the_users_own_line_not_the_librarys():
    class Parses(NumPyClient):
        def fit(self, parameters, config):
            json.loads("{")

    failure = run_task(Parses().to_client(), Kind.FIT, [], {})
    assert failure.text.endswith(f" (test_training.py:{Parses.fit.__code__.co_firstlineno + 1})")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_keyboard_interrupt_is_ctrl_c_only_where_ctrl_c_can_be_pressed(ignored):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if ignored else signal.getsignal(signal.SIGINT)
    try:
        if ignored:
            assert answer_of(fit=KeyboardInterrupt()).text == f"fit raised KeyboardInterrupt ({RAISES})"
        else:
            with pytest.raises(KeyboardInterrupt):
                answer_of(fit=BdbQuit())
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("name", list(KINDS))
def test_a_method_that_is_not_overridden_says_so(name):
    failure = run_task(NumPyClient().to_client(), KINDS[name], [], {})
    assert failure.kind is FailureKind.RAISED
    assert failure.text.endswith(f"_NOT_IMPLEMENTED: the client does not implement {name}()")


def test_a_client_for_analytics_has_no_initial_parameters():
    class Counts(NumPyClient):
        def fit(self, parameters, config):
            return [], 1, {"rows": 3}

    class Lists(Counts):
        def get_parameters(self, config):
            return []

    class Speaks(Client):
        def evaluate(self, ins):
            return EvaluateRes(Status(Code.OK), 0.5, 2, {})

    for client, words in (
        (Counts().to_client(), "the client does not implement get_parameters(); implement it, or give the strategy"),
        (Lists().to_client(), "get_parameters() returned no arrays; implement it, or give the strategy"),
        (Speaks(), "the client does not implement get_parameters(); implement it, or give the strategy"),
    ):
        failure = run_task(client, Kind.PARAMETERS, [], {})
        assert failure.kind is FailureKind.EMPTY
        assert failure.text == f"{words} initial_parameters="


def test_a_client_may_refuse_with_a_status_of_its_own():
    class Busy(Client):
        def fit(self, ins):
            return FitRes(Status(Code.FIT_NOT_IMPLEMENTED, "charging"), Parameters([]), 0, {})

        def evaluate(self, ins):
            return EvaluateRes(Status(Code.OK), 0.5, 2, {})

    assert run_task(Busy(), Kind.FIT, [], {}).text == "the client answered with status FIT_NOT_IMPLEMENTED: charging"
    assert run_task(Busy(), Kind.EVALUATE, [], {}) == Answer(loss=0.5, num_examples=2)


def test_a_response_that_is_none_is_a_failure_with_a_traceback():
    class Silent(Client):
        def fit(self, ins):
            return None

    assert run_task(Silent(), Kind.FIT, [], {}).text.startswith("fit raised AttributeError")


# ---- making clients


class Mine(NumPyClient):
    pass


def test_a_client_is_made_from_whatever_people_hand_in():
    context = Context("client-7")

    def by_context(context):
        return Mine()

    def by_cid(cid):
        assert cid == "client-7"
        return Mine().to_client()

    def by_annotation(name: str):
        assert name == "client-7"
        return Mine()

    for source in (Mine(), Mine().to_client(), by_context, by_cid, by_annotation, lambda cid: Mine()):
        made = make_client(source, context)
        assert isinstance(made, Client)
        assert made.context is context


def test_what_is_no_client_is_named():
    with pytest.raises(TypeError, match="got int"):
        make_client(3, Context("a"))


def test_text_that_can_be_written_stays_as_it_is():
    assert as_text("Größe 日本 🌸") == "Größe 日本 🌸"


def test_what_a_client_says_in_a_status_is_cut():
    class Talks(Client):
        def fit(self, ins):
            return FitRes(Status(Code.FIT_NOT_IMPLEMENTED, "x" * 10**6), Parameters([]), 0, {})

    failure = run_task(Talks(), Kind.FIT, [], {})
    assert failure.kind is FailureKind.RAISED
    assert len(failure.text) == 2000
