"""Linears by units: selecting, scattering, slicing, and what is left of an empty one."""

import pytest
import torch
from torch import nn

from modules.sliceable_linear import EmptyLinear, SliceableLinear, scatter, select, slice_linear


def rows_of(units, groups, number, size):
    """Positions of some units, in plain loops."""
    return [
        (group * number + unit) * size + i for group in range(groups) for unit in units for i in range(size)
    ]


@pytest.mark.parametrize("groups, number, size", [(1, 4, 3), (3, 4, 2), (2, 5, 1)])
@pytest.mark.parametrize("units", [[2, 0], [3, 1, 0, 2], []])
def test_select_and_scatter(groups, number, size, units):
    weight_OI = torch.randn(groups * number * size, 7, dtype=torch.float64)
    index, rows = torch.tensor(units, dtype=torch.int64), rows_of(units, groups, number, size)
    layout = {"groups": groups, "size": size}
    for dim, tensor in ((0, weight_OI), (1, weight_OI.T), (0, weight_OI[:, 0])):
        chosen = select(tensor, index, dim=dim, **layout)
        assert torch.equal(chosen, tensor.index_select(dim, torch.tensor(rows, dtype=torch.int64)))
        back = scatter(chosen, index, number, dim=dim, **layout)
        expected = torch.zeros_like(tensor)
        for row in rows:
            expected.select(dim, row).copy_(tensor.select(dim, row))
        assert torch.equal(back, expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups, rows", [(1, 2), (2, 3), (3, 1), (3, 0)])
def test_sliced_rows(groups, rows, bias):
    linear = nn.Linear(5, 6 * groups, bias=bias).double()
    features = torch.randn(2, 3, 5, dtype=torch.float64)
    whole, weight = linear(features), linear.weight
    slice_linear(linear, rows=rows, groups=groups)
    assert isinstance(linear, SliceableLinear) and linear.weight is weight
    kept = rows_of(range(rows), groups, 6, 1)
    assert torch.allclose(linear(features), whole[..., kept], rtol=0, atol=1e-12)
    slice_linear(linear, groups=groups)
    assert torch.equal(linear(features), whole)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("columns", [0, 1, 4])
def test_sliced_columns(columns, bias):
    linear = nn.Linear(6, 3, bias=bias).double()
    features = torch.randn(2, 4, 6, dtype=torch.float64)
    features[..., columns:] = 0
    whole = linear(features)
    slice_linear(linear, columns=columns)
    result = linear(features[..., :columns])
    assert torch.allclose(result, whole, rtol=0, atol=1e-12)
    if columns == 0:
        empty = EmptyLinear(0, 3, bias=linear.bias)
        assert torch.equal(empty(features), result) and empty.weight is None
        assert [name for name, _ in empty.named_parameters()] == (["bias"] if bias else [])


def test_an_empty_output():
    empty = EmptyLinear(6, 0)
    assert empty(torch.randn(2, 4, 6)).shape == (2, 4, 0)
    assert not list(empty.parameters())
    with pytest.raises(AssertionError):
        EmptyLinear(6, 1)
