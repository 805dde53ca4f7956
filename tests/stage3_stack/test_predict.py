"""The submission again, without training: the same, or as an edited decision.json says."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from cxr import runs
from cxr.errors import UsageError
from cxr.imaging import rle
from cxr.paths import ROOT
from stage3_stack import predict, train
from tests.stage3_stack.toy_world import (
    QUICK,
    World,
    command,
    read_stacked,
    read_submission,
)


def test_predict_gives_the_same_submission_and_follows_an_edited_decision(finished: World, monkeypatch, capsys):
    before, probs = finished.paths.submission_csv.read_text(), read_stacked(finished)
    finished.paths.submission_csv.unlink()
    command(finished, predict.main, monkeypatch)
    assert finished.paths.submission_csv.read_text() == before
    pd.testing.assert_frame_equal(read_stacked(finished), probs)
    path = finished.paths.stage3_folder / "decision.json"
    record = json.loads(path.read_text())
    record["test"]["probability_threshold"] = 1.0
    path.write_text(json.dumps(record))
    command(finished, predict.main, monkeypatch)
    assert (read_submission(finished)["EncodedPixels"] == rle.EMPTY).all()
    assert "no readable image, so left empty: ID_gone" in capsys.readouterr().out
    del record["test"]["top_score_threshold"]
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match="'test' needs the numbers"):
        command(finished, predict.main, monkeypatch)


def test_predict_waits_for_no_one_and_writes_nothing_beside_a_training(finished: World, monkeypatch):
    with runs.lock_folder(finished.paths.stage3_folder):
        before = finished.paths.submission_csv.read_bytes()
        code = "import sys; from stage3_stack import predict; from cxr.errors import run_main; run_main(predict.main)"
        environment = os.environ | {"RECIPE": str(finished.recipe_file), "DATA": str(finished.paths.data_folder)}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip
    assert done.returncode == 2
    assert "another process" in done.stderr
    assert finished.paths.submission_csv.read_bytes() == before


@pytest.mark.parametrize("name", ["stage3/heads.npz", "stage3/stacked.parquet"])
def test_predict_names_a_file_that_is_cut(finished: World, monkeypatch, name):
    path = finished.paths.run_folder / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match=rf"{path.name} is missing, cut or changed.*bash run_all\.sh"):
        command(finished, predict.main, monkeypatch)


def test_an_edited_decision_and_what_predict_makes_of_it_stay(finished: World, monkeypatch, capsys):
    path = finished.paths.stage3_folder / "decision.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"test": record["test"] | {"probability_threshold": 1.0}}))
    command(finished, predict.main, monkeypatch)
    submission = finished.paths.submission_csv.read_bytes()
    capsys.readouterr()
    command(finished, train.main, monkeypatch, *QUICK)
    assert capsys.readouterr().out == "stage 3: up to date\n"
    assert finished.paths.submission_csv.read_bytes() == submission
    finished.paths.submission_csv.unlink()
    command(finished, train.main, monkeypatch, *QUICK)
    assert finished.paths.submission_csv.is_file()
