"""Names of models and aliases that MLflow would refuse after training are refused at once."""

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import (
    _validate_model_alias_name,
    _validate_model_alias_name_reserved,
    _validate_model_name,
)

from person_attributes.config import Params
from person_attributes.errors import ParamsError

NAMES = [
    "signs", "signs 2", "röd", "a%20b", "a.b", "a..b", "shop/colours", "shop:colours", "/a", "a/",
    "", " ", ".", "..", "..a", "a//b", "./a", "a/../b", "a\\b",
]  # fmt: skip
ALIASES = [
    "champion", "v", "v1", "v1a", "v12", "V1", "latest", "Latest", "latest2", "a-b", "a b", "a.b",
    "", "é", "a" * 255, "a" * 256,
]  # fmt: skip


def _mlflow_accepts_name(name: str) -> bool:
    try:
        _validate_model_name(name)
    except MlflowException:
        return False
    return True


def _mlflow_accepts_alias(alias: str) -> bool:
    try:
        _validate_model_alias_name(alias)  # type: ignore[no-untyped-call]
        _validate_model_alias_name_reserved(alias)  # type: ignore[no-untyped-call]
    except MlflowException:
        return False
    return True


@pytest.mark.parametrize("name", [name for name in NAMES if not _mlflow_accepts_name(name)])
def test_a_model_name_that_mlflow_refuses_is_refused(params: Params, name: str) -> None:
    with pytest.raises(ParamsError, match=r"registry\.model_name: "):
        params.change({"registry.model_name": name})


@pytest.mark.parametrize("alias", [alias for alias in ALIASES if not _mlflow_accepts_alias(alias)])
def test_an_alias_that_mlflow_refuses_is_refused(params: Params, alias: str) -> None:
    with pytest.raises(ParamsError, match=r"registry\.alias: "):
        params.change({"registry.alias": alias})


@pytest.mark.parametrize("name", ["signs", "signs 2", "röd", "a%20b", "a..b"])
def test_other_model_names_are_accepted(params: Params, name: str) -> None:
    assert params.change({"registry.model_name": name}).registry.model_name == name
