"""Train the demo's two models and write them as ONNX files: `python examples/fraud/train.py`.

`features.onnx` turns the columns of a transaction into a standardised vector, `model.onnx` turns that into the probability
of fraud. The classifier learns from what `features.onnx` gives when it is run, so it sees the same numbers here as when it
serves. Everything is seeded: the same versions of the libraries give the same files.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import average_precision_score, precision_score, recall_score, roc_auc_score

from bettong import _demo
from bettong._demo.calendar import USES_PER_DAY
from bettong._demo.generator import TransactionGenerator
from bettong._demo.transactions import COLUMNS, FLAG_THRESHOLD, Transactions

TRAIN_SEED = 20_001
HELD_OUT_SEED = 20_002
DRAWN_ROWS = 7 * USES_PER_DAY
"""A week, so that every day is seen."""
KEEP_EVERY = 15
LARGEST_DIFFERENCE = 1e-6
"""Between the classifier and its ONNX form."""

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
"""Old enough for every runtime that is in use."""

Floats = NDArray[np.float32]

# One row a feature. Heavy tails become logarithms, the hour becomes a point on a circle, so that 23:59 is next to 0:00.
FEATURES = """
    log_amount       = Log (amount_eur)
    log_usual        = Log (amount_mean_eur)
    amount_to_usual  = Sub (log_amount, log_usual)
    angle            = Mul (hour, radians_per_hour)
    hour_sine        = Sin (angle)
    hour_cosine      = Cos (angle)
    saturday         = Constant <value_floats = [5.0]> ()
    from_saturday    = GreaterOrEqual (weekday, saturday)
    weekend          = Cast <to = 1> (from_saturday)
    log_since_last   = Log (seconds_since_last)
    near             = Add (distance_home_km, one)
    log_home         = Log (near)
    moved            = Add (distance_last_km, one)
    log_moved        = Log (moved)
    log_speed        = Sub (log_moved, log_since_last)
    age              = Add (card_age_days, one)
    log_age          = Log (age)
    uses             = Add (uses_24h, one)
    log_uses         = Log (uses)
"""
FEATURE_NAMES = (
    "log_amount",
    "amount_to_usual",
    "hour_sine",
    "hour_cosine",
    "weekend",
    "log_since_last",
    "log_home",
    "log_moved",
    "log_speed",
    "merchant_risk",
    "card_present",
    "foreign",
    "log_age",
    "log_uses",
)


def main() -> int:
    """Train, check, print how good it is, write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(_demo.__file__).parent
    parser.add_argument("--output", type=Path, default=default, help="folder for the files (default: the demo's own)")
    output: Path = parser.parse_args().output
    train, held_out = a_week_of(TRAIN_SEED), a_week_of(HELD_OUT_SEED)
    features = feature_step(train)
    classifier = fitted(run(features, train.columns), train.is_fraud)
    model = model_step(classifier)
    check(classifier, features, model, held_out)
    report(probabilities(features, model, held_out), held_out.is_fraud)
    output.mkdir(parents=True, exist_ok=True)
    for name, step in (("features.onnx", features), ("model.onnx", model)):
        onnx.save_model(step, output / name)
        print(f"wrote {output / name}, {(output / name).stat().st_size:,} bytes")
    return 0


def a_week_of(seed: int) -> Transactions:
    """Draw a week of transactions and return a part of them."""
    drawn = TransactionGenerator(seed).take(DRAWN_ROWS)
    columns = {name: values[::KEEP_EVERY] for name, values in drawn.columns.items()}
    return Transactions(columns, drawn.card[::KEEP_EVERY], drawn.is_fraud[::KEEP_EVERY])


def feature_step(train: Transactions) -> onnx.ModelProto:
    """Build the feature step; its mean and deviation are those of *train*."""
    width = len(FEATURE_NAMES)
    unscaled = run(feature_graph(np.zeros(width, np.float32), np.ones(width, np.float32)), train.columns)
    return feature_graph(unscaled.mean(axis=0, dtype=np.float64), unscaled.std(axis=0, dtype=np.float64))


def feature_graph(mean: NDArray[np.floating], deviation: NDArray[np.floating]) -> onnx.ModelProto:
    """Build the graph of the feature step from its text."""
    inputs = ", ".join(f"float[N,1] {column.name}" for column in COLUMNS)
    model = onnx.parser.parse_model(f"""
        <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}], producer_name: "bettong-demo">
        card_transaction_features ({inputs}) => (float[N,{len(FEATURE_NAMES)}] features) {{
            {FEATURES}
            raw      = Concat <axis = 1> ({", ".join(FEATURE_NAMES)})
            centred  = Sub (raw, mean)
            features = Div (centred, deviation)
        }}""")
    constants = {
        "one": [1.0],
        "radians_per_hour": [np.pi / 12],
        # Six digits are enough, and make the file independent of the order in which a machine adds up.
        "mean": mean.round(6),
        "deviation": deviation.round(6),
    }
    tensors = [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()]
    model.graph.initializer.extend(tensors)
    onnx.checker.check_model(model, full_check=True)
    return model


def fitted(features: Floats, is_fraud: NDArray[np.bool_]) -> GradientBoostingClassifier:
    """Train the classifier. Large leaves keep near-ties between splits, which another machine might decide otherwise, rare."""
    classifier = GradientBoostingClassifier(n_estimators=60, max_depth=4, min_samples_leaf=50, random_state=0)
    return classifier.fit(features, is_fraud.astype(np.int64))


def model_step(classifier: GradientBoostingClassifier) -> onnx.ModelProto:
    """Convert the classifier, and leave of its outputs the probability of fraud."""
    example = np.zeros((1, len(FEATURE_NAMES)), np.float32)
    options = {id(classifier): {"zipmap": False}}
    opset = {"": OPSET, "ai.onnx.ml": ML_OPSET}
    model: onnx.ModelProto = to_onnx(classifier, example, name="fraud", options=options, target_opset=opset)
    graph = model.graph
    both = graph.output[1].name
    del graph.output[:]
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "fraud_class"))
    graph.node.append(helper.make_node("Gather", [both, "fraud_class"], ["fraud_probability"], axis=1))
    graph.output.append(helper.make_tensor_value_info("fraud_probability", onnx.TensorProto.FLOAT, ["N", 1]))
    graph.input[0].CopyFrom(
        helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["N", len(FEATURE_NAMES)])
    )
    for node in graph.node:
        node.input[:] = ["features" if name == "X" else name for name in node.input]
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, inputs: dict[str, Floats]) -> Floats:
    """Run a model; columns that are given flat become columns of a matrix."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {name: values.reshape(len(values), -1) for name, values in inputs.items()}
    (output,) = session.run(None, {given.name: feeds[given.name] for given in session.get_inputs()})
    return np.asarray(output, np.float32)


def probabilities(features: onnx.ModelProto, model: onnx.ModelProto, transactions: Transactions) -> Floats:
    """Run the chain."""
    return run(model, {"features": run(features, transactions.columns)}).ravel()


def check(
    classifier: GradientBoostingClassifier, features: onnx.ModelProto, model: onnx.ModelProto, held_out: Transactions
) -> None:
    """Refuse a conversion that changed the classifier."""
    original = classifier.predict_proba(run(features, held_out.columns))[:, 1]
    difference = float(np.abs(probabilities(features, model, held_out) - original).max())
    print(f"largest difference between classifier and ONNX: {difference:.1e}")
    if difference > LARGEST_DIFFERENCE:
        sys.exit(f"the ONNX model differs from the classifier by {difference:.1e}")


def report(probability: Floats, is_fraud: NDArray[np.bool_]) -> None:
    """Print how good the chain is on transactions that it has not seen."""
    flagged = probability > FLAG_THRESHOLD
    print(f"held out: {len(is_fraud):,} transactions, {is_fraud.mean():.2%} fraud")
    print(f"ROC AUC {roc_auc_score(is_fraud, probability):.4f}, ", end="")
    print(f"average precision {average_precision_score(is_fraud, probability):.4f}")
    print(f"flagged above {FLAG_THRESHOLD}: precision {precision_score(is_fraud, flagged):.3f}, ", end="")
    print(f"recall {recall_score(is_fraud, flagged):.3f}")


if __name__ == "__main__":
    sys.exit(main())
