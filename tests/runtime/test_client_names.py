"""Names of clients: of any alphabet, and never two that look the same."""

from __future__ import annotations

import unicodedata

import pytest

from umbel.runtime.transports.http.names import check_name

GOOD = {
    "ASCII": "hospital-1.A_b:c@d+e",
    "Cyrillic": "\u0431\u043e\u043b\u044c\u043d\u0438\u0446\u0430-1",
    "Greek": "\u03bd\u03bf\u03c3\u03bf\u03ba\u03bf\u03bc\u03b5\u03af\u03bf",
    "Devanagari": "\u0905\u0938\u094d\u092a\u0924\u093e\u0932",
    "Chinese with Latin": "\u533b\u9662-A",
    "Japanese": "\u3055\u304f\u3089\u30af\u30ea\u30cb\u30c3\u30af",
    "Korean": "\ubcd1\uc6d0",
    "Arabic": "\u0645\u0633\u062a\u0634\u0641\u0649-2",
    "Hebrew": "\u05d1\u05d9\u05ea",
    "Thai": "\u0e42\u0e23\u0e07\u0e1e\u0e22\u0e32\u0e1a\u0e32\u0e25",
    "umlauts": "Universit\u00e4tsklinikum",
    "Vietnamese": "b\u1ec7nh-vi\u1ec7n",
    "digits": "007",
}

BAD = {
    "a filler for a letter": "hospital\u3164",
    "only fillers": "\u3164\u3164",
    "a jamo filler": "a\u115fb",
    "a half-width filler": "a\uffa0",
    "a zero-width space": "a\u200bb",
    "a zero-width joiner": "a\u200db",
    "a soft hyphen": "a\u00adb",
    "a word joiner": "a\u2060b",
    "a variation selector": "a\ufe0f",
    "another one": "a\U000e0100",
    "a grapheme joiner": "a\u034fb",
    "a Mongolian separator": "a\u180bb",
    "a Khmer vowel that is implied": "\u1780\u17b4",
    "a tag": "a\U000e0041",
    "a byte order mark": "\ufeffa",
    "text from right to left": "a\u202eb",
    "a braille space": "a\u2800",
    "a space": "a b",
    "a hard space": "a\u00a0b",
    "a Cyrillic o": "h\u043espital",
    "a Greek o": "h\u03bfspital",
    "an Armenian o": "h\u0585spital",
    "a Cherokee A": "\u13aaBC",
    "a Latin word in Cyrillic": "\u0441\u043e\u0441\u0430",
    "the same with a number": "\u0441\u043e\u0441\u0430-1",
    "a Latin word in Greek": "\u039f\u03a1\u0391",
    "full-width letters": "\uff48\uff4f\uff53\uff50\uff49\uff54\uff41\uff4c",
    "mathematical letters": "\U0001d41a\U0001d41b",
    "a ligature": "\ufb01rst",
    "a superscript": "a\u00b2",
    "a Roman numeral": "\u2160\u2161",
    "the Kelvin sign": "\u212aelvin",
    "a letter and its mark": "e\u0301cole",
    "a mark without a letter": "\u0301a",
    "a heap of marks": "a" + "\u0334" * 9,
    "a phonetic a": "hospit\u0251l",
    "a surrogate": "a\udc80",
    "a line": "a\nb",
    "nothing": "",
}


@pytest.mark.parametrize("name", GOOD.values(), ids=GOOD.keys())
def test_a_name_of_any_alphabet_is_one(name):
    check_name(unicodedata.normalize("NFKC", name))


@pytest.mark.parametrize("name", BAD.values(), ids=BAD.keys())
def test_a_name_that_does_not_show_or_looks_like_another_is_refused(name):
    with pytest.raises(ValueError, match="client_id ") as refusal:
        check_name(name)
    assert str(refusal.value).isascii()
    assert str(refusal.value).isprintable()


def test_the_refusal_says_what_to_do():
    with pytest.raises(ValueError, match=r"'h\\u043espital' mixes letters of CYRILLIC and LATIN, which look alike; use one"):
        check_name(BAD["a Cyrillic o"])
    with pytest.raises(ValueError, match=r"is another spelling of '\\xe9cole'; use that"):
        check_name(BAD["a letter and its mark"])
