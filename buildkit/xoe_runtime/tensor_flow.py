"""TensorFlow 2: thread counts, and a limit for each GPU. Memory growth is a variable that TensorFlow reads itself."""

from __future__ import annotations

from importlib import import_module

from .notice import say_once
from .settings import TensorflowRuntime


def apply_tensorflow(chosen: TensorflowRuntime, threads: int) -> None:
    """Set thread counts and the limit. Raises RuntimeError if TensorFlow has computed something before."""
    config = import_module("tensorflow").config
    if threads:
        config.threading.set_intra_op_parallelism_threads(threads)
        config.threading.set_inter_op_parallelism_threads(threads)
    if not chosen.limit:
        return
    gpus = config.list_physical_devices("GPU")
    if not gpus:
        say_once("tensorflow sees no GPU: limit of [framework.tensorflow] has no effect")
    for gpu in gpus:
        config.set_logical_device_configuration(gpu, [config.LogicalDeviceConfiguration(memory_limit=chosen.limit)])
