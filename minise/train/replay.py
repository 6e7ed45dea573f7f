"""Replay a dump: repeat the training step or the evaluation in which a guard found a NaN."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, StrPath
from minise.nn import Layer
from minise.nn.files import restore
from minise.ops import wrap
from minise.ops.backend import Backend, load_ops
from minise.ops.guard import UPDATE, NonFinite, NonFiniteError, unguarded
from minise.train.dump import TRAINING, Dump, load
from minise.train.evaluate import evaluate
from minise.train.finite import NonFiniteState, check_state
from minise.train.objective import Objective, SoftmaxCrossEntropy
from minise.train.run_folder import cores
from minise.train.setup import build_net, check_ops_file
from minise.train.sgd import SGD, optimiser_state
from minise.train.step import train_step


class Summary(NamedTuple):
    """An input array of the call with the NaN or infinity, in a few numbers."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    low: float  # minimum, maximum and mean of the absolute values of its finite numbers
    high: float  # nan if there is none
    mean_abs: float
    not_finite: int  # how many numbers are NaN or infinite


class Replay(NamedTuple):
    """The NaN or infinity of a replay."""

    nonfinite: NonFinite
    same: bool  # whether the dump has the same call, array, index, value and count
    inputs: tuple[Summary, ...]  # of the call
    state: str  # the first array of the net that is not finite, "" if all are


def replay(
    dump: Dump | StrPath,
    net: Layer | None = None,
    objective: Objective | None = None,
    ops: Backend | str | None = None,
) -> Replay | None:
    """Repeat the training step or the evaluation of a dump, guarded.

    Parameters
    ----------
    dump : Dump, str or path
        A dump, its file, or the folder of a run that has one.
    net : Layer, optional
        Needed for a custom net: a net built like the run's, which is not changed.
    objective : Objective, optional
        Needed for an objective other than SoftmaxCrossEntropy: the run's objective, or for a dump
        of an evaluation the one of evaluations.
    ops : back end or str, optional
        The back end; by default the run's.

    Returns
    -------
    Replay or None
        The first NaN or infinity; None if all arrays are finite.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, TypeError
        If the dump is damaged, was not written by minise, needs net or objective, or does not fit
        the net, or if the file of the run's ops does not exist.
    """
    from threadpoolctl import threadpool_limits

    if not isinstance(dump, Dump):
        dump = load(dump)
    net = _guarded_net(dump, net, ops)
    restore(net, dump.arrays, "the dump")
    if objective is None:
        objective = _objective(dump, net)
    optimiser: Any = _Unchanged(net)
    if dump.nonfinite.direction == UPDATE:
        optimiser = _optimiser(dump, net)
    try:
        check_state(net)
        state = ""
    except NonFiniteState as error:
        state = str(error)
    threads = max(1, min(dump.threads, cores()))
    try:
        with (
            threadpool_limits(threads, "blas"),
            np.errstate(over="ignore", invalid="ignore"),
        ):
            if dump.phase == TRAINING:
                train_step(net, objective, optimiser, dump.batches, dump.lr or 0.0)
            else:
                evaluate(net, dump.batches, objective)
    except NonFiniteError as error:
        same = error.nonfinite == dump.nonfinite
        return Replay(error.nonfinite, same, _summaries(net, error.inputs), state)
    return None


def _guarded_net(dump: Dump, net: Layer | None, ops: Backend | str | None) -> Layer:
    """Return the net of a dump, or a copy of the net passed, with a guard."""
    if net is None:
        if dump.is_custom:
            raise ValueError(
                "replay: net is None, expected a net built like the run's, because the dump is of "
                "a custom net: call train.replay(dump, net, objective) in the program that built it"
            )
        return _named_net(dump, ops)
    net, loaded = copy.deepcopy(net), load_ops(ops) if isinstance(ops, str) else ops
    wrap.attach(net, wrap.guarded(unguarded(net.ops) if loaded is None else loaded))
    return net


def _named_net(dump: Dump, ops: Backend | str | None) -> Layer:
    """Build the net that the dump's config names."""
    config = replace(dump.config, guard=True, threads=min(dump.config.threads, cores()))
    loaded = None if isinstance(ops, str) else ops
    if isinstance(ops, str) and ops != config.ops:
        config = replace(config, ops=ops, algorithm="auto")
    elif ops is None:
        check_ops_file("guard", config.ops, ", or --ops reference")
    return build_net(config, len(dump.data["classes"]), loaded)


def _objective(dump: Dump, net: Layer) -> Objective:
    """Return the objective of a dump, guarded as in the run."""
    settings = dump.objective
    if settings.get("name") != "SoftmaxCrossEntropy" or "label_smoothing" not in settings:
        raise ValueError(
            f"replay: objective is None, expected a {settings.get('name')} as in the run: pass it, "
            "train.replay(dump, net, objective)"
        )
    objective = SoftmaxCrossEntropy(net.ops, label_smoothing=settings["label_smoothing"])
    if not settings.get("guarded"):
        objective.ops = unguarded(net.ops)
    return objective


def _optimiser(dump: Dump, net: Layer) -> SGD:
    """Return the optimiser of a dump with its arrays."""
    settings: Mapping[str, Any] = {k: v for k, v in dump.optimiser.items() if k != "name"}
    if dump.optimiser.get("name") != SGD.__name__:
        raise ValueError(
            f"replay: the optimiser is a {dump.optimiser.get('name')}, expected SGD, the only one "
            "whose updates can be replayed"
        )
    optimiser = SGD(net, **settings)
    arrays, stored = optimiser_state(optimiser), dump.optimiser_arrays
    if {k: a.shape for k, a in arrays.items()} != {k: a.shape for k, a in stored.items()}:
        raise ValueError("replay: the optimiser's arrays in the dump do not fit the net")
    for name, array in arrays.items():
        array[...] = net.ops.asarray(stored[name], array.dtype)
    return optimiser


class _Unchanged:
    """An optimiser that leaves the net as it is."""

    def __init__(self, net: Layer) -> None:
        self.net, self.velocity = net, dict[str, Array]()

    def step(self, grads: Mapping[str, Array], lr: float) -> None:
        """Return without an update."""


def _summaries(net: Layer, arrays: Mapping[str, Any]) -> tuple[Summary, ...]:
    return tuple(_summary(name, np.asarray(net.ops.asnumpy(a))) for name, a in arrays.items())


def _summary(name: str, array: Array) -> Summary:
    finite = np.isfinite(array)
    values = array[finite]
    low = high = mean_abs = np.nan
    if values.size:
        low, high = float(values.min()), float(values.max())
        with np.errstate(over="ignore"):
            mean_abs = float(np.abs(values, dtype=np.float64).mean())
    return Summary(name, array.shape, str(array.dtype), low, high, mean_abs, int((~finite).sum()))
