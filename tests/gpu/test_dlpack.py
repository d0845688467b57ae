"""Arrays that PyTorch and this package give each other on the GPU; no TensorRT is needed."""

from __future__ import annotations

import numpy as np
import pytest

from gsp_deploy.device import open_device
from gsp_deploy.runtime.device_array import DeviceArray, view_of

VALUES = np.arange(15, dtype=np.float32).reshape(3, 5)


@pytest.fixture
def device():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    device = open_device()
    yield device
    device.close()


def test_torch_reads_a_device_array(device) -> None:
    import torch

    with device.current():
        stream = device.create_stream()
        array = DeviceArray(device, VALUES.shape, "float32", 4)
        device.copy_in(array.address, VALUES, stream)
        array.written_on(device.handle_of(stream))
        for tensor in (torch.from_dlpack(array), torch.as_tensor(array, device="cuda")):
            np.testing.assert_array_equal((tensor * 2).cpu().numpy(), VALUES * 2)
        device.destroy_stream(stream)


def test_a_tensor_is_read_after_the_work_that_makes_it(device) -> None:
    import torch

    with device.current():
        stream = device.create_stream()
        tensor = torch.from_numpy(VALUES).cuda() * 2
        view = view_of(tensor, device, device.handle_of(stream))
        assert (view.shape, view.dtype, view.stream) == (VALUES.shape, "float32", None)
        found = np.empty_like(VALUES)
        device.copy_out(found, view.address, stream)
        device.synchronize(stream)
        device.destroy_stream(stream)
    np.testing.assert_array_equal(found, VALUES * 2)
