"""The trained files that the demo ships, and the script that makes them."""

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from bettong._demo.generator import TransactionGenerator
from bettong._demo.transactions import COLUMNS, FLAG_THRESHOLD, Transactions

ROOT = Path(__file__).parents[3]
PACKAGED = Path(str(resources.files("bettong._demo")))
FILES = ("features.onnx", "model.onnx")


def shape_of(value: onnx.ValueInfoProto) -> list[str | int]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


def run_chain(folder: Path, transactions: Transactions) -> np.ndarray:
    features, model = (onnxruntime.InferenceSession(folder / name) for name in FILES)
    columns = {name: values.reshape(-1, 1) for name, values in transactions.columns.items()}
    (vector,) = features.run(["features"], columns)
    (probability,) = model.run(["fraud_probability"], {"features": vector})
    return np.asarray(probability)


@pytest.mark.parametrize("name", FILES)
def test_files_are_small_and_for_every_runtime(name: str) -> None:
    """Opsets and IR version are old enough for all that is in use."""
    model = onnx.load_model(PACKAGED / name)
    assert model.ir_version <= 8
    newest = {"": 17, "ai.onnx.ml": 3}
    assert all(entry.version <= newest[entry.domain] for entry in model.opset_import)
    assert (PACKAGED / name).stat().st_size < 150_000


def test_the_feature_step_takes_the_documented_columns() -> None:
    """Inputs are the columns of the generator, by name and in order, one number a row."""
    graph = onnx.load_model(PACKAGED / "features.onnx").graph
    assert [value.name for value in graph.input] == [column.name for column in COLUMNS]
    assert all(shape_of(value) == ["N", 1] for value in graph.input)
    assert [(value.name, shape_of(value)) for value in graph.output] == [("features", ["N", 14])]


def test_the_model_step_gives_one_probability_a_row() -> None:
    """It takes what the feature step gives."""
    graph = onnx.load_model(PACKAGED / "model.onnx").graph
    assert [(value.name, shape_of(value)) for value in graph.input] == [("features", ["N", 14])]
    assert [(value.name, shape_of(value)) for value in graph.output] == [("fraud_probability", ["N", 1])]


def test_features_are_standardised() -> None:
    """On transactions that were not trained on, every feature has about mean 0 and deviation 1."""
    session = onnxruntime.InferenceSession(PACKAGED / "features.onnx")
    columns = TransactionGenerator(77).take(400_000).columns
    (features,) = session.run(None, {name: values.reshape(-1, 1) for name, values in columns.items()})
    assert np.abs(np.mean(features, axis=0)) == pytest.approx(0, abs=0.1)
    assert np.std(features, axis=0) == pytest.approx(1, abs=0.1)


def test_the_chain_finds_fraud() -> None:
    """On transactions that were not trained on, most fraud is flagged and most flags are right."""
    transactions = TransactionGenerator(78).take(50_000)
    flagged = run_chain(PACKAGED, transactions).ravel() > FLAG_THRESHOLD
    caught = (flagged & transactions.is_fraud).sum()
    assert caught / transactions.is_fraud.sum() > 0.6
    assert caught / flagged.sum() > 0.8


@pytest.mark.slow
def test_training_again_gives_the_same_models(tmp_path: Path) -> None:
    """The script makes files of the same form, with the same answers on a thousand rows."""
    script = ROOT / "examples/fraud/train.py"
    done = subprocess.run(
        [sys.executable, script, "--output", tmp_path], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ROC AUC" in done.stdout
    transactions = TransactionGenerator(79).take(1_000)
    assert run_chain(tmp_path, transactions) == pytest.approx(run_chain(PACKAGED, transactions), abs=1e-5)
    for name in FILES:
        new, committed = (onnx.load_model(folder / name).graph for folder in (tmp_path, PACKAGED))
        assert [node.op_type for node in new.node] == [node.op_type for node in committed.node]
        assert (list(new.input), list(new.output)) == (list(committed.input), list(committed.output))
