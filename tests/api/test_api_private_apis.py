"""Private APIs and patches of libraries: the libraries still have them, and still need them."""

from __future__ import annotations

import inspect
import io
from typing import TypeVar

import cloudpickle
import ray
from distributed import Worker
from distributed.core import Status
from distributed.nanny import Nanny, WorkerProcess
from distributed.worker_memory import NannyMemoryManager
from ray import _raylet
from ray.experimental import internal_kv
from ray.util.client.worker import Worker as ClientWorker

from mmflow.private_apis import cloudpickle_internals, ray_internals


def test_ray_has_the_private_apis_in_use() -> None:
    """Once this fails, a name of mmflow/private_apis/ray_internals.py is gone, or means something else."""
    core = ("get_current_task_attempt_number", "get_local_memory_store_bytes_used")
    assert all(callable(getattr(vars(_raylet)["CoreWorker"], name)) for name in core)
    assert list(inspect.signature(ray._private.worker.print_to_stdstream).parameters) == [
        "data",
        "ignore_prefix",
    ]
    parameters = {
        "_internal_kv_get": {"namespace"},
        "_internal_kv_put": {"overwrite", "namespace"},
        "_internal_kv_del": {"del_by_prefix", "namespace"},
    }
    for name, wanted in parameters.items():
        assert wanted <= set(inspect.signature(getattr(internal_kv, name)).parameters), name
    assert "self._conn_str = " in inspect.getsource(ClientWorker)
    assert ray_internals.find_address("198.51.100.7:6379") == "198.51.100.7:6379"
    assert "hex ids of nodes" in (ray._private.state.state.get_draining_nodes.__doc__ or "")
    ray_internals.open_channel("127.0.0.1:1").close()
    ray_internals.read_token_again()


def test_cloudpickle_has_the_private_apis_in_use() -> None:
    """Once this fails, a name of mmflow/private_apis/cloudpickle_internals.py is gone, or means something else."""
    cls = type("Local", (), {"__module__": "__main__"})
    make, arguments, *_ = cloudpickle_internals.reduce_class(cls)
    assert arguments[1] == "Local"
    assert make(*arguments) is not make(*arguments)  # by the id that is left out, both would be one
    variable = TypeVar("variable", bound=int)
    make, arguments = cloudpickle_internals.reduce_type_variable(variable)
    assert (make(*arguments).__name__, make(*arguments).__bound__) == ("variable", int)
    pickler = cloudpickle.Pickler(io.BytesIO())
    make, arguments, state, *_ = pickler._dynamic_function_reduce(lambda: len(arguments))
    function = make(*arguments)
    cloudpickle_internals.set_function_state(function, state)
    assert function() == len(arguments)


def test_dask_has_the_attributes_of_nannies_and_workers_in_use() -> None:
    """Once this fails, an attribute in mmflow/private_apis/dask_nanny.py is gone, or means something else."""
    assert list(inspect.signature(NannyMemoryManager.memory_monitor).parameters) == ["self", "nanny"]
    source = inspect.getsource(NannyMemoryManager)
    for text in (
        "self.memory_limit",
        "self.memory_terminate_fraction",
        'nanny.periodic_callbacks["memory_monitor"]',
    ):
        assert text in source
    assert "self.process = WorkerProcess(" in inspect.getsource(Nanny)
    assert "self.process = AsyncProcess(" in inspect.getsource(WorkerProcess)
    assert "await worker.close(" in inspect.getsource(WorkerProcess._run)
    assert "self.handle_stimulus(PauseEvent(" in inspect.getsource(Worker.status.fset)
    assert hasattr(Status, "closing_gracefully")
