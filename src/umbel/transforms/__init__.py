"""What happens to an update on its way to the fold: clipped, cast, quantised, thinned out, at the client and back.

Knows updates, readers and numbers; knows no files, clients or rounds.
"""

from umbel.transforms.base import (
    Applied,
    Arrival,
    Reader,
    Site,
    Totals,
    Transform,
    find,
    reader_in,
    reader_of,
    register,
    source_of,
)
from umbel.transforms.cast import cast
from umbel.transforms.chain import Chain, Finish, chain, chain_of, decoded, identity
from umbel.transforms.clip import clip
from umbel.transforms.differences import differences
from umbel.transforms.halves import whose
from umbel.transforms.int8 import int8
from umbel.transforms.top_k import top_k

__all__ = [
    "Applied",
    "Arrival",
    "Chain",
    "Finish",
    "Reader",
    "Site",
    "Totals",
    "Transform",
    "cast",
    "chain",
    "chain_of",
    "clip",
    "decoded",
    "differences",
    "find",
    "identity",
    "int8",
    "reader_in",
    "reader_of",
    "register",
    "source_of",
    "top_k",
    "whose",
]
