"""What the documents say is what the code does."""

import re
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from umbel.aggregators import fold
from umbel.server import strategy as strategies
from umbel.strategies.classic.adapter import host_of

ROOT = Path(__file__).parent.parent


def test_the_transition_table_in_the_docs_is_the_one_in_the_code():
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "transition-table"], capture_output=True, text=True, check=True
    ).stdout.strip()
    written = (ROOT / "docs" / "architecture.md").read_text()
    assert printed == re.search(r"<!-- transitions -->\n(.*?)\n<!-- /transitions -->", written, re.S)[1]


def test_every_file_that_the_picture_of_the_house_names_is_there():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/]+(?:\.py|/))`", page))
    there = {f"/{path.relative_to(ROOT / 'src')}{'/' * path.is_dir()}" for path in (ROOT / "src" / "umbel").rglob("*")}
    assert len(named) > 100
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in there)] == []


@pytest.mark.parametrize(("page", "least"), [("SECURITY.md", 20), ("docs/reliability.md", 10)])
def test_every_test_that_a_page_of_promises_names_is_there(page, least):
    text = (ROOT / page).read_text()
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names, paths = set(re.findall(r"`(test_\w+)", text)), set(re.findall(r"`(?:tests/)?(\w+/\w+\.py)`", text))
    assert len(names | paths) > least
    assert [name for name in sorted(names) if f"def {name}(" not in tests] == []
    assert [path for path in sorted(paths) if not (ROOT / "tests" / path).exists()] == []


@pytest.mark.parametrize(
    "page", ["README.md", "SECURITY.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
)
def test_links_between_pages_lead_somewhere(page):
    folder = (ROOT / page).parent
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text())
    assert [target for target in targets if not (folder / target).exists()] == []


def test_the_strategy_of_one_s_own_works():
    page = (ROOT / "docs" / "strategies.md").read_text()
    names = {"__name__": "page"}
    for program in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(program, names)
    assert names["of_each_site"].pick(["a-1", "a-2", "b-1"], 2, np.random.RandomState)[1] == "b-1"
    assert [exchange.name for exchange in host_of(names["Largest"]()).declared.exchanges] == ["sizes", "fit", "evaluate"]
    assert fold(names["votes"], np.dtype("float32"), [(0, np.array([2.0, -3.0]), 1)], chunk=1).tolist() == [1, -1]


def test_every_strategy_has_its_line_in_the_docs_and_says_in_a_docstring_what_it_computes():
    page = (ROOT / "docs" / "strategies.md").read_text()
    table = page[page.index("| strategy | paper |") : page.index("`Bucketing`, `NearestNeighbourMixing`")]
    names = set(strategies.__all__) - {"Strategy"}
    assert set(re.findall(r"`(\w+)(?:\(…\))?`", "".join(line.split("|")[1] for line in table.splitlines() if line))) == names
    known = {name: getattr(strategies, name).__doc__ for name in names}
    assert [name for name in sorted(names) if not known[name] or "*args" in known[name]] == []
    without_a_paper = {"FaultTolerantFedAvg", "FedLgbBagging", "FedLgbCyclic", "FedXgbBagging", "FedXgbCyclic"}
    assert {name for name in names if not re.search(r"\b20[12]\d\b", known[name])} <= without_a_paper


@pytest.mark.system
def test_the_programs_of_the_readme_give_the_table_of_the_readme(tmp_path):
    readme = (ROOT / "README.md").read_text()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    programs = re.findall(r"```python\n# (\w+\.py).*?\n(.*?)```", readme, re.S)
    for name, program in programs:
        (tmp_path / name).write_text(program.replace("8080", str(port)))
    assert [name for name, _ in programs] == ["first.py", "client.py", "server.py", "simulation.py"]
    processes = [
        subprocess.Popen([sys.executable, *command], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for command in (["server.py"], ["client.py", "1"], ["client.py", "2"])
    ]
    try:
        said = [process.communicate(timeout=60)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0, 0], said
    promised = re.search(r"(INFO    : round    loss\n.*?)INFO    : Model", readme, re.S)[1]
    assert promised in said[0]
    simulated = subprocess.run(
        [sys.executable, "simulation.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert simulated.stdout.startswith("History (loss, distributed:")
    if find_spec("sklearn"):
        first = subprocess.run(
            [sys.executable, "first.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        assert float(first.stdout.removeprefix("accuracy: ")) > 0.9
