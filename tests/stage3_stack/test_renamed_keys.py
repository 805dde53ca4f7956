"""Keys of earlier versions are refused, with the file and the new name in the message; no second spelling is kept."""

import json
from types import SimpleNamespace

import pytest
import yaml

from cxr.config import load_settings
from cxr.errors import UsageError
from pipeline.pictures import image_record
from pipeline.run_files import RunFiles
from stage3_stack.config import CONFIGS, RENAMED_DECISION_KEYS, Config, GridConfig, LightgbmConfig
from stage3_stack.postprocessing.decision_file import read_test_params
from stage3_stack.postprocessing.thresholds import PLAIN_PARAMS, PostprocessingParams
from tests.stage3_stack.toy_world import World

OLD_PARAMS = {"top": 0.5, "least_area": 0, "bottom": 0.5, "gate": 0.3, "label_gate": 0, "least_component": 0}
GRID = {"tops": [0.5], "least_areas": [0], "bottoms": [0.5], "gates": [0], "label_gates": [0], "least_components": [0]}


@pytest.mark.parametrize(("changes", "old", "new"), [
    *(({"grid": {old: values}}, f"grid.{old}", f"grid.{GridConfig.renamed_keys[old]}") for old, values in GRID.items()),
    ({"lightgbm": {"least_rows": 5}}, "lightgbm.least_rows", "lightgbm.min_rows_per_leaf"),
    ({"least_per_class": 5}, "least_per_class", "min_rows_per_class"),
])  # fmt: skip
def test_an_old_key_of_the_settings_is_refused_by_its_new_name(tmp_path, changes, old, new):
    values = yaml.safe_load((CONFIGS / "small.yaml").read_text())
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(UsageError) as caught:
        load_settings(tmp_path / "mine.yaml", Config)
    assert str(caught.value) == f"{tmp_path / 'mine.yaml'}: key '{old}' is now called '{new}'"


def test_every_new_name_is_a_key():
    for model in (Config, GridConfig, LightgbmConfig):
        assert set(model.renamed_keys.values()) <= model.model_fields.keys()
        assert not model.renamed_keys.keys() & model.model_fields.keys()
    assert {*RENAMED_DECISION_KEYS.values(), "reference_size"} == set(PostprocessingParams._fields)


def test_a_misspelt_key_is_still_answered_with_the_nearest(tmp_path):
    (tmp_path / "mine.yaml").write_text((CONFIGS / "small.yaml").read_text().replace("min_areas", "min_area"))
    with pytest.raises(UsageError, match=r"unknown key 'grid\.min_area'; did you mean 'min_areas'"):
        load_settings(tmp_path / "mine.yaml", Config)


@pytest.mark.parametrize("params", [OLD_PARAMS | {"reference_size": 1024}, PLAIN_PARAMS._asdict() | {"gate": 0.3}])
def test_an_old_decision_is_refused_by_its_new_names(tmp_path, params):
    path = tmp_path / "decision.json"
    path.write_text(json.dumps({"test": params}))
    with pytest.raises(UsageError) as caught:
        read_test_params(path)
    assert str(caught.value).startswith(f"{path} is of an earlier version: ")
    for key in params.keys() & RENAMED_DECISION_KEYS.keys():
        assert f"'{key}' is now called '{RENAMED_DECISION_KEYS[key]}'" in str(caught.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_pipeline_refuses_an_old_decision_too(finished: World, monkeypatch, split):
    path = finished.paths.stage3_folder / "decision.json"
    decision = OLD_PARAMS | {"reference_size": 1024}
    held_out = {"nested_by": "fold"} | dict.fromkeys("01", decision)
    path.write_text(json.dumps({"test": decision, "held_out": held_out}))
    monkeypatch.setattr(image_record, "read_stack_settings", lambda _recipe: SimpleNamespace(masks="mean"))
    image_id = "im000" if split == "train" else "ID_000"
    with pytest.raises(UsageError, match=r"decision\.json is of an earlier version: 'top' is now called"):
        image_record.gather_image_record(image_id, RunFiles(finished.recipe, finished.paths))
