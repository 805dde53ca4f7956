"""Precision: what is kept is computed in float32, whatever the training's precision is."""

import warnings

import pytest
import torch

from cxr.torchkit.device import REDUCIBLE_OPERATIONS, full_precision

CPU = torch.device("cpu")


def test_full_precision_also_within_an_autocast():
    layer, image = torch.nn.Conv2d(1, 4, 3), torch.rand(2, 1, 9, 9)
    plain = layer(image)
    with torch.autocast("cpu", torch.bfloat16), full_precision(CPU):
        found = layer(image)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


def test_no_operation_is_reduced_and_all_are_as_before_even_after_an_error():
    before = [operation.fp32_precision for operation in REDUCIBLE_OPERATIONS]
    assert "tf32" in before  # PyTorch's own: convolutions on a GPU
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"^ieee$"), full_precision(CPU):
            raise ValueError(*{operation.fp32_precision for operation in REDUCIBLE_OPERATIONS})
    assert [operation.fp32_precision for operation in REDUCIBLE_OPERATIONS] == before
