"""Why a function of the owner's could not take what clients reported: which clients, and what is odd about theirs.

Knows metrics and exceptions; knows no run. A function is given metrics without names of clients, so its error names nobody.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from umbel.accidents import ends_the_run, line_of, message_of
from umbel.dialogue import Metrics, MetricsAggregationFn, as_text
from umbel.remarks import Remark, remark
from umbel.wire import short, shorten

__all__ = ["Sent", "blame", "by_function"]

Sent = Sequence[tuple[str, int, Mapping[str, object]]]  # client, number of examples, metrics


def by_function(keyword: str, function: MetricsAggregationFn, sent: Callable[[], Sent]) -> dict[str, object]:
    """What the owner's function makes of the clients' metrics; nothing, and a remark, where it raises.

    Where nobody listens to remarks, what it raises passes through.
    """
    metrics: list[tuple[int, Metrics]] = [(count, values) for _, count, values in sent()]  # type: ignore[misc]  # scalars
    try:
        returned: object = function(metrics)
    except BaseException as error:
        if ends_the_run(error):
            raise
        named = getattr(function, "__name__", type(function).__name__)
        called = f"{keyword}" if named == "<lambda>" else f"{named}() ({keyword})"
        if not remark(blame(called, error, sent())):
            raise
        return {}
    if isinstance(returned, dict):
        return dict(returned)
    return {} if returned is None else {"value": returned}


def blame(called: str, error: BaseException, sent: Sent) -> Remark:
    """One line: what raised what, and where; whose metrics were not what it expected; and what becomes of the round."""
    line = line_of(error)
    place = "" if line is None else f"{as_text(line[0])}, line {line[1]}"
    raised = f"{called} raised {type(error).__name__}"
    where = f" ({place})" if place else ""
    said = short(" ".join(message_of(error).split()), 200)[1:-1]
    text = f"{raised}: {said}{where}; {_odd(error, sent)}. The round goes on without what it would have returned"
    return Remark((called, type(error).__name__, place), text, f"{raised} again; the round goes on without it")


def _odd(error: BaseException, sent: Sent) -> str:
    """What is odd about the clients' metrics, as far as it can be seen from outside."""
    if not sent:
        return "no client has answered"
    if isinstance(error, KeyError) and error.args:
        key = error.args[0]
        without = [(client, values) for client, _, values in sent if key not in values]
        if without:
            return f"{_whose(without)} have no {short(key)}; they have {_names(without[0][1])}"
    if isinstance(error, ZeroDivisionError) and not any(count for _, count, _ in sent):
        return f"num_examples is 0 of {_clients([client for client, _, _ in sent])}"
    forms = [frozenset((name, type(value).__name__) for name, value in values.items()) for _, _, values in sent]
    usual = Counter(forms).most_common(1)[0][0]
    unusual = [place for place, form in enumerate(forms) if form != usual]
    if not unusual:
        return _not_finite(sent) or f"every client sent {_names(sent[0][2])}"
    _, _, values = sent[unusual[0]]
    extra, missing = sorted(forms[unusual[0]] - usual), sorted(usual - forms[unusual[0]])
    differs = [f"{short(name)} is a {kind}" for name, kind in extra[:3]]
    differs += [f"there is no {short(name)}" for name, _ in missing[:3] if name not in values]
    whose = _whose([(sent[place][0], sent[place][2]) for place in unusual])
    return f"{whose} are not like the others': {', '.join(differs)}"


def _not_finite(sent: Sent) -> str:
    for client, _, values in sent:
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                return f"client {client} sent {short(name)} = {value}"
    return ""


def _whose(clients: Sequence[tuple[str, object]]) -> str:
    names = [client for client, _ in clients]
    return f"client {names[0]}'s metrics" if len(names) == 1 else f"the metrics of {_clients(names)}"


def _clients(names: Sequence[str]) -> str:
    return f"client{'s' if len(names) > 1 else ''} {shorten(names)}"


def _names(values: Mapping[str, object]) -> str:
    return shorten([short(name) for name in values]) or "none"
