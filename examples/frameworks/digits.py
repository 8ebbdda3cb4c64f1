"""The 1,797 digits that scikit-learn brings, dealt out to ten owners: 8 × 8 pixels from 0 to 1."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits


@cache
def arrays(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 8, 8) and labels (n,) of one owner."""
    digits = load_digits()
    mine = slice(number, None, 10)
    return (digits.images[mine] / 16).astype(np.float32), digits.target[mine].astype(np.int64)


def loader(number: int):
    """The same for PyTorch, images as (n, 1, 8, 8), in batches of 32."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    images, labels = map(torch.from_numpy, arrays(number))
    return DataLoader(TensorDataset(images.unsqueeze(1), labels), batch_size=32, shuffle=True)
