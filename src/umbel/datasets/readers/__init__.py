"""From the files of a named data set to its columns: numpy and the standard library only."""

from umbel.datasets.readers.letters import letters
from umbel.datasets.readers.randhie import randhie
from umbel.datasets.readers.shakespeare import shakespeare
from umbel.datasets.readers.uci import breast_cancer, digits
from umbel.datasets.readers.vowel import vowel

__all__ = ["breast_cancer", "digits", "letters", "randhie", "shakespeare", "vowel"]
