"""Memory that runs out is reported in one line."""

import numpy as np
import pytest

from person_attributes.errors import UntrainableError
from person_attributes.runtime.memory import translate_out_of_memory


def test_the_parameters_to_lower_are_named() -> None:
    message = (
        r"^evaluate: out of memory with batches of 64 images of 192x96 px\. Lower "
        r"evaluation\.batch_size, and run the command again\.$"
    )
    with (
        pytest.raises(UntrainableError, match=message),
        translate_out_of_memory("evaluate", 64, "192x96", "evaluation.batch_size"),
    ):
        np.ones((1 << 22, 1 << 22))


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), translate_out_of_memory("p1", 8, 64):
        1 / 0  # noqa: B018
