"""The served classifier from Python: the same answers as HTTP, and requests that are given up."""

import base64
import json
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from tiny_model import CHAMPION, Registered


@pytest.fixture(scope="module")
def model(registered: Registered) -> Any:
    with registered.store():
        return mlflow.pyfunc.load_model(CHAMPION)


@pytest.fixture(scope="module")
def images(people: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(people.rglob("*.jpg"))[:6]]


def test_a_table_of_bytes_or_strings_gives_the_answers_of_json(
    model: Any, images: list[bytes]
) -> None:
    encoded = [base64.b64encode(image).decode() for image in images]
    params = {"top_k": 2, "heads": ["pose", "age"], "all_probabilities": True}
    body = json.dumps({"inputs": encoded, "params": params}).encode()
    classifier = model.unwrap_python_model()
    answers = json.loads(classifier.answer_body(body, "application/json", lambda: False))
    for values in (images, encoded):
        table = model.predict(pd.DataFrame({"image": values}), params=params)
        assert table.to_dict("records") == answers["predictions"]


def test_rows_are_not_computed_once_a_request_is_given_up(model: Any, images: list[bytes]) -> None:
    from person_attributes.serving.requests import RefusedRequest, Request, RequestOptions

    classifier, asked = model.unwrap_python_model(), list[bool]()

    def is_given_up() -> bool:
        asked.append(True)
        return len(asked) > 2

    with pytest.raises(RefusedRequest, match="took too long") as refused:
        classifier.answer(Request(images * 10, RequestOptions()), is_given_up)
    assert refused.value.status == 503
    assert len(asked) < len(images) * 10


@pytest.mark.parametrize(
    ("values", "params", "reason"),
    [
        ([b"broken"], {}, "row 0: not a JPEG"),
        ([b"broken"], {"top_k": -1}, "top_k: expected an integer of 0 or more"),
        ([b"broken"], {"heads": ["shoe"]}, "heads: expected some of gender, "),
    ],
)
def test_an_invalid_table_is_refused(
    model: Any, values: list[bytes], params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(mlflow.MlflowException, match=reason):
        model.predict(pd.DataFrame({"image": values}), params=params)
