"""Arrays of other libraries as people have them."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from umbel.errors import WireError
from umbel.params import as_arrays

torch = pytest.importorskip("torch")


def test_torch_tensors_come_as_they_are():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).to(torch.bfloat16)
    arrays = as_arrays(net.state_dict())
    assert arrays.names == tuple(net.state_dict())
    assert {array.dtype for array in arrays} == {np.dtype(ml_dtypes.bfloat16), np.dtype("int64")}
    for tensor, array in zip(net.state_dict().values(), arrays, strict=True):
        assert array.shape == tuple(tensor.shape)
        assert array.astype("float32").tolist() == tensor.float().tolist()


@pytest.mark.parametrize(
    ("tensor", "values"),
    [
        (lambda: torch.ones(2, requires_grad=True) * 2, [2.0, 2.0]),
        (lambda: torch.nn.Parameter(torch.ones(2)), [1.0, 1.0]),
        (lambda: torch.arange(6.0).reshape(2, 3).T[1], [1.0, 4.0]),
        (lambda: torch.tensor(3), 3),
        (lambda: torch.tensor([1.5]).to(torch.float8_e5m2), [1.5]),
        (lambda: torch.tensor([True]), [True]),
        (lambda: torch.tensor([1 + 2j]).conj().imag, [-2.0]),  # a view with a minus sign that is not in memory
    ],
)
def test_torch_tensors_of_all_kinds(tensor, values):
    (array,) = as_arrays([tensor()])
    assert array.astype(np.float64 if array.dtype.kind == "V" else array.dtype).tolist() == values
    assert array.flags.c_contiguous


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (lambda: torch.ones(2).to_sparse(), "array 'w' is a sparse_coo tensor; give tensor.to_dense()"),
        (lambda: torch.ones(2, dtype=torch.complex64), "of dtype complex64, which cannot travel; send the real"),
        (lambda: torch.empty(2, device="meta"), "on the device meta, which has no values"),
        (lambda: torch.nn.Linear(1, 1), "array 'w' is a whole Linear; give its state_dict()"),
        (lambda: pytest.importorskip("scipy.sparse").eye(2), r"array 'w' is a sparse dia_matrix; give matrix.toarray()"),
    ],
)
def test_what_has_no_dense_real_form_is_refused_with_the_remedy(made, text):
    with pytest.raises(WireError) as refusal:
        as_arrays({"w": made()})
    assert text in str(refusal.value)


def test_mlx_arrays_keep_bfloat16():
    mx = pytest.importorskip("mlx.core")
    arrays = as_arrays([mx.array([1.5, 2.5]).astype(mx.bfloat16), mx.array([3]), mx.array(2.0)])
    assert [array.dtype.name for array in arrays] == ["bfloat16", "int32", "float32"]
    assert arrays[0].astype("float32").tolist() == [1.5, 2.5]
