import json
import math
import re
import shutil
import textwrap
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, SHIPPED, change_params, read_yaml
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from person_attributes.config import HeadParams, Params, read_params
from person_attributes.config.params import check_params
from person_attributes.errors import ParamsError


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    return Path(shutil.copy(SHIPPED, tmp_path / "params.yaml"))


def test_shipped_params_equal_the_sample_recipe() -> None:
    assert (ROOT / "params.yaml").read_text() == SHIPPED.read_text()


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_is_valid(recipe: Path) -> None:
    phases = ["p1"] if recipe.stem == "hvc_best" else ["p1", "p2", "p3", "p4", "p5"]
    assert list(read_params(recipe).phases) == phases


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_dvc_exp_run_changes_one_line(recipe: Path, params_file: Path) -> None:
    """Recipes are in DVC's output format, so `dvc exp run -S` changes no other line."""
    before = recipe.read_text().splitlines()
    params_file.write_text(recipe.read_text())
    apply_overrides(params_file, ["phases.p1.learning_rate=0.00123"])
    after = params_file.read_text().splitlines()
    changed = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert [line for _, line in changed] == ["    learning_rate: 0.00123"]


def test_hvc_recipe_equals_the_articles_parameters() -> None:
    params = read_params(ROOT / "recipes" / "hvc.yaml")
    assert params.model.blocks == (6, 12, 24, 16)
    assert [phase.image_size for phase in params.phases.values()] == [100, 100, 100, 200, 200]
    assert [phase.trainable for phase in params.phases.values()] == [
        "all", "heads", "all", "all", "heads",
    ]  # fmt: skip
    assert params.phases["p3"].learning_rate == 1e-4
    assert (params.split.validation_share, params.seed) == (0.15, 42)


def _keys(section: Any, prefix: str = "") -> list[str]:
    """Lists all dotted keys of a section and its subsections."""
    if not isinstance(section, dict):
        return []
    return [
        key
        for name, value in section.items()
        for key in (f"{prefix}{name}", *_keys(value, f"{prefix}{name}."))
    ]


def test_readme_example_of_own_data_is_valid(params_file: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    example = YAML(typ="safe").load(textwrap.dedent(block))
    assert set(example) == {"data", "heads", "split"}
    changes = {
        f"{section}.{key}": value
        for section in ("data", "split")
        for key, value in example[section].items()
    }
    change_params(params_file, changes | {"heads": example["heads"]})
    assert list(read_params(params_file).heads) == ["colour", "sleeves"]


def test_documented_heads_are_valid() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(heads:\n.*?)```", page, re.DOTALL)
    heads = YAML(typ="safe").load(block)["heads"]
    assert len([HeadParams.model_validate(head) for head in heads.values()]) == 3


def test_every_key_is_required() -> None:
    shipped = read_yaml(SHIPPED)
    sections_of_the_user = {"phases", "heads", "augmentation", "losses", "optimizers", "schedules"}
    for key in _keys(shipped):
        *sections, name = key.split(".")
        if len(sections) == 1 and sections[0] in sections_of_the_user:
            continue
        if key.startswith("sweep.search."):
            continue
        content = deepcopy(shipped)
        section = content
        for part in sections:
            section = section[part]
        del section[name]
        with pytest.raises(ParamsError, match=re.escape(f"{key}: missing. Add the key")):
            check_params(content, "params.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"phases.p1.batchsize": 8},
            r"phases\.p1\.batchsize: unknown key\. Did you mean 'batch_size'",
        ),
        ({"phases.p1.batch_size": "many"}, r"p1\.batch_size: expected .*integer.*'many'"),
        ({"phases.p1.batch_size": 0}, r"p1\.batch_size: expected greater than .* Received: 0"),
        ({"phases.p1.trainable": 1.5}, r"trainable: expected all, heads, or a share .* 1\.5"),
        ({"phases.p1.schedule": "slow"}, r"p1\.schedule: expected one of constant, .* slow"),
        ({"schedules.cosine.kind": "sine"}, r"schedules\.cosine\.kind: expected one of constant,"),
        (
            {"optimizers.adam.kind": "adamx"},
            r"adam\.kind: .*adam, adamw, sgd\. Received: 'adamx'\. Did you mean 'adam'\? Change",
        ),
        ({"optimizers.adam.kind": None}, r"adam\.kind: .*sgd\. Received: no value\. Change the"),
        ({"optimizers.adam": None}, r"optimizers\.adam: expected keys and values\. .* no value\."),
        ({"schedules.cosine.warmup": 1.0}, r"schedules\.cosine\.warmup: unknown .*'warmup_epochs'"),
        ({"schedules.cosine.final_share": 2.0}, r"schedules\.cosine\.final_share: .* Received: 2"),
        ({"losses.plain.head_weights": {"hat": 1.0}}, r"head_weights: expected one of gender"),
        ({"model.backbone": "resnet5"}, r"model\.backbone: unknown .* Did you mean 'resnet50'"),
        (
            {"model.backbone": "xception"},
            r"data\.image_sizes: xception needs images of at least 71 px",
        ),
        ({"lr_finder.lowest": 2.0}, r"lr_finder: lowest must be below highest"),
        ({"sweep.metric": "val_hat_loss"}, r"sweep\.metric: expected one of val_loss"),
        (
            {"sweep.search": {5: {"kind": "choice", "choices": [0]}}},
            r"sweep\.search\.5: expected text\. Received: 5\. Use a key of this file, with dots",
        ),
        (
            {"augmentation.none.augmenters": [{5: {}}]},
            r"augmenters\.0\.5: expected text\. Received: 5\. Use the name of an augmenter",
        ),
        (
            {"sweep.search": {"model.drop": {"kind": "choice", "choices": [0]}}},
            r"sweep\.search: no such parameter 'model\.drop'\. Did you mean 'dropout'",
        ),
        ({"sweep.sampler": "grid"}, r"sweep: grid needs choices, but phases\.p4\.learning_rate"),
        (
            {"sweep.search": {"seed": {"kind": "int", "low": 3, "high": 3, "scale": "linear"}}},
            r"sweep\.search\.seed: low must be below high",
        ),
        ({"phases.p1.learning_rat": 1}, r"phases\.p1\.learning_rat: .* 'learning_rate'"),
        ({"data.image_sizes": ["64 x 80"]}, r"image_sizes\.0: expected 32 to 4096 pixels, .*"),
        ({"data.image_sizes": ["64x16"]}, r"image_sizes\.0: .* height x width\. .*: '64x16'"),
        ({"data.black_bars": "crop"}, r"data\.black_bars: expected .*'keep' or 'cut'.* 'crop'"),
        ({"phases.p4.image_size": 96}, r"phases\.p4\.image_size: expected one of 64, 80.* 96"),
        ({"phases.p1.starts_from": "p2"}, r"phases\.p1\.starts_from: expected one of initial"),
        (
            {"phases.p1.augmentation": "wild"},
            r"expected one of none, standard, aggressive, mixed.*wild",
        ),
        (
            {"evaluation.phases": ["p5", "p6"]},
            r"evaluation\.phases: expected one of p1, p2, p3, p4, p5\. Received: p6",
        ),
        ({"evaluation.phases": ["p5", "p5"]}, r"evaluation\.phases: 'p5' is listed twice; remove"),
        (
            {"evaluation.phases": "p5"},
            r"evaluation\.phases: .* Received: 'p5'\. Put it in brackets",
        ),
        (
            {"evaluation.phases": ["p3", "p4", "p5"]},
            r"phases of one image_size\. Received: p3 \(64\), p4 \(80\), p5 \(80\)\. Remove the",
        ),
        ({"heads": {"prior": {"column": "a", "classes": ["b", "c"]}}}, r"heads\.prior: the name"),
        (
            {"heads.age_calibrated": {"column": "a", "classes": ["b", "c"]}},
            r"heads\.age_calibrated: the name is reserved",
        ),
        (
            {"heads.age_probability": {"column": "a", "classes": ["b", "c"]}},
            r"heads\.age_probability: the name is reserved",
        ),
        (
            {"heads.age_top_2": {"column": "a", "classes": ["b", "c"]}},
            r"heads\.age_top_2: the name is reserved",
        ),
        (
            {"heads." + "x" * 101: {"column": "a", "classes": ["b", "c"]}},
            r"expected at most 100 ch",
        ),
        ({"data.image_sizes": [64, 80, 64]}, r"data\.image_sizes: 64 is listed twice; remove one"),
        ({"report.colour": None}, r"Received: no value\. .* text that begins with # in quotes"),
        ({"heads.age.classes": ["a", "a"]}, r"heads\.age\.classes: 'a' is listed twice"),
        ({"heads.age.classes": "old"}, r"age\.classes: expected a list\. .*'old'\. Put it in bra"),
        (
            {"heads.age.classes": ["old"]},
            r"age\.classes: expected at least 2 entries\. .*\['old'\]",
        ),
        (
            {"heads.age.aliases": ["a"]},
            r"age\.aliases: expected keys and values\. Received: \['a'\]",
        ),
        (
            {"heads.Age": {"column": "a", "classes": ["b", "c"]}},
            r"heads\.Age: expected text that matches .*'Age'",
        ),
        (
            {"card.licence": 2012},
            r"card\.licence: expected text\. Received: 2012\. Put it in quotes",
        ),
        ({"evaluation.flips": "no"}, r"flips: expected true or false\. Received: 'no'\. Change"),
        ({"model.dropout": True}, r"dropout: expected a number\. Received: true"),
        ({"phases.p1.learning_rate": math.inf}, r"rate: expected a finite number\. Received: inf"),
        ({"model.normalization.mean": [math.nan, 1.0, 1.0]}, r"mean\.0: expected a finite number"),
        ({"heads.age.bins": [0, 15, 25, 35, 45, math.inf]}, r"bins\.5: expected a finite number"),
        (
            {"phases.p1.learning_rate": "1e-3"},
            r"expected a number\. Received: '1e-3'\. Write it without quotes",
        ),
        ({"evaluation.flips": "false"}, r"flips: .* 'false'\. Write it without quotes"),
        ({"phases.p1.epochs": 1e3}, r"epochs: expected an integer\. Received: 1000\.0\. Change"),
        ({"data.image_sizes": 64}, r"sizes: expected a list\. Received: 64\. Put it in brackets"),
        ({"model.blocks": [2, 2]}, r"blocks: expected at least 4 entries\. Received: \[2, 2\]"),
        ({"model.normalization.mean": []}, r"mean: expected at least 3 entries\. Received: \[\]"),
        ({"heads.age.missing": ["NA", "NA"]}, r"heads\.age\.missing: 'NA' is listed twice"),
        ({"heads.age.missing": [""]}, r"heads\.age\.missing\.0: '' is empty or has blanks"),
        ({"heads.age.missing": ["a\u200b"]}, r"heads\.age\.missing\.0: 'a\\u200b' is empty or has"),
        ({"heads.age.missing": ["55+"]}, r"heads\.age: missing: '55\+' is also a class; remove"),
        (
            {"heads.age.missing": ["old"], "heads.age.aliases": {"old": "55+"}},
            r"heads\.age: missing: 'old' is also an alias; remove one",
        ),
        ({"heads.age.aliases": {"55+": "35-45"}}, r"heads\.age: aliases: '55\+' is also a class"),
        (
            {"heads.age.aliases": {"old": "56+"}},
            r"heads\.age: aliases: 'old' stands for '56\+', .* Did you mean '55\+'\? Expected one",
        ),
        ({"heads.age.bins": [0, 15, 25]}, r"heads\.age: bins: expected 6 edges for 5 classes"),
        ({"heads.age.bins": [0, 25, 15]}, r"heads\.age\.bins: expected increasing numbers"),
        ({"heads.age.column": "gender"}, r"heads\.age\.column: column 'gender' is already used"),
        ({"heads": {"image": {"column": "a", "classes": ["b", "c"]}}}, r"heads\.image: the name"),
        ({"heads": {"test_a": {"column": "a", "classes": ["b", "c"]}}}, r"heads\.test_a: the name"),
        ({"heads": {"ensemble": {"column": "a", "classes": ["b", "c"]}}}, r"ensemble: the name is"),
        ({"split.group_by.pattern": "a{99999999999}"}, r"pattern: not a regular expression"),
        ({"heads.age.classes": ["a", " b"]}, r"heads\.age\.classes\.1: ' b' is empty or has"),
        ({"data.keep_columns": ["age"]}, r"data\.keep_columns: the name 'age' is already"),
        ({"data.limits.image_megapixels": 500}, r"data\.limits\.image_megapixels: expected .* 89"),
        (
            {"registry.serving.max_image_megapixels": 90},
            r"serving\.max_image_megapixels: expected .* 89\. Received: 90\. Change the value",
        ),
        ({"split.stratify_by": ["shoes"]}, r"split\.stratify_by: expected one of gender.* shoes"),
        ({"split.method": "grouped"}, r"split\.group_by\.column: .* 'filename'; add it to data"),
        ({"split.group_by.pattern": "("}, r"split\.group_by\.pattern: not a regular expression"),
        ({"split.test_share": 0.9}, r"split: validation_share plus test_share must be"),
        ({"registry.model_name": "shop/colours"}, r"registry\.model_name: MLflow .* Received"),
        ({"registry.model_name": "shop: colours"}, r"registry\.model_name: .*without / : \?"),
        ({"registry.model_name": "what?"}, r"registry\.model_name: .* Rename the model"),
        ({"registry.model_name": " "}, r"registry\.model_name: .* Received: ' '"),
        ({"registry.alias": "latest"}, r"registry\.alias: .* neither latest nor v .*'latest'"),
        ({"registry.alias": "v1"}, r"registry\.alias: .* Received: 'v1'"),
        (
            {"registry.gate.when_rows_differ": "no"},
            r"gate\.when_rows_differ: expected 'promote' or",
        ),
        (
            {
                "sweep.search": {
                    "seed": {"kind": "float", "low": math.nan, "high": 1.0, "scale": "log"}
                }
            },
            r"sweep\.search\.seed\.low: expected a finite number",
        ),
        ({"data.source": "~/photos"}, r"data\.source: expected a path .*'~/photos'; write out ~"),
        ({"data.source": "s3://b/photos"}, r"data\.source: .*'s3://b/photos'.* dvc import-url"),
        ({"data.source": "data\0sample"}, r"data\.source: expected text without null characters"),
        ({"report.colour": "blue"}, r"report\.colour: .*'blue'"),
        (
            {"evaluation.bootstrap_samples": 39},
            r"confidence 0\.95 needs 40 samples .*: 39",
        ),
        ({"evaluation.confidence": 0.9999}, r"needs 20000 samples .* or lower confidence"),
        ({"sweep.name": "optuna.db"}, r"sweep\.name: .* that of the database.*; rename the sweep"),
        ({"sweep.name": "first "}, r"sweep\.name: .* at the end\. Received: 'first '"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line(
    params_file: Path, changes: dict[str, Any], message: str
) -> None:
    change_params(params_file, changes)
    with pytest.raises(ParamsError, match=message) as raised:
        read_params(params_file)
    assert "\n" not in str(raised.value)


def test_rows_are_grouped_by_a_kept_column_or_by_the_path_of_the_image(params: Params) -> None:
    by_person = {"split.method": "grouped", "split.group_by.column": "person"}
    assert params.change(by_person | {"data.image_column": "person"})
    composed = by_person | {"data.image_column": "person", "data.image_path": "{person}/{id}.jpg"}
    with pytest.raises(ParamsError, match=r"no column 'person'; add it to data\.keep_columns"):
        params.change(composed)
    assert params.change(composed | {"data.keep_columns": ["person"]})
    assert params.change(composed | {"split.group_by.column": "image"})


@pytest.mark.parametrize(
    ("section", "read", "quoted"),
    [
        ("column: a, classes: [01, 02]", "01 as a number", "'01', '02'"),
        ("column: a, classes: [x, true, 1.0]", "true as a truth value", "'true', '1.0'"),
        ("column: a, classes: [x, null]", "null as no value", "'null'"),
        ("column: a, classes: [x, 2012-01-01]", "2012-01-01 as a date", "'2012-01-01'"),
        ("column: 01, classes: [x, y]", "01 as a number", "'01'"),
        ("column: a, classes: [x, y], missing: [-1]", "-1 as a number", "'-1'"),
        ("column: a, classes: [x, y], aliases: {0: x, 1: y}", "0 as a number", "'0', '1'"),
        ("column: a, classes: [x, y], missing: [?]", "? as keys and values", "'?'"),
        ("column: a, classes: [x, Type: A]", "Type: A as keys and values", "'Type: A'"),
    ],
)
def test_text_without_quotes_is_reported_as_written(
    params_file: Path, section: str, read: str, quoted: str
) -> None:
    content = params_file.read_text()
    params_file.write_text(content.replace("heads: ", f"heads:\n  x: {{{section}}} ", 1))
    with pytest.raises(ParamsError) as raised:
        read_params(params_file)
    line = f"heads.x: YAML reads {read}. Expected text. Use quotes: {quoted}."
    assert str(raised.value) == f"{params_file}: {line}"


@pytest.mark.parametrize(
    ("key", "old", "new", "read"),
    [
        ("data.source", "data/sample", "007", "007 as a number"),
        ("data.annotations", "hvc_annotations.csv", "2012-01-01", "2012-01-01 as a date"),
        ("registry.model_name", "person-attributes", "1e3", "1e3 as a number"),
    ],
)
def test_names_without_quotes_are_reported_as_written(
    params_file: Path, key: str, old: str, new: str, read: str
) -> None:
    name = key.rpartition(".")[2]
    content = params_file.read_text()
    params_file.write_text(content.replace(f"{name}: {old}", f"{name}: {new}", 1))
    with pytest.raises(ParamsError) as raised:
        read_params(params_file)
    line = f"{key}: YAML reads {read}. Expected text. Use quotes: '{new}'."
    assert str(raised.value) == f"{params_file}: {line}"


@pytest.mark.parametrize("key", ["data.keep_columns", "heads.age.missing", "split.stratify_by"])
def test_a_list_without_entries_is_to_have_brackets(params_file: Path, key: str) -> None:
    change_params(params_file, {key: None})
    with pytest.raises(ParamsError, match=rf"{key}: .* Received: no value\. Write \[\] for none"):
        read_params(params_file)


def test_aliases_are_spellings_and_their_classes(params_file: Path) -> None:
    change_params(params_file, {"heads.gender.aliases": {"male": ["m", "M"]}})
    with pytest.raises(ParamsError, match=r"aliases\.male: .* Write each spelling before its"):
        read_params(params_file)


def test_names_of_heads_that_are_not_text_are_to_be_renamed(params_file: Path) -> None:
    """In quotes they would be refused, too."""
    change_params(params_file, {"heads": {1: {"column": "a", "classes": ["b", "c"]}}})
    with pytest.raises(ParamsError, match=r"heads\.1: expected text\. .* Rename it: lower-case"):
        read_params(params_file)


def test_classes_with_numbers_are_to_be_a_list(params_file: Path) -> None:
    change_params(params_file, {"heads.age.classes": {0: "a", 1: "b"}})
    with pytest.raises(ParamsError, match=r"heads\.age\.classes: expected a list"):
        read_params(params_file)


def test_yes_and_no_are_text(params_file: Path) -> None:
    content = params_file.read_text()
    params_file.write_text(content.replace("[female, male]", "[yes, no]"))
    assert read_params(params_file).heads["gender"].classes == ("yes", "no")


def test_a_phase_with_a_reserved_name_is_refused(params_file: Path) -> None:
    phases = read_yaml(SHIPPED)["phases"]
    change_params(params_file, {"phases": {"initial": phases["p1"], **phases}})
    with pytest.raises(ParamsError, match=r"phases\.initial: the name is reserved. Rename"):
        read_params(params_file)


@pytest.mark.parametrize(
    "name",
    ["age_dense", "age_balanced", "age_calibrated", "age_probability", "age_top_2"],
)
def test_a_head_cannot_have_the_name_of_a_layer_metric_or_column_of_another(
    params: Params, name: str
) -> None:
    content = params.model_dump(mode="json")
    content["heads"][name] = {"column": "other", "classes": ["a", "b"]}
    with pytest.raises(ParamsError, match=rf"heads\.{name}: the name is reserved. Rename the head"):
        check_params(content, "params.yaml")
    content["heads"]["years"] = content["heads"].pop("age")
    check_params(content, "params.yaml")


def test_a_key_that_is_a_number_is_unknown(params: Params) -> None:
    content = params.model_dump(mode="json") | {5: "x"}
    with pytest.raises(ParamsError, match=r"^params\.yaml: 5: unknown key. Expected one of seed"):
        check_params(content, "params.yaml")


@pytest.mark.parametrize(
    ("content", "received"),
    [("", "an empty file"), ("# seed: 42\n", "an empty file"), ("- seed\n", "list")],
)
def test_a_file_without_keys_is_reported_in_one_line(
    params_file: Path, content: str, received: str
) -> None:
    params_file.write_text(content)
    with pytest.raises(ParamsError, match=f"Received: {received}. Copy a file from recipes/ there"):
        read_params(params_file)


def test_a_missing_or_malformed_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no such file"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("seed: [42\nsample: 1\n")
    with pytest.raises(ParamsError, match=r"params\.yaml:\d+: not valid YAML"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("heads:\n  mood: {classes: [=, b]}\n")
    with pytest.raises(ParamsError, match=r"params\.yaml:2: not valid YAML: .* in quotes\.$"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text('data: {source: "D:\\shop"}')
    with pytest.raises(ParamsError, match=r"unknown escape character .* in single quotes\.$"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("seed: " + "[" * 3000)
    with pytest.raises(ParamsError, match=r"not valid YAML: too deeply nested\."):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"seed: 42\nname: caf\xe9\n")
    with pytest.raises(
        ParamsError, match=r"params\.yaml:2: not UTF-8 text\. Save the file as UTF-8"
    ):
        read_params(tmp_path / "params.yaml")


def test_params_are_immutable(params_file: Path) -> None:
    params = read_params(params_file)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1


@pytest.mark.parametrize(
    ("section", "old", "new"),
    [
        ("runtime", "backup_minutes", "checkpoint_minutes"),
        ("sweep", "figure", "metric"),
        ("evaluation", "phase", "phases"),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(
    params_file: Path, section: str, old: str, new: str
) -> None:
    content = read_yaml(params_file)
    content[section][old] = content[section].pop(new)
    params_file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    message = rf"{section}\.{old}: renamed .* Rename it to {new}\."
    with pytest.raises(ParamsError, match=message) as raised:
        read_params(params_file)
    assert "\n" not in str(raised.value), "the new key is not reported as missing as well"


def test_the_chain_has_every_phase_that_an_evaluated_one_starts_from(params: Params) -> None:
    assert params.chain() == ["p1", "p2", "p3", "p4", "p5"]
    changes = {"phases.p5.starts_from": "p1", "evaluation.phases": ["p5", "p4"]}
    assert params.change(changes).chain() == ["p1", "p2", "p3", "p4", "p5"]
    assert params.change(changes | {"evaluation.phases": ["p5"]}).chain() == ["p1", "p5"]


def test_a_phase_must_be_evaluated(params: Params) -> None:
    with pytest.raises(ParamsError, match=r"evaluation\.phases: expected at least 1 entries"):
        params.change({"evaluation.phases": []})


def test_faults_name_the_file_that_was_read(
    params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_params(params_file, {"seed": "x"})
    monkeypatch.chdir(params_file.parent.parent)
    with pytest.raises(ParamsError, match=rf"^{params_file.parent.name}/params\.yaml: seed: "):
        read_params(params_file)
