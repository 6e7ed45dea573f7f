"""Start Numba's threads so that kernels work in forked processes and in several Python threads.

Numba runs the parallel loops of a kernel on a threading layer: GNU OpenMP, TBB or workqueue.

Fork: a child has only the thread that called fork. Numba terminates a child of a process that has
used GNU OpenMP, and a child with workqueue has no queues. Here a child restarts its layer. GNU
OpenMP in the child still waits for the parent's threads, so its parallel regions are disabled: the
child runs every kernel on one thread, with the same bits. fork waits until no other thread
compiles, because the child would wait for ever for that thread to release the compiler's lock.

Python threads: workqueue runs one kernel at a time and aborts the process at a second one, so with
workqueue a kernel waits until the kernels of other Python threads have ended.
"""

import ctypes
import importlib
import os
from threading import RLock
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel

MODULES = {"omp": "omppool", "tbb": "tbbpool", "workqueue": "workqueue"}  # of numba.np.ufunc

one_kernel_lock = RLock()  # held while a kernel runs on workqueue


def share_at_fork(lock: Any) -> None:
    """Hold the lock during a fork, so that the child inherits it free and its data consistent."""
    if hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )


def start() -> bool:
    """Start the threads; return True if several Python threads may run kernels at once.

    Raises
    ------
    ValueError
        If the threading layer that NUMBA_THREADING_LAYER names is not installed.
    """
    with global_compiler_lock:  # no fork while they start
        numba.get_num_threads()  # starts them
    return numba.threading_layer() != "workqueue"


def _restart_in_child() -> None:
    if parallel._is_initialized:
        layer = importlib.import_module(f"numba.np.ufunc.{MODULES[numba.threading_layer()]}")
        launch_threads = ctypes.CFUNCTYPE(None, ctypes.c_int)(layer.launch_threads)
        launch_threads(numba.config.NUMBA_NUM_THREADS)
        if getattr(layer, "openmp_vendor", "") == "GNU":
            ctypes.CDLL(layer.__file__).omp_set_max_active_levels(0)


share_at_fork(global_compiler_lock)
share_at_fork(one_kernel_lock)  # acquired before the compiler's lock, as when a kernel compiles
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_restart_in_child)
