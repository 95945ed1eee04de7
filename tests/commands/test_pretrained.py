"""The published network: registration under its own alias, answers and further training."""

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, SHIPPED, run_in_process
from mlflow.tracking import MlflowClient
from PIL import Image
from tiny_model import Registered

from person_attributes.config import read_params, read_yaml
from person_attributes.data.augment import check_policies
from person_attributes.evaluation.predictions import Predictions
from person_attributes.labels import LabelMap
from person_attributes.registry.pretrained import Pretrained
from person_attributes.registry.promotion import check_against_champion, open_registry
from person_attributes.registry.weights import fetch_weights
from person_attributes.workspace import Workspace

URI = "models:/person-attributes@pretrained"
FOLDER = ROOT / "pretrained"


@pytest.fixture(scope="session")
def project(
    make_once: Callable[[str, Callable[[Path], object]], Path],
    empty_store: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Registered:
    """A project whose store has the published network; do not change it."""

    def fill(folder: Path) -> None:
        shutil.copy(SHIPPED, folder / "params.yaml")
        shutil.copy(empty_store, folder / "mlflow.db")
        (folder / "pretrained").symlink_to(FOLDER)
        output = _run(Registered(folder), "pretrained")
        assert output.startswith(
            "pretrained: person-attributes version 1 has the alias pretrained\n"
        )

    made = Registered(make_once("pretrained", fill))
    return made.copy(tmp_path_factory.mktemp("pretrained") / "project")


def _run(project: Registered, *arguments: str, code: int = 0) -> str:
    done = run_in_process(project.root, project.environment(), arguments, code)
    return done.stdout + done.stderr


def _refuse(project: Registered, *arguments: str) -> str:
    """Returns the output of a command that prints one line and ends with exit code 2."""
    output = _run(project, *arguments, code=2)
    assert output.count("\n") == 1, output
    return output


def test_the_published_network_is_in_the_plan() -> None:
    plan = read_yaml(ROOT / "experiments" / "distillation.yaml")["generations"]
    network = Pretrained.read(FOLDER)
    recipe = network.params.recipe("p1")
    training = network.provenance["training"]
    published = training["network"]
    for generation in training["generations"]:
        planned = plan[generation["name"]]
        networks = [name for group in planned["groups"] for name in group["networks"]]
        assert generation["networks"] == len(networks)
        assert generation["epochs"] == planned["epochs"]
        assert generation["image_size"] == planned["image_size"]
    last = plan[training["generations"][-1]["name"]]
    (group,) = last["groups"]
    assert group["networks"] == {
        published["name"]: {
            "seed": network.params.seed,
            "weight_decay": recipe.optimizer.model_dump()["weight_decay"],
            "share": published["share"],
        }
    }
    assert last["taught_by"] == published["taught_by"]
    assert last["image_size"] == recipe.phase.image_size
    assert last["epochs"] == recipe.phase.epochs
    assert group["policy"] == recipe.phase.augmentation


def test_the_served_model_answers_images(project: Registered, people: Path) -> None:
    contents = [path.read_bytes() for path in sorted(people.rglob("*.jpg"))[:4]]
    encoded = [base64.b64encode(content).decode() for content in contents]
    with project.store():
        model = mlflow.pyfunc.load_model(URI)
        images = pd.DataFrame({"image": encoded})
        answers = model.predict(images, params={"all_probabilities": True})
    published = read_params(FOLDER / "params.yaml")
    assert len(answers) == 4
    assert not any(answers["error"])
    for head, section in published.heads.items():
        for answer in answers[head]:
            assert set(answer["probabilities"]) == set(section.classes)
            assert answer["label"] in section.classes
            assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_predict_labels_a_folder(project: Registered, people: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    _run(project, "predict", str(people), str(table), "--model", URI)
    assert len(pd.read_csv(table)) == 24


def test_the_demo_computes_heat_maps(project: Registered, people: Path) -> None:
    # It imports mlflow.pyfunc, whose warnings are errors when pytest collects tests.
    from person_attributes.commands.demo.attention import Attention

    with project.store(), Image.open(next(people.rglob("*.jpg"))) as image:
        heats = Attention(URI).explain(image.convert("RGB"), {"gender": "female"})
    assert heats["gender"].shape == (8, 4), "256x128 pixels, in steps of 32"


def test_a_second_call_registers_nothing(project: Registered) -> None:
    output = _run(project, "pretrained")
    assert output == "pretrained: person-attributes version 1 already has the alias pretrained\n"


def test_a_removed_alias_is_set_again(project: Registered, tmp_path: Path) -> None:
    copied = project.copy(tmp_path / "copied")
    with copied.store():
        MlflowClient().delete_registered_model_alias("person-attributes", "pretrained")
    assert "person-attributes version 1 has the alias pretrained" in _run(copied, "pretrained")
    with copied.store():
        found = MlflowClient().get_model_version_by_alias("person-attributes", "pretrained")
    assert str(found.version) == "1"


def test_it_is_listed_but_is_not_a_champion(project: Registered) -> None:
    (line,) = _run(project, "models").splitlines()[2:]
    assert line.endswith("published network: not evaluated on rows of this project")
    assert "no earlier champion" in _refuse(project, "rollback")
    assert "not evaluated on rows of this project" in _refuse(project, "promote", "1")
    assert "no evaluation on rows" in _refuse(project, "compare", URI, "workspace")


def test_without_a_champion_commands_suggest_the_published_network(
    project: Registered, people: Path, tmp_path: Path
) -> None:
    error = _refuse(project, "predict", str(people), str(tmp_path / "labels.csv"))
    assert f"name the published network: {URI}" in error


def test_the_gate_refuses_a_comparison_with_it(project: Registered, tmp_path: Path) -> None:
    copied = project.copy(tmp_path / "copied")
    _run(copied, "promote", "1", "--because", "nothing is better yet")
    workspace, params = Workspace(copied.root), read_params(SHIPPED)
    with copied.store(), open_registry(workspace, params.registry) as models:
        nothing = Predictions(np.array([], dtype=np.int64), {}, {})
        (condition,) = check_against_champion(models, nothing, workspace, params)
    assert not condition.holds
    assert "the version has no run, and so no evaluation on rows of this project" in str(condition)


def test_training_can_start_from_it(project: Registered, tmp_path: Path) -> None:
    from person_attributes.modeling.classifier import Normalization, build_classifier
    from person_attributes.modeling.starting_weights import load_starting_weights

    params = read_params(SHIPPED)
    model = read_params(FOLDER / "params.yaml").model
    class_counts = LabelMap.declare(params.heads).class_counts
    classifier = build_classifier(64, class_counts, model, Normalization([0.0] * 3, [1.0] * 3))
    with project.store():
        weights = fetch_weights(URI, tmp_path)
    assert load_starting_weights(classifier, weights, "all") == len(classifier.weights)
    with np.load(FOLDER / "weights.npz", allow_pickle=False) as arrays:
        for variable in classifier.weights:
            np.testing.assert_array_equal(variable.numpy(), arrays[variable.path])


def test_its_parameters_train_such_a_network_again() -> None:
    """A parameter that was added later must be in them too."""
    params = Pretrained.read(FOLDER).params
    check_policies(params.augmentation, params.data.image_sizes)


def test_it_is_small_and_its_provenance_is_complete() -> None:
    network = Pretrained.read(FOLDER)
    assert network.weights.stat().st_size < 15e6
    assert {"split_digest", "seen_rows_digest", "metrics", "keras"} <= network.provenance.keys()
    assert set(network.provenance["temperatures"]) == set(network.params.heads)


@pytest.fixture
def damaged(tmp_path: Path) -> Registered:
    """A project without a store, whose copy of the network may be changed."""
    shutil.copy(SHIPPED, tmp_path / "params.yaml")
    shutil.copytree(FOLDER, tmp_path / "pretrained")
    return Registered(tmp_path)


def test_damaged_weights_are_refused_in_one_line(damaged: Registered) -> None:
    weights = damaged.root / "pretrained" / "weights.npz"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    error = _refuse(damaged, "pretrained")
    assert "pretrained/weights.npz: the checksum does not match" in error
    assert "git checkout -- pretrained" in error
    assert not (damaged.root / "mlflow.db").exists()


@pytest.mark.parametrize("name", ["weights.npz", "params.yaml", "provenance.json", "README.md"])
def test_a_missing_file_is_named_in_one_line(damaged: Registered, name: str) -> None:
    (damaged.root / "pretrained" / name).unlink()
    assert f"pretrained/{name}: no such file" in _refuse(damaged, "pretrained")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"sha256": "1"})])
def test_a_broken_provenance_is_refused_in_one_line(damaged: Registered, content: str) -> None:
    (damaged.root / "pretrained" / "provenance.json").write_text(content)
    assert "expected provenance.json with sha256, normalization" in _refuse(damaged, "pretrained")


def test_the_champion_cannot_take_the_alias(damaged: Registered) -> None:
    params = damaged.root / "params.yaml"
    params.write_text(params.read_text().replace("alias: champion", "alias: pretrained"))
    assert "is the alias of the published network" in _refuse(damaged, "models")
