"""Decodes images of a source on all CPU cores, in order."""

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
from person_attributes.data.images import decode_image
from person_attributes.data.source import Source
from person_attributes.errors import ImageError, SourceError
from person_attributes.runtime.cores import count_cores

_Result = TypeVar("_Result")

_IMAGES_PER_PROCESS = 512
"""Decoding fewer images takes less time than starting a process."""

_IMAGES_PER_TASK = 32

_TASKS_AHEAD = 4
"""Tasks submitted per process; limits the decoded images that wait in memory."""

_source: Source
"""The source of a worker process."""


def map_images(
    function: Callable[[bytes, Image.Image], _Result],
    source: Source,
    names: Sequence[str],
    limits: LimitsParams,
    title: str,
) -> Iterator[_Result | ImageError]:
    """Decodes images and applies a function to each.

    Only a few images are decoded ahead, so a slow consumer does not fill the memory.

    Args:
        function: Takes the bytes of a file and the decoded image. It must be picklable.
        source: The source of the images.
        names: Names of the images in the source.
        limits: Limits on the size of a file and of an image.
        title: Title of the progress bar.

    Yields:
        The result of the function, or the error if the image cannot be decoded; in the order of
        `names`.

    Raises:
        SourceError: If a worker process is killed, usually for lack of memory. Lower
            `data.limits.image_megapixels`.
    """
    processes = min(count_cores(), math.ceil(len(names) / _IMAGES_PER_PROCESS))
    with tqdm(total=len(names), desc=title, unit="image", disable=None) as bar:
        results: Iterator[_Result | ImageError]
        if processes < 2:
            results = (apply_to_image(function, source, limits, name) for name in names)
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
    # Spawned, because forking a process with threads, such as those of MLflow, is unsafe.
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
            "a process that decodes images was killed. Expected enough memory for images of "
            f"{limits.image_megapixels:g} megapixels in {processes} processes. "
            "Lower data.limits.image_megapixels in params.yaml, or free some memory."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def apply_to_image(
    function: Callable[[bytes, Image.Image], _Result],
    source: Source,
    limits: LimitsParams,
    name: str,
) -> _Result | ImageError:
    """Decodes an image and applies a function; returns its result, or the error."""
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
    return [apply_to_image(function, _source, limits, name) for name in names]


def _start_worker(source: Source) -> None:
    """Prepares a worker: no warnings, Ctrl-C ignored, and an exit when the parent is killed."""
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
