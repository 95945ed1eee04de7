"""Decodes images of a source on all processor cores, in order."""

import math
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from PIL import Image
from tqdm import tqdm

from person_attributes.config import LimitsParams
from person_attributes.data.archive import Source
from person_attributes.data.images import decode_image
from person_attributes.errors import ImageError, SourceError

_Result = TypeVar("_Result")

_IMAGES_PER_PROCESS = 512
"""Fewer are decoded sooner than a process starts."""

_IMAGES_PER_TASK = 32

_TASKS_AHEAD = 4
"""Of each process: what is decoded and not yet asked for is held in memory."""

_source: Source
"""What a worker process reads from; each opens its own."""


def map_images(
    function: Callable[[bytes, Image.Image], _Result],
    source: Source,
    names: Sequence[str],
    limits: LimitsParams,
    title: str,
) -> Iterator[_Result | ImageError]:
    """Reads and decodes images and gives what a function makes of each.

    Args:
        function: Takes the bytes of a file and its image; a function of a module, since it is sent
            to other processes.
        source: Where the images lie.
        names: Their names.
        limits: How large a file and an image may be.
        title: Of the progress bar.

    Yields:
        In the order of `names`: the function's result, or why there is none. Few are made ahead, so
        that whoever takes them slowly does not have them all in memory.

    Raises:
        SourceError: If a process is ended from outside, mostly for its memory: lower
            `data.limits.image_megapixels`.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = min(cores or 1, math.ceil(len(names) / _IMAGES_PER_PROCESS))
    with tqdm(total=len(names), desc=title, unit="image", disable=None) as bar:
        results: Iterator[_Result | ImageError]
        if processes < 2:
            results = (_apply(function, source, limits, name) for name in names)
        else:
            results = _map_in_processes(function, source, names, limits, processes)
        for result in results:
            bar.update()
            yield result


def _map_in_processes(
    function: Callable[[bytes, Image.Image], _Result],
    source: Source,
    names: Sequence[str],
    limits: LimitsParams,
    processes: int,
) -> Iterator[_Result | ImageError]:
    # Spawned: MLflow and others have threads here, which a fork would cut in half.
    pool = ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _start_worker, (source,)
    )
    try:
        tasks = (
            pool.submit(_apply_in_worker, function, limits, names[start : start + _IMAGES_PER_TASK])
            for start in range(0, len(names), _IMAGES_PER_TASK)
        )
        pending = deque(islice(tasks, _TASKS_AHEAD * processes))
        while pending:
            results = pending.popleft().result()
            pending.extend(islice(tasks, 1))
            yield from results
    except BrokenProcessPool:
        raise SourceError(
            "a process that decodes images was ended from outside. Expected room for images of "
            f"{limits.image_megapixels:g} megapixels in {processes} processes. "
            "Lower data.limits.image_megapixels in params.yaml, or free some memory."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _apply(
    function: Callable[[bytes, Image.Image], _Result],
    source: Source,
    limits: LimitsParams,
    name: str,
) -> _Result | ImageError:
    try:
        megabytes = source.size(name) / 1e6
        if megabytes > limits.image_megabytes:
            raise ImageError(f"{megabytes:.1f} MB, more than {limits.image_megabytes:g}")
        content = source.read(name)
        return function(content, decode_image(content, limits.image_megapixels))
    except ImageError as error:
        return error
    except SourceError as error:
        return ImageError(str(error).partition(": ")[2])


def _apply_in_worker(
    function: Callable[[bytes, Image.Image], _Result], limits: LimitsParams, names: Sequence[str]
) -> list[_Result | ImageError]:
    return [_apply(function, _source, limits, name) for name in names]


def _start_worker(source: Source) -> None:
    """Prepares a worker: silent, deaf to Ctrl-C, and gone when its parent is killed."""
    global _source
    _source = source
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
