"""Boosters as bytes: what a server must read of a framework's own format, and several as one. Needs no framework.

A format is a value: `read` finds the trees, and `write` makes one booster of several, which predicts the sum of what they
predict. What clients send is text of strangers: it is checked here before any framework reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from umbel.errors import StrategyError
from umbel.params import Blob

__all__ = ["LIGHTGBM", "XGBOOST", "BoosterFormat"]


class BoosterFormat(NamedTuple):
    """A framework's format of boosters.

    - `read(raw)` → a booster, to be given to `write` alone. Raises `StrategyError` for bytes that are none.
    - `form(booster)` → what boosters must have in common to be added: columns, classes
    - `write(boosters)` → the bytes of one booster with all trees of these, in their order
    - `sent_by`: how a client makes such bytes
    """

    read: Callable[[Blob | bytes], Any]
    form: Callable[[Any], tuple[object, ...]]
    write: Callable[[Sequence[Any]], bytes]
    sent_by: str


# ---- XGBoost: the JSON of Booster.save_raw("json")


def _read_json(raw: Blob | bytes) -> dict[str, Any]:
    """A booster's JSON, with whatever is read of it in its place."""
    try:
        booster: dict[str, Any] = json.loads(bytes(raw))
        model = _model(booster)
        trees, classes, ends = model["trees"], model["tree_info"], model.get("iteration_indptr", [0, len(model["trees"])])
        lists = all(isinstance(each, list) for each in (trees, classes, ends))
        numbers = lists and all(isinstance(number, int) for number in (*classes, *ends))
        sound = numbers and all(isinstance(tree, dict) for tree in trees) and len(classes) == len(trees)
        sound = sound and ends == sorted(ends) and ends[:1] == [0] and ends[-1:] == [len(trees)]
        sound = sound and isinstance(model["gbtree_model_param"], dict)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # of Unicode and JSON, too
        sound = False
    if not sound:
        raise StrategyError("no tree booster in JSON; send booster.save_raw('json')")
    return booster


def _form_of_json(booster: dict[str, Any]) -> tuple[object, ...]:
    facts = booster["learner"].get("learner_model_param")
    return tuple(facts.get(name) for name in ("num_class", "num_feature", "num_target")) if isinstance(facts, dict) else ()


def _write_json(boosters: Sequence[dict[str, Any]]) -> bytes:
    """One booster with all trees of several, which is their sum. Changes the first."""
    first, *others = boosters
    whole = _model(first)
    for more in map(_model, others):
        begin = len(whole["trees"])
        whole["trees"] += [{**tree, "id": begin + i} for i, tree in enumerate(more["trees"])]
        whole["tree_info"] += more["tree_info"]
        if "iteration_indptr" in whole:
            last = whole["iteration_indptr"][-1]
            ends = more.get("iteration_indptr", [0, len(more["trees"])])
            whole["iteration_indptr"] += [last + end for end in ends[1:]]
    whole["gbtree_model_param"]["num_trees"] = str(len(whole["trees"]))
    return json.dumps(first).encode()


def _model(booster: dict[str, Any]) -> dict[str, Any]:
    model: dict[str, Any] = booster["learner"]["gradient_booster"]["model"]
    return model


# ---- LightGBM: the text of Booster.model_to_string()


class _Text(NamedTuple):
    """A booster's text: its header without "tree_sizes", its trees without their numbers, and what comes after them."""

    header: list[str]
    trees: list[str]
    end: str

    @property
    def form(self) -> tuple[str, ...]:
        """Trees in an iteration, the last feature's number, and the objective."""
        facts = dict(line.partition("=")[::2] for line in self.header)
        return tuple(facts.get(name, "") for name in ("num_tree_per_iteration", "max_feature_idx", "objective"))


_TREE = re.compile(r"^Tree=\d+\n", re.MULTILINE)
_END = "end of trees\n"


def _read_text(raw: Blob | bytes) -> _Text:
    try:
        text = bytes(raw).decode()
        head, found, end = text.partition(_END)
        header, *trees = _TREE.split(head)
        lines = [line for line in header.splitlines() if line and not line.startswith("tree_sizes=")]
        booster = _Text(lines, [tree.rstrip("\n") for tree in trees], found + end)
        form = [int(number) for number in booster.form[:2]]
        sound = bool(found) and lines[0] == "tree" and "average_output" not in lines
        sound = sound and form[0] > 0 and len(trees) % form[0] == 0 and all(_is_tree(tree, form[1]) for tree in trees)
    except (ValueError, LookupError):  # of Unicode, too
        sound = False
    if not sound:
        raise StrategyError("no booster in LightGBM's text; send booster.model_to_string().encode()")
    return booster


def _is_tree(text: str, last_feature: int) -> bool:
    """Whether LightGBM can walk through this tree: every child and every feature is there, and every leaf is a number."""
    facts = {name: value.split() for name, _, value in (line.partition("=") for line in text.splitlines() if line)}
    leaves = int(facts["num_leaves"][0])
    values = [float(value) for value in facts["leaf_value"]]
    if leaves < 1 or len(values) != leaves or not all(abs(value) < float("inf") for value in values):
        return False
    if leaves == 1 or facts.get("is_linear", ["0"]) != ["0"]:
        return leaves == 1
    features, children = [*map(int, facts["split_feature"])], [*map(int, facts["left_child"] + facts["right_child"])]
    whole = all(len(facts[name]) == leaves - 1 for name in ("split_feature", "threshold", "left_child", "right_child"))
    # Each node but the root, and each leaf as the complement of its number, is the child of one node that comes before it.
    return (
        whole
        and all(0 <= feature <= last_feature for feature in features)
        and sorted(children) == [*range(-leaves, 0), *range(1, leaves - 1)]
        and all(child < 0 or child > node for node, child in zip([*range(leaves - 1)] * 2, children, strict=True))
        and _has_its_categories(facts)
    )


def _has_its_categories(facts: dict[str, list[str]]) -> bool:
    """Whether every node that asks for a category has its set of categories."""
    asks = [int(float(at)) for at, kind in zip(facts["threshold"], facts["decision_type"], strict=True) if int(kind) & 1]
    count = int(facts["num_cat"][0])
    if not count:
        return not asks
    ends = [*map(int, facts["cat_boundaries"])]
    whole = len(ends) == count + 1 and ends == sorted(ends) and ends[0] == 0 and ends[-1] == len(facts["cat_threshold"])
    return whole and all(0 <= at < count for at in asks)


def _write_text(boosters: Sequence[_Text]) -> bytes:
    """One booster with all trees of several, which is their sum."""
    first = boosters[0]
    trees = [f"Tree={i}\n{tree}\n\n\n" for i, tree in enumerate(tree for booster in boosters for tree in booster.trees)]
    sizes = " ".join(str(len(tree.encode())) for tree in trees)
    return "".join([*(f"{line}\n" for line in first.header), f"tree_sizes={sizes}\n\n", *trees, first.end]).encode()


XGBOOST = BoosterFormat(_read_json, _form_of_json, _write_json, "bytes(booster.save_raw('json'))")
LIGHTGBM = BoosterFormat(_read_text, lambda text: text.form, _write_text, "booster.model_to_string().encode()")
