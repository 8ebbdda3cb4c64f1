"""The crash matrix: SIGKILL at every failpoint, in real servers and clients, and the same bits at the end.

A trial is a federation of one server and some clients, of which one process dies at a failpoint and is started again. It is
held against the same federation without faults, trained in one process on no network: the final model must be the same bits,
every acknowledged answer must be in the journal, none may count twice, and the journal must replay to what was done. Where
the order of arrival is an input of the strategy, it is held against its own journal; where a script gives that order, also
against the same federation under the same script and without faults.
"""

from __future__ import annotations

import contextlib
import copy
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from federations import Federation, Program, in_process, strategy_of, wait_for
from member import Gates, Member

from umbel.params import Params, gather, schema_of
from umbel.rounds.coordinator import Coordinator, State
from umbel.rounds.messages import Dispatch, Initialize, Replied, Settle, Step, Task, Verdict
from umbel.runtime.contents import write_content
from umbel.runtime.fingerprints import rules_of
from umbel.runtime.memory_contents import MemoryContents
from umbel.runtime.model import GlobalModel
from umbel.runtime.owner import Owner
from umbel.runtime.replay import Replayed, replay
from umbel.runtime.run_registry import places
from umbel.runtime.stores.audit import verify
from umbel.runtime.stores.database import Database, Kept
from umbel.runtime.transports.base import Proxy
from umbel.strategies.classic.adapter import host_of
from umbel.training import Answer, run_task

__all__ = ["FAILPOINTS", "STRATEGIES", "Failpoint", "Result", "Trial", "reference_in", "run_trial"]

T = TypeVar("T")

ROUNDS = 3
LARGE = 600_000  # float32 values, 2.4 MB: more than travels inside a message


@dataclass(frozen=True)
class Failpoint:
    """A failpoint, and the federation in which it is reached.

    - `who` dies: the "server", or the client "a".
    - `passes`: how many it lets through where every failpoint is tried once.
    - `after`: another failpoint, at which the server has died before: for those of resuming.
    - `large`: the model does not fit into a message. `given`: the strategy has initial parameters.
    - `holds`: what is true of the run while the process is dead there.
    """

    name: str
    holds: str
    who: str = "server"
    passes: int = 4
    after: str = ""
    large: bool = False
    given: bool = True
    options: dict[str, object] = field(default_factory=dict)


def _client(name: str, holds: str, passes: int = 2, **more: object) -> Failpoint:
    return Failpoint(name, holds, "a", passes, **more)  # type: ignore[arg-type]


FAILPOINTS = [
    # ---- the journal
    Failpoint("journal.before-append", "inputs have been handled; nobody has seen an effect of them, and they are lost"),
    Failpoint("journal.inside-transaction", "rows are written and not committed: they are not there"),
    Failpoint("journal.after-append", "inputs count; what they cause has not been done, and is done after the resume"),
    Failpoint(
        "snapshot.inside-transaction",
        "the old snapshot is deleted and not committed: it is still there",
        passes=3,
        options={"snapshots": 0},
    ),
    Failpoint(
        "trim.inside-transaction",
        "old entries are being deleted and are still there, and so is the snapshot that they lead up to",
        passes=0,
        options={"snapshots": 0, "keep_rounds": 1},
    ),
    Failpoint(
        "audit.inside-transaction",
        "lines of the audit are written and not committed: neither they nor the inputs they tell of are there",
        passes=3,
        options={"audit": True},
    ),
    # ---- the loop
    Failpoint("input.before-handle", "an input was taken from the queue: it has not happened, and comes again", passes=7),
    Failpoint("input.after-handle", "the coordinator knows the input, the journal does not: it has not happened", passes=9),
    Failpoint("question.before-answer", "the owner's code is about to be asked: it is asked after the resume", passes=6),
    Failpoint("question.after-answer", "the owner's code has answered, unheard: it is asked again", passes=8),
    Failpoint("task.before-dispatch", "a task exists in the journal, its client has not heard: it is sent", passes=3),
    Failpoint("task.after-dispatch", "a client may train; its answer is taken after the resume", passes=2),
    # ---- the model
    Failpoint("model.before-write", "the updates are there, the new version is not: the step is made again", passes=1),
    Failpoint(
        "content.between-blocks", "a version is half folded, under a temporary name: swept, and folded again", passes=2
    ),
    Failpoint("content.before-rename", "a content is complete under its temporary name: it is not there", passes=4),
    Failpoint("content.after-rename", "a content is there, and nothing in the journal names it: swept", passes=4),
    Failpoint(
        "model.after-write", "the new version is there, the journal does not know: it is made again, the same", passes=2
    ),
    Failpoint("model.before-adopt", "a client's parameters are there, version 0 is not", passes=0, given=False),
    Failpoint("model.after-adopt", "version 0 is there, unknown; the parameters are there, too", passes=0, given=False),
    Failpoint("model.before-forget", "a step is durable; the updates it has used up are still there: swept", passes=2),
    Failpoint("model.forgetting", "some of the updates are removed: the others are swept", passes=3),
    Failpoint("model.after-forget", "only the new version is left", passes=1),
    # ---- the network, on the server
    Failpoint("session.registered", "a client has a session that nobody knows any more: it registers again", passes=1),
    Failpoint("content.sending", "a download breaks off: it goes on where it broke", passes=7, large=True),
    Failpoint("upload.offered", "a reply is admitted, none of its data is there: it is offered again", passes=2, large=True),
    Failpoint(
        "upload.receiving",
        "a part of the data is spooled under a temporary name: swept, and sent again",
        passes=40,
        large=True,
    ),
    Failpoint("upload.before-commit", "all data is spooled, not yet a content: sent again", passes=3),
    Failpoint("upload.after-commit", "the update is a content, not yet in the journal: swept, and sent again", passes=3),
    Failpoint("reply.before-settle", "the reply counts; its sender has not heard, and asks again", passes=5),
    Failpoint("reply.after-settle", "the answer is on its way to the sender", passes=4),
    Failpoint("reply.before-answer", "the reply counts, its acknowledgement is lost: the sender asks again", passes=6),
    Failpoint("commit.before-answer", "the same, for a reply that was sent in parts", passes=3, large=True),
    # ---- resuming, and the end
    Failpoint("run.added", "a run is listed that has not begun: it is gone on with", passes=0),
    Failpoint("resume.loaded", "nothing has changed", passes=0, after="journal.after-append:6"),
    Failpoint(
        "resume.replaying",
        "nothing has changed",
        passes=3,
        after="journal.before-append:6",
        options={"snapshots": 1000},  # or nothing is left to replay
    ),
    Failpoint("resume.before-sweep", "nothing has changed", passes=0, after="upload.after-commit:3"),
    Failpoint("content.sweeping", "some contents that nobody needs are gone", passes=0, after="upload.after-commit:3"),
    Failpoint("resume.after-sweep", "only what is needed is left", passes=0, after="model.after-write:2"),
    Failpoint(
        "run.before-finish", "clients have heard of the end, the run's row says running: started again, it ends", passes=0
    ),
    Failpoint("run.after-finish", "the run has finished, and its clients have heard: nothing is left to do", passes=0),
    # ---- clients
    _client("client.registered", "a session whose process is gone: the next one of that name takes over", 0),
    _client("client.task-received", "a task is owed: the next process gets it"),
    _client("client.downloading", "a part of the model is there: fetched again", 3, large=True),
    _client("client.fetched", "the model is there, nothing is done"),
    _client("client.before-training", "nothing is done"),
    _client("client.after-training", "an answer is lost: the next process trains again"),
    _client("client.offered", "the server has admitted the offer, or has the answer"),
    _client(
        "client.part-sent", "all data is with the server, not committed: the next process sends it again", 1, large=True
    ),
    _client("client.before-commit", "the same", 1, large=True),
    _client("client.after-commit", "the answer counts; the next process gets the next task", 1, large=True),
    _client("client.acknowledged", "the answer counts, and the client knew", 2),
    _client("client.before-goodbye", "the client has heard of the end: the server waits until it is gone", 0),
]


@dataclass(frozen=True)
class Setting:
    """A strategy of the matrix: what its server and clients are given.

    `arrival`: the order of arrival is an input of it. `script` gives that order: "b1 a1 c1" is b's update of round 1, then
    a's, then c's, each sent after the one before is in the journal; "c1?" may come and go uncounted, and "@a2" waits until a
    has its task of round 2.
    """

    clients: str = "ab"
    strategy: str = "plain"
    keywords: dict[str, object] = field(default_factory=dict)
    arrival: bool = False
    script: str = ""
    exchanges: tuple[str, ...] = ("fit", "evaluate")

    @property
    def held(self) -> list[str]:
        """Where the clients wait for the script."""
        return [f"fit.{number + 1}" for number in range(ROUNDS)] if self.script else []

    @property
    def options(self) -> dict[str, object]:
        return {"clients": len(self.clients), "strategy": self.strategy, "keywords": self.keywords}


_BUFFER = {"buffer_size": 2, "concurrency": 3}
STRATEGIES = {
    "FedAvg": Setting(),
    "FedAdam": Setting(strategy="adam"),
    "FedMedian": Setting(strategy="median"),
    "three exchanges": Setting("abc", "masked", exchanges=("keys", "fit", "unmask", "evaluate")),
    "control variates": Setting(strategy="control variates"),
    "over-selection": Setting("abc", "first two", arrival=True),
    "FedBuff": Setting("abc", "buffered", _BUFFER, arrival=True),
    "over-selection by script": Setting("abc", "first two", arrival=True, script="c1 a1 b1? b2 c2 a2? a3 b3 c3?"),
    # c's update of round 1 counts in round 2, and a's of round 2 in round 3
    "FedBuff by script": Setting("abc", "buffered", _BUFFER, arrival=True, script="b1 a1 @a2 c1 b2 @c3 a2 c3 b3?"),
}


@dataclass(frozen=True)
class Trial:
    failpoint: Failpoint
    passes: int
    strategy: str
    database: str  # "SQLite" or "PostgreSQL"

    def __str__(self) -> str:
        return f"{self.failpoint.name}:{self.passes} {self.strategy} {self.database}"


@dataclass
class Result:
    """What came of a trial; all counts are 0 where nothing is wrong."""

    trial: Trial
    reached: bool = True
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    wrong: list[str] = field(default_factory=list)
    resumed_in: float = 0.0  # seconds from the start of the process to the first line after the resume

    @property
    def fine(self) -> bool:
        return not (self.lost or self.duplicated or self.different or self.wrong)


def run_trial(trial: Trial, folder: Path, start: Callable, url: str | None, reference: Callable[..., bytes]) -> Result:
    """One trial in a folder of its own. `url` is the database for PostgreSQL; `reference` makes the bits of no fault."""
    point, result, setting = trial.failpoint, Result(trial), STRATEGIES[trial.strategy]
    federation = Federation(folder, start=start)
    size = LARGE if point.large else 1000
    keeping = {"keep_rounds": None, "audit": True, **point.options, **({"store": url} if url else {})}
    options = {"size": size, "given": point.given, "rounds": ROUNDS, **setting.options, **keeping}
    armed = f"{point.name}:{trial.passes}@0.1"  # held for a moment, in which a word too early would get out
    closing = contextlib.ExitStack()
    try:
        servers = [federation.server(dies=point.after or (armed if point.who == "server" else ""), **options)]
        clients = {
            name: [federation.client(name, size=size, hold=setting.held, dies=armed if name == point.who else "")]
            for name in setting.clients
        }
        script = Script(setting, federation, url)
        closing.callback(script.end)

        def restart(dies: str = "") -> None:
            begun = time.monotonic()
            servers.append(federation.server(dies=dies, **options))
            if not dies:
                wait_for(lambda: "Resum" in servers[-1].text or not servers[-1].alive, 30, "it resumes")
                result.resumed_in = time.monotonic() - begun

        if point.after:
            _killed(servers[-1], result)
            restart(armed)
        dying = servers[-1] if point.who == "server" else clients[point.who][-1]
        _killed(dying, result)
        if not result.reached:
            pass
        elif point.who != "server":
            clients[point.who].append(federation.client(point.who, size=size, hold=setting.held))
        elif point.name != "run.after-finish":  # that leaves nothing to go on with
            restart()
        last = [mine[-1] for mine in clients.values()]
        for program in last if point.name == "run.after-finish" else [servers[-1], *last]:
            if program.ends(60) != 0:
                result.wrong.append(f"{program.name} ended with {program.process.returncode}")
        run = _run_of(servers)
        assert run is not None, "no server has said the run's name"
        _judge(result, federation, url, run, clients, lambda: reference(trial.strategy, size=size, given=point.given))
    except Exception as error:  # of a broken run anything can be wrong
        result.wrong.append(f"{type(error).__name__}: {error}")
    finally:
        federation.end()
        closing.close()
    if not result.fine:
        result.wrong.append(federation.words())
    return result


class Script:
    """Lets the clients send in the order that a setting gives, in a thread, until all have or `end` is called."""

    def __init__(self, setting: Setting, federation: Federation, url: str | None) -> None:
        self._setting, self._federation = setting, federation
        self._url = url or places(federation.folder / "umbel-runs")[0]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def _play(self) -> None:
        with contextlib.ExitStack() as closing:
            run = database = None
            for step in self._setting.script.split():
                client, number = step.strip("@?")
                if step.startswith("@"):
                    self._until((self._federation.gates / f"{client}.fit.{number}.reached").exists)
                    continue
                self._federation.open(client, f"fit.{number}")
                if database is None:
                    run = self._until(self._run)
                    database = closing.enter_context(contextlib.closing(Database(self._url)))
                if not step.endswith("?"):
                    self._until(partial(_counted, database, run, client, number))

    def _until(self, condition: Callable[[], T]) -> T:
        while not (answer := condition()) and not self._ended.wait(0.02):
            pass
        return answer

    def _run(self) -> str | None:
        return _run_of([program for program in self._federation.programs if program.name == "server"])

    def end(self) -> None:
        self._ended.set()
        self._thread.join()


def _run_of(servers: list[Program]) -> str | None:
    """The run's name, once a server has said it."""
    named = re.findall(r"(?:, run|Resuming run) ([\w-]+)[,;]", "".join(server.text for server in servers))
    return named[0] if named else None


def _counted(database: Database, run: str, client: str, number: str) -> bool:
    """Whether this client's update of this round has been accepted."""
    lines = [line for line in database.audit(run) if (line.client, line.verdict) == (client, "accepted")]
    return any(line.task.startswith(f"{run}.{number}.fit.") for line in lines)


def _killed(program: Program, result: Result) -> None:
    code = program.ends(40)
    result.reached = code == -9
    if code not in (0, -9):
        result.wrong.append(f"{program.name} was not killed at the failpoint: it ended with {code}")


def _judge(
    result: Result,
    federation: Federation,
    url: str | None,
    run: str,
    clients: dict[str, list[Program]],
    reference: Callable[[], bytes],
) -> None:
    setting = STRATEGIES[result.trial.strategy]
    with contextlib.closing(Database(url or places(federation.folder / "umbel-runs")[0])) as database:
        (row,) = [row for row in database.runs() if row.run == run]
        entries = database.entries(run)
        snapshots = database.snapshots(run)
        verify(run, database.audit(run))
    if row.status != "finished":
        result.wrong.append(f"the run is {row.status}")
    model = federation.folder / "umbel-runs" / run / f"model-{ROUNDS:06}.safetensors"
    # The next start removes the secret of a run that died at its very end.
    may_be = {"lock"} | ({"secret"} if result.trial.failpoint.name == "run.after-finish" else set())
    left = [path.name for path in model.parent.iterdir() if path.name not in may_be and not path.name.startswith(model.stem)]
    if left:
        result.wrong.append(f"left behind: {left}")

    rules, begin, whole = rules_of(run, row.fingerprint), State(num_rounds=ROUNDS), entries[0].seq == 1
    if not whole:  # trimmed
        begin = next(kept.state for kept in snapshots if kept.state is not None and kept.seq == entries[0].seq - 1)
    counted = accepted(Coordinator(rules, copy.deepcopy(begin)), entries)
    result.duplicated += sum(times - 1 for times in counted.values())
    if whole:
        for name, programs in clients.items():
            text = "".join(program.text for program in programs)
            sent = re.findall(r"Sent (\w+) of round (\d+), which took [\d.]+ s: (?:already )?accepted", text)
            result.lost += sum(not counted[name, int(number), exchange] for exchange, number in sent)
        if not setting.arrival:
            everything = [(name, n + 1, each) for name in clients for n in range(ROUNDS) for each in setting.exchanges]
            result.lost += sum(not counted[one] for one in everything)
    expected = []
    if setting.script or not setting.arrival:
        expected.append(reference())
    if setting.arrival and whole:
        expected.append(recomputed(Coordinator(rules, copy.deepcopy(begin)), entries, result, federation))
    found = Params.from_bytes(model.read_bytes()).to_bytes()
    result.different += any(bits != found for bits in expected)


def accepted(coordinator: Coordinator, entries: list[Kept]) -> Counter[tuple[str, int, str]]:
    """How often an answer was counted, by client, round and exchange, when the journal is replayed."""
    s = coordinator.state
    tasks = {task.id: task for task in (*s.tasks, *s.carried, *(task for task, _ in s.ahead))}
    counted: Counter[tuple[str, int, str]] = Counter()
    for entry in replay(coordinator, entries):
        tasks |= {c.task.id: c.task for c in entry.commands if isinstance(c, Dispatch)}
        if isinstance(entry.event, Replied) and _counts(entry):
            task = tasks[entry.event.task]
            counted[task.client, task.round, task.name] += 1
    return counted


def _counts(entry: Replayed) -> bool:
    assert isinstance(entry.event, Replied)
    settled = [c for c in entry.commands if isinstance(c, Settle) and c.task == entry.event.task]
    return [c.verdict for c in settled] == [Verdict.ACCEPTED]


def recomputed(coordinator: Coordinator, entries: list[Kept], result: Result, federation: Federation) -> bytes:
    """The final model by the journal alone: what each client answered is trained again, in the order in which it arrived."""
    point, setting = result.trial.failpoint, STRATEGIES[result.trial.strategy]
    size = LARGE if point.large else 1000
    contents = MemoryContents()
    members = {name: Member(name, Gates(federation.gates, name, []), size=size).to_client() for name in setting.clients}
    model = GlobalModel(contents, receives="sum", max_examples=10**9, max_bytes=2**40)
    strategy = strategy_of(setting.strategy, len(setting.clients), size=size, given=point.given, **setting.keywords)
    owner = Owner(host_of(strategy), model, seed=0, proxy=lambda name: Proxy(name, None))
    tasks: dict[str, Task] = {}
    for entry in replay(coordinator, entries):
        tasks |= {c.task.id: c.task for c in entry.commands if isinstance(c, Dispatch)}
        if isinstance(entry.event, Replied) and entry.event.reply.content is not None and _counts(entry):
            task, name = tasks[entry.event.task], entry.event.reply.content
            arrays = [] if task.version is None else model.arrays(task.version)
            answer = run_task(members[task.client], task.kind, arrays, task.config)
            assert isinstance(answer, Answer)
            schema = schema_of(answer.arrays)
            write_content(contents, name, schema, gather(schema, answer.arrays, 0, schema.nbytes))
        for command in entry.commands:
            if isinstance(command, (Initialize, Step)):
                owner.answer(command)
    assert coordinator.state.version is not None
    content = model.at(coordinator.state.version)
    return content.read(0, content.size)


def reference_in(folder: Path, start: Callable) -> Callable[..., bytes]:
    """`bits(strategy, size=, given=)` are those of a run without faults; each is trained once.

    Where a script gives the order of arrival, a federation of processes plays it; otherwise this process does it all.
    """
    known: dict[tuple[object, ...], bytes] = {}
    lock = threading.Lock()

    def bits(strategy: str, *, size: int, given: bool) -> bytes:
        setting = STRATEGIES[strategy]
        with lock:
            if (strategy, size, given) not in known and setting.script:
                known[strategy, size, given] = scripted(folder / f"{strategy}-{size}-{given}", setting, start, size, given)
            elif (strategy, size, given) not in known:
                known[strategy, size, given] = in_process(
                    folder,
                    list(setting.clients),
                    rounds=ROUNDS,
                    size=size,
                    given=given,
                    strategy=setting.strategy,
                    keywords=setting.keywords,
                )
            return known[strategy, size, given]

    return bits


def scripted(folder: Path, setting: Setting, start: Callable, size: int, given: bool) -> bytes:
    """The final model of a federation that plays a setting's script, and of which nobody dies."""
    federation = Federation(folder, start=start)
    with contextlib.ExitStack() as closing:
        closing.callback(federation.end)
        federation.server(size=size, given=given, rounds=ROUNDS, audit=True, **setting.options)
        federation.clients(*setting.clients, size=size, hold=setting.held)
        closing.callback(Script(setting, federation, None).end)
        federation.all_end(60)
        return federation.model()
