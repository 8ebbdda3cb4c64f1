"""Where the rows come from: whatever a user has becomes the splits of a data set. Knows no partitions."""

from umbel.datasets.sources.load import load

__all__ = ["load"]
