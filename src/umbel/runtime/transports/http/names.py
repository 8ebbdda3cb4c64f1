"""What a client may be called: letters that show, and that are told apart from those of other alphabets. Knows Unicode.

A name stands in logs, tables and tasks, where people read it. So two names that look the same must not be two names:
letters that do not show, other spellings of the same letters, and the letters of one alphabet among those of another are
refused, and so is a word of another alphabet that looks like a Latin one in every letter.
"""

from __future__ import annotations

import unicodedata

__all__ = ["MAX_NAME", "check_name"]

MAX_NAME = 128
_SIGNS = "_.:@+-"

# Letters and marks by their category that show nothing: fillers, joiners, vowels that are only implied.
_UNSEEN = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
_UNSEEN_BLOCKS = (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0), range(0x1BCA0, 0x1BCA4), range(0x1D173, 0x1D17B))

# Alphabets of which some letters look like some of another; by the first word of their letters' names in Unicode.
_ALPHABETS = frozenset(
    ("LATIN", "CYRILLIC", "GREEK", "COPTIC", "ARMENIAN", "CHEROKEE", "LISU", "GEORGIAN", "DESERET", "OSAGE", "GOTHIC")
)
_LIKE_LATIN = frozenset(
    # Cyrillic a e o p c y x i j s h d q w v l, and A B E S I J K M H O P C T X Y G Q W Y
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501\u051b\u051d\u0475\u04cf"
    "\u0410\u0412\u0415\u0405\u0406\u0408\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0423\u050c"
    "\u051a\u051c\u04ae"
    # Greek o v a i u k p x y, and A B E Z H I K M N O P T Y X
    "\u03bf\u03bd\u03b1\u03b9\u03c5\u03ba\u03c1\u03c7\u03b3\u0391\u0392\u0395\u0396\u0397\u0399\u039a"
    "\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
    # Armenian o u n h q g, and L U O
    "\u0585\u057d\u0578\u0570\u0566\u0581\u053c\u054d\u0555"
)
# Latin, and of no alphabet but the phonetic one: they look like a g i I Y R L N H B G l !
_PHONETIC = frozenset("\u0251\u0261\u0269\u026a\u028f\u0280\u029f\u0274\u029c\u0299\u0262\u01c0\u01c3")
_MOST_MARKS = 4  # on one letter: more of them paint over the lines around


def check_name(name: str) -> None:
    """Raises `ValueError` for a name that cannot be a client's.

    >>> check_name("hospital-1"), check_name("больница-1"), check_name("医院-A")
    (None, None, None)
    >>> check_name("h\u043espital")
    Traceback (most recent call last):
    ValueError: client_id 'h\\u043espital' mixes letters of CYRILLIC and LATIN, which look alike; use one alphabet
    """
    said = f"client_id {name[:200]!a}"
    if not 1 <= len(name) <= MAX_NAME or not all(_spells(c) for c in name):
        raise ValueError(f"{said}: use 1 to {MAX_NAME} letters, digits and . _ : @ + -")
    if any(c in _UNSEEN or any(ord(c) in block for block in _UNSEEN_BLOCKS) for c in name):
        raise ValueError(f"{said} has letters that do not show; leave them out")
    plain = unicodedata.normalize("NFKC", name)
    if plain != name:
        raise ValueError(f"{said} is another spelling of {plain[:200]!a}; use that")
    _check_marks(name, said)
    if name.isascii():
        return
    letters = [c for c in name if c.isalpha()]
    alphabets = sorted({unicodedata.name(c, "?").split()[0] for c in letters} & _ALPHABETS)
    if len(alphabets) > 1:
        raise ValueError(f"{said} mixes letters of {' and '.join(alphabets)}, which look alike; use one alphabet")
    if any(c in _PHONETIC for c in letters) or (letters and all(c in _LIKE_LATIN for c in letters)):
        raise ValueError(f"{said} looks like another name, in Latin letters; use those, or a letter that tells them apart")


def _spells(c: str) -> bool:
    # Marks: in many scripts, vowels are no letters of their own.
    return c.isalnum() or c in _SIGNS or unicodedata.category(c).startswith("M")


def _check_marks(name: str, said: str) -> None:
    marks = _MOST_MARKS  # none can stand at the beginning
    for c in name:
        marks = marks + 1 if unicodedata.category(c) in ("Mn", "Me") else 0
        if marks > _MOST_MARKS:
            raise ValueError(f"{said} has marks that belong to no letter; leave them out")
