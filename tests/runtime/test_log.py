"""Umbel's lines appear once, whatever a program has done with `logging`, unless it has hidden them on purpose."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap

import pytest

from umbel.runtime.log import configure, logger

# One process that has loaded everything, and a fork of it for each case: each is as a program of its own.
PROGRAM = """
import json, os, sys, tempfile
import numpy as np
import umbel as fl
import umbel.simulation

class C(fl.client.NumPyClient):
    def get_parameters(self, config): return [np.zeros(1)]
    def fit(self, parameters, config):
        exec(inside, globals())
        return parameters, 1, {}
    def evaluate(self, parameters, config): return 0.0, 1, {}

def simulate():
    fl.simulation.start_simulation(
        client_fn=lambda cid: C(),
        num_clients=2,
        backend="inline",
        progress=False,
        config=fl.server.ServerConfig(num_rounds=2),
    )

said = {}
for name, (before, inside) in json.loads(sys.argv[1]).items():
    with tempfile.TemporaryFile() as file:
        if (child := os.fork()) == 0:
            os.dup2(file.fileno(), 2)
            os.dup2(file.fileno(), 1)
            exec(before)
            simulate()
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file.seek(0)
        said[name] = code, file.read().decode()
print(json.dumps(said))
"""
DICT = "import logging.config; logging.config.dictConfig({'version': 1, %s})"
SHOWN = {  # what the program does before, what a client does in `fit`
    "nothing": ("", ""),
    "a file, too": ("fl.common.logger.configure('mine', filename=tempfile.mkstemp()[1])", ""),
    "one line to the root": ("import logging; logging.info('begins')", ""),
    "one warning to the root": ("import logging; logging.warning('begins')", ""),
    "basicConfig()": ("import logging; logging.basicConfig()", ""),
    "basicConfig(INFO)": ("import logging; logging.basicConfig(level='INFO')", ""),
    "basicConfig(DEBUG)": ("import logging; logging.basicConfig(level='DEBUG')", ""),
    "a format": ("import logging; logging.basicConfig(format='mine %(message)s')", ""),
    "a handler on umbel": ("import logging; logging.getLogger('umbel').addHandler(logging.StreamHandler())", ""),
    "a level on umbel": ("import logging; logging.getLogger('umbel').setLevel('INFO')", ""),
    "a null handler on the root": ("import logging; logging.getLogger().addHandler(logging.NullHandler())", ""),
    "dictConfig that names nobody": (DICT % "", ""),
    "dictConfig that names others": (DICT % "'loggers': {'mine': {'level': 'ERROR'}}", ""),
    "dictConfig with the root at INFO": (
        DICT % "'handlers': {'h': {'class': 'logging.StreamHandler'}}, 'root': {'level': 'INFO', 'handlers': ['h']}",
        "",
    ),
    "a handler in a client": (
        "import logging; handler = logging.StreamHandler()",
        "logging.root.addHandler(handler)",
    ),
    "one line in a client": ("", "import logging; logging.info('trains')"),
    "dictConfig in a client": ("", DICT % ""),
    "a program that starts twice": ("simulate(); import logging; logging.info('again')", ""),
    "another stderr": ("sys.stderr = os.fdopen(os.dup(2), 'w')", ""),
}
HIDDEN = {
    "a level on umbel": ("import logging; logging.getLogger('umbel').setLevel('ERROR')", ""),
    "a level on the root": ("import logging; logging.basicConfig(level='ERROR')", ""),
    "a level on a root without handlers": ("import logging; logging.getLogger().setLevel('ERROR')", ""),
    "a level on the root's handler": ("import logging; logging.basicConfig(); logging.root.handlers[0].setLevel(40)", ""),
    "disable": ("import logging; logging.disable(logging.CRITICAL)", ""),
    "disabled": ("import logging; logging.getLogger('umbel').disabled = True", ""),
    "a null handler on umbel alone": (
        "import logging; u = logging.getLogger('umbel'); u.addHandler(logging.NullHandler()); u.propagate = False",
        "",
    ),
    "no stderr": ("sys.stderr = None", ""),
    "a closed stderr": ("sys.stderr.close()", ""),
    "a closed stderr under a handler of one's own": (
        "import logging; logging.raiseExceptions = False; logging.basicConfig(); sys.stderr.close()",
        "",
    ),
    "a pipe that nobody reads": ("r, w = os.pipe(); os.close(r); os.dup2(w, 2)", ""),
}


@pytest.fixture(scope="module")
def said():
    cases = {f"{kind} {name}": case for kind, of in (("shown", SHOWN), ("hidden", HIDDEN)) for name, case in of.items()}
    done = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(cases)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SHOWN)
def test_every_line_appears_once(said, name):
    code, text = said[f"shown {name}"]
    assert code == 0, text
    starts = 2 if "twice" in name else 1
    for line in ("Umbel simulation of 2 clients", "[ROUND 1/2]", "[ROUND 2/2]", "[SUMMARY]", "Run over after 2 rounds"):
        assert text.count(line) == starts, text


@pytest.mark.parametrize("name", HIDDEN)
def test_no_line_appears_where_the_program_has_hidden_them(said, name):
    code, text = said[f"hidden {name}"]
    assert code == 0, text
    assert text == ""


def test_the_format_is_the_programs_where_it_has_one(said):
    assert "mine [ROUND 1/2]" in said["shown a format"][1]
    assert "INFO    : [ROUND 1/2]" in said["shown nothing"][1]


def test_pytest_captures_the_lines(caplog):
    with caplog.at_level(logging.INFO, logger="umbel"):
        configure()
        logger.info("a line")
    assert caplog.messages == ["a line"]


def test_the_classic_log_appears_before_anything_has_started():
    code = "import umbel as fl, logging; fl.common.log(logging.INFO, 'text %s', 7)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "INFO    : text 7\n"


def test_warnings_above_a_bar_appear_once():
    code = textwrap.dedent(
        """
        import umbel as fl
        fl.simulation.start_simulation(
            client_fn=lambda cid: fl.client.NumPyClient(), num_clients=2, backend="inline", progress=True,
            config=fl.server.ServerConfig(num_rounds=1),
            strategy=fl.server.strategy.FedAvg(initial_parameters=fl.common.ndarrays_to_parameters([0.0])),
        )
        """
    )
    for before in ("", "import logging; logging.info('x')"):
        done = subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, check=True)
        assert done.stderr.count("fit of round 1: client 0 failed") == 1, done.stderr




def test_a_file_gets_the_lines_too(tmp_path):
    path = tmp_path / "run.log"
    program = textwrap.dedent(
        f"""
        import umbel as fl
        fl.common.logger.configure("100 %s", filename={str(path)!r})
        fl.common.logger.configure("again", filename={str(path)!r})
        fl.common.logger.log(20, "round %d", 1)
        fl.common.logger.warning("late")
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "INFO    : round 1\nWARNING : late\n"
    assert [line.split(" | ")[::3] for line in path.read_text().splitlines()] == [["100 %s", "round 1"], ["100 %s", "late"]]


def test_the_log_is_sent_nowhere():
    import umbel

    with pytest.raises(ValueError, match=r"host='h'; .*leave host out"):
        umbel.common.logger.configure("x", host="h")
