"""Where many pieces of work run: one after the other, in processes here, or on a Dask cluster.

A piece is anything that can be sent to another process; the function must be found there by its
name. What one piece does never stops another: an error comes back as text, in its outcome. Each
process works on one piece at a time, with a set number of torch threads, so that a piece gives the
same numbers wherever it runs::

    for outcome in Backend("loky", workers=2).each(function, pieces):
        ...                                           # in the order in which they are ready
"""

import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

BACKENDS = ("sequential", "loky", "dask")

_ATTEMPTS = 3
_WAIT = 60.0
# A Dask worker may have several threads, but torch's random state and its threads are one.
_one_at_a_time = threading.RLock()


class BackendError(ValueError):
    """Workers that cannot be had, cannot be reached, or die again and again."""


@dataclass(frozen=True)
class Outcome:
    """What became of one piece.

    Attributes:
        index: the place of the piece among those given.
        result: what the function returned; None after an error.
        seconds: wall time of this piece.
        error: name and words of the exception; empty where all is well.
        trace: where the exception came from, as Python prints it.
    """

    index: int
    result: Any
    seconds: float
    error: str = ""
    trace: str = ""


Outcomes = Generator[Outcome, None, None]


@dataclass(frozen=True)
class Backend:
    """Where and on how many workers.

    Attributes:
        name: ``sequential``, ``loky`` (processes of this machine) or ``dask``.
        workers: number of processes, for ``loky`` only; default: one a core.
        scheduler: address of a running Dask scheduler (``tcp://host:8786``), for ``dask`` only.
        threads: torch threads of each worker.

    Raises:
        ValueError: an unknown name, an option of another backend, or a number below 1.
    """

    name: str = "sequential"
    workers: int | None = None
    scheduler: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if self.name not in BACKENDS:
            raise ValueError(f"backend is {self.name!r}; choose one of: {', '.join(BACKENDS)}")
        for option, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and value < 1:
                raise ValueError(f"{option} is {value}; give a whole number of at least 1")
        if self.workers is not None and self.name != "loky":
            raise ValueError(f"workers is for the backend loky; {self.name} has its own number")
        if (self.scheduler is not None) != (self.name == "dask"):
            raise ValueError(
                f"backend is {self.name} and scheduler is {self.scheduler}; the backend dask, and "
                "no other, needs the address of a running scheduler, such as tcp://host:8786"
            )

    def each(self, function: Callable[[Any], Any], pieces: Sequence[Any]) -> Outcomes:
        """``function(piece)`` for every piece; the outcomes as they come, in any order.

        A piece whose worker is killed is given to another worker; a cluster whose last worker is
        gone is waited for. Close the iterator to give up what has not begun.

        Raises:
            BackendError: no scheduler, no workers, or workers that keep dying.
        """
        match self.name:
            case "loky":
                return _loky(function, pieces, self.workers, self.threads)
            case "dask":
                return _dask(function, pieces, str(self.scheduler), self.threads)
        return (_attempt(function, piece, i, self.threads) for i, piece in enumerate(pieces))


def _attempt(function: Callable[[Any], Any], piece: Any, index: int, threads: int) -> Outcome:
    """Run one piece; an exception comes back as text, since not every one can be pickled."""
    with _one_at_a_time, _torch_threads(threads):
        start = time.perf_counter()
        try:
            result = function(piece)
        except Exception as error:
            seconds = time.perf_counter() - start
            return Outcome(index, None, seconds, _words(error), traceback.format_exc())
        return Outcome(index, result, time.perf_counter() - start)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


# --- processes of this machine ----------------------------------------------------------------


def _loky(
    function: Callable[[Any], Any], pieces: Sequence[Any], workers: int | None, threads: int
) -> Outcomes:
    """Joblib's processes; when one is killed, the others' pool ends too and a new one goes on."""
    left = dict(enumerate(pieces))
    for _ in range(_ATTEMPTS):
        try:
            with _closing_quietly(_parallel(function, left.copy(), workers, threads)) as outcomes:
                for outcome in outcomes:
                    del left[outcome.index]
                    yield outcome
            return
        except BrokenProcessPool:
            continue
    raise BackendError(
        f"a worker process was killed in each of {_ATTEMPTS} attempts, most likely for want of "
        "memory; use fewer workers"
    )


@contextmanager
def _closing_quietly(outcomes: Outcomes) -> Iterator[Outcomes]:
    """Whoever stops early knows that the rest is given up; joblib would warn of it."""
    try:
        yield outcomes
    finally:
        with warnings.catch_warnings(action="ignore"):
            outcomes.close()


def _parallel(
    function: Callable[[Any], Any], pieces: dict[int, Any], workers: int | None, threads: int
) -> Outcomes:
    from joblib import Parallel, cpu_count, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=threads):
        parallel = Parallel(
            n_jobs=workers or cpu_count(), return_as="generator_unordered", batch_size=1
        )
    return parallel(delayed(_attempt)(function, p, i, threads) for i, p in pieces.items())


# --- a Dask cluster ---------------------------------------------------------------------------


def _dask(
    function: Callable[[Any], Any], pieces: Sequence[Any], scheduler: str, threads: int
) -> Outcomes:
    """Futures on a running cluster; the scheduler gives a lost worker's pieces to the others."""
    with _client(scheduler) as client:
        from distributed import as_completed

        futures = {
            client.submit(_attempt, function, piece, i, threads, pure=False, retries=_ATTEMPTS): i
            for i, piece in enumerate(pieces)
        }
        for future in as_completed(list(futures), loop=client.loop):
            if future.cancelled():
                raise BackendError(f"the Dask scheduler at {scheduler} is gone; start it again")
            index = futures.pop(future)
            yield _outcome(future, index)
            del future  # so that the worker may forget the result


def _outcome(future: Any, index: int) -> Outcome:
    """The result of a finished future, or what kept the cluster from having one."""
    try:
        return future.result()
    except Exception as error:
        return Outcome(index, None, 0.0, _words(error), traceback.format_exc())


@contextmanager
def _client(scheduler: str) -> Iterator[Any]:
    """A client of the scheduler with at least one worker; it closes in the end."""
    try:
        from distributed import Client
    except ImportError as error:
        raise BackendError("dask is not installed; pip install 'mechbook[cluster]'") from error
    client = Client.__new__(Client)
    try:
        client.__init__(scheduler, timeout=_WAIT / 4, set_as_default=False)  # type: ignore[misc]
    except Exception as error:  # a wrong address fails in many ways
        client.close()  # left to the garbage collection, it could block the start of the next one
        raise BackendError(f"no Dask scheduler answers at {scheduler}: {_words(error)}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_WAIT)
        except TimeoutError as error:
            raise BackendError(
                f"no worker came to the scheduler at {scheduler} within {_WAIT:.0f} s; start some "
                f"with `dask worker {scheduler}`"
            ) from error
        yield client
