"""A head as the base of the next one, where the converter left out what is zero."""

import numpy as np
import pytest

from cloud_tools.tflite.tflite_file import TfliteFile
from cloud_tools.training.heads import KINDS, TOLERANCE, _build, warm_start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_whose_biases_are_all_zero_can_be_a_base(kind: str) -> None:
    from cloud_tools.tflite.engine import fresh_session
    from cloud_tools.tflite.export import export_tflite

    fresh_session(0)
    model = _build(kind, 3)[1]
    assert all(not value.any() for value in model.get_weights() if value.ndim == 1)
    data = export_tflite(model, np.ones((1, 5, 5, 1280), np.float32), TOLERANCE)
    assert len(TfliteFile(data).constants("FULLY_CONNECTED")) == 1  # the case: no bias in the file
    start = warm_start(kind, data, ("anna", "bert", "carl"), ("anna", "bert", "carl", "dora"), seed=1)
    old = model.get_weights()
    assert start[-1].shape == (4,)
    assert np.array_equal(start[-2][:, :3], old[-2])
    assert not start[-1].any()
    assert all(np.array_equal(a, b) for a, b in zip(start[:-2], old[:-2], strict=True))
