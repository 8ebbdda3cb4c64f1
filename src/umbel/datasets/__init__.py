"""Data for a federation: one data set, divided among clients.

>>> FederatedDataset.__name__
'FederatedDataset'

Light to import: the `datasets` package (`pip install 'umbel[datasets]'`) is imported when data is first asked for.
"""

from umbel.datasets.federated import FederatedDataset
from umbel.datasets.partitioners import IidPartitioner, Partitioner, RowPartitioner

__all__ = ["FederatedDataset", "IidPartitioner", "Partitioner", "RowPartitioner"]
