"""The published answers of public models, through every protocol."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from protocol_senders import FILE_TYPE, JSON_TYPE, SENDERS, STREAM_TYPE, arrow_read, native
from servers import Server

RTOL = 1e-5


@dataclass(frozen=True)
class Golden:
    """Rows of a file and what a model says of the first of them."""

    model: str
    column: str
    rows: str
    expected: dict[str, list[float]]
    rtol: float = RTOL
    atol: float = 0.0


MODELS = {
    "ccfraud-keras": "ccfraud/ccfraud_keras.onnx",
    "ccfraud-xgboost": "ccfraud/xgboost_ccfraud.onnx",
    "ccfraud-linear": "ccfraud/modelA.onnx",
    "houseprice-rf": "houseprice/rf_model.onnx",
    "houseprice-gbr": "houseprice/gbr_model.onnx",
    "houseprice-xgb": "houseprice/xgb_model.onnx",
    "aloha": "aloha/aloha_rebuilt.onnx",
}
ALOHA = {
    "main": [0.997564],
    "corebot": [0.98291475],
    "qakbot": [0.016155045],
    "cryptolocker": [0.012099553],
    "locky": [0.011029261],
    "matsnu": [0.010341614],
    "pykspa": [0.008038961],
    "ramdo": [0.0062362333],
    "banjori": [0.0015195842],
    "ramnit": [0.0009985747],
    "kraken": [0.00031977],
    "dircrypt": [4.759e-05],
    "gozi": [2.029e-05],
    "simda": [1.79e-26],
    "suppobox": [1.39e-27],
}
SMOKE, HIGH = "ccfraud/smoke_test.df.json", "ccfraud/dev_high_fraud.json"
NORMAL, LARGE = "houseprice/normal-inputs.df.json", "houseprice/biginputs.df.json"
FIVE = [718013.7, 615094.6, 448627.8, 758714.3, 513264.66]
CASES = [
    Golden("ccfraud-keras", "dense_input", SMOKE, {"dense_1": [0.0014974177]}),
    Golden("ccfraud-keras", "dense_input", HIGH, {"dense_1": [0.981199]}),
    Golden("ccfraud-keras", "dense_input", "ccfraud/cc_data_10k.arrow", {"dense_1": [0.99300325] * 4 + [0.0010916889]}),
    Golden("ccfraud-xgboost", "feature_input", SMOKE, {"variable": [0.0005066991]}),
    Golden("ccfraud-xgboost", "feature_input", HIGH, {"variable": [0.5462361]}),
    Golden("ccfraud-linear", "float_input", SMOKE, {"variable": [1.0]}),
    Golden("houseprice-rf", "float_input", NORMAL, {"variable": [718013.7]}),
    Golden("houseprice-gbr", "float_input", NORMAL, {"variable": [704901.9]}),
    Golden("houseprice-xgb", "input", NORMAL, {"variable": [659806.0]}),
    Golden("houseprice-rf", "float_input", LARGE, {"variable": [1514079.4]}),
    Golden("houseprice-gbr", "float_input", LARGE, {"variable": [1981238.0]}),
    Golden("houseprice-xgb", "input", LARGE, {"variable": [2176827.0]}),
    Golden("houseprice-rf", "float_input", "houseprice/xtest-1k.arrow", {"variable": FIVE}),
    # The file is a conversion, the same within 7e-7; and small numbers are published with four digits.
    Golden("aloha", "text_input", "aloha/data_1.df.json", ALOHA, rtol=1e-5, atol=7e-7),
]


@pytest.fixture(scope="session")
def golden(server: Server, fixtures_path: Path) -> Iterator[Server]:
    """Serve the public models on the shared server, where the fixtures are."""
    with server.client() as client:
        for name, file in MODELS.items():
            model = client.upload_model(name, fixtures_path / file)
            if name.startswith(("ccfraud", "houseprice")):
                model = model.configure(tensor_fields=["tensor"])
            client.build_pipeline(name).add_model_step(model).deploy()
    yield server
    with server.client() as client:
        for name in MODELS:
            client.get_pipeline(name).undeploy()


def read_rows(path: Path) -> np.ndarray:
    """Read the one column that holds a model's input."""
    if path.suffix == ".arrow":
        table = pa.ipc.open_file(str(path)).read_all()
        return np.array(table.column(0).to_pylist(), np.float32)
    records = json.loads(path.read_text())
    (name,) = {"tensor", "dense_input", "text_input"} & set(records[0])
    return np.array([record[name] for record in records], np.float32)


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.model}-{Path(case.rows).stem}")
def test_published_answers(golden: Server, fixtures_path: Path, case: Golden, sender: str) -> None:
    """The first rows of a file, within the published tolerance."""
    count = max(len(values) for values in case.expected.values())
    rows = read_rows(fixtures_path / case.rows)[:count]
    outputs = SENDERS[sender](golden, case.model, {case.column: rows})
    for name, expected in case.expected.items():
        np.testing.assert_allclose(outputs[name].ravel(), expected, rtol=case.rtol, atol=case.atol, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
def test_counts_of_a_thousand_frauds(golden: Server, fixtures_path: Path, sender: str) -> None:
    """816 are low, 179 between, 6 high."""
    rows = read_rows(fixtures_path / "ccfraud/cc_data_1k.df.json")
    scores = SENDERS[sender](golden, "ccfraud-keras", {"dense_input": rows})["dense_1"].ravel()
    low, high = int((scores < 0.001).sum()), int((scores > 0.9).sum())
    assert (low, len(scores) - low - high, high) == (816, 179, 6)


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize(("model", "count"), [("houseprice-rf", 57), ("houseprice-gbr", 68), ("houseprice-xgb", 64)])
def test_counts_of_a_thousand_houses(golden: Server, fixtures_path: Path, sender: str, model: str, count: int) -> None:
    """So many are over a million."""
    rows = read_rows(fixtures_path / "houseprice/xtest-1k.df.json")
    column = "input" if model == "houseprice-xgb" else "float_input"
    prices = SENDERS[sender](golden, model, {column: rows})["variable"].ravel()
    assert (len(prices), int((prices > 1_000_000).sum())) == (1_000, count)


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
def test_counts_of_a_thousand_domains(golden: Server, fixtures_path: Path, sender: str) -> None:
    """977 have main over one half, and no number of any head is lost."""
    rows = read_rows(fixtures_path / "aloha/data_1k.df.json")
    outputs = SENDERS[sender](golden, "aloha", {"text_input": rows})
    assert int((outputs["main"] > 0.5).sum()) == 977
    assert set(outputs) == set(ALOHA)
    assert not any(np.isnan(values).any() for values in outputs.values())


@pytest.mark.slow
@pytest.mark.parametrize("sender", SENDERS)
def test_counts_of_ten_thousand_frauds(golden: Server, fixtures_path: Path, sender: str) -> None:
    """Exactly 20 of 10,254 rows in one request are over 0.75."""
    rows = read_rows(fixtures_path / "ccfraud/cc_data_10k.arrow")
    scores = SENDERS[sender](golden, "ccfraud-keras", {"dense_input": rows})["dense_1"].ravel()
    assert (len(scores), int((scores > 0.75).sum())) == (10_254, 20)


@pytest.mark.parametrize(
    "file",
    ["ccfraud/smoke_test.df.json", "ccfraud/dev_smoke_test.pandas.json", "ccfraud/dev_high_fraud.json"],
)
def test_files_are_taken_as_they_are(golden: Server, fixtures_path: Path, file: str) -> None:
    """Whatever the one column is called."""
    body = (fixtures_path / file).read_bytes()
    (row,) = json.loads(native(golden, "ccfraud-keras", body, JSON_TYPE, JSON_TYPE))
    expected = 0.981199 if "high" in file else 0.0014974177
    assert row["out"]["dense_1"] == pytest.approx([expected], rel=RTOL)


@pytest.mark.slow
def test_a_whole_arrow_file_is_taken_as_it_is(golden: Server, fixtures_path: Path) -> None:
    """The reply has the published schema."""
    body = (fixtures_path / "ccfraud/cc_data_10k.arrow").read_bytes()
    table = arrow_read(native(golden, "ccfraud-keras", body, FILE_TYPE, STREAM_TYPE), STREAM_TYPE)
    assert table.num_rows == 10_254
    assert table.schema.field("time").type == pa.timestamp("ms")
    assert table.schema.field("anomaly.count").type == pa.uint32()
    assert pa.types.is_list(table.schema.field("out.dense_1").type)
    assert table.schema.field("out.dense_1").type.value_type == pa.float32()
    assert int((np.array(table["out.dense_1"].to_pylist()) > 0.75).sum()) == 20


EXPECTED_REPLIES = [
    ("ccfraud-xgboost", "ccfraud/cc_data_1k.df.json", "ccfraud/expected_edge_xgboost_10k.df.json"),
    ("aloha", "aloha/data_1k.df.json", "aloha/expected_edge_curl_response_1k.df.json"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "given", "expected"), EXPECTED_REPLIES, ids=["ccfraud", "aloha"])
def test_whole_replies_have_the_shape_of_a_known_server(
    golden: Server, fixtures_path: Path, model: str, given: str, expected: str
) -> None:
    """Same members in each row, same kinds, same numbers."""
    body = (fixtures_path / given).read_bytes()
    replies = json.loads(native(golden, model, body, JSON_TYPE, JSON_TYPE))
    known = json.loads((fixtures_path / expected).read_text())
    assert len(replies) == len(known)
    for reply, pattern in zip(replies, known, strict=True):
        assert kinds(reply) == kinds(pattern)
        assert json.loads(reply["metadata"]["last_model"]).keys() == {"model_name", "model_sha"}
        assert len(reply["metadata"]["elapsed"]) == 2
        for name, values in pattern["in"].items():
            np.testing.assert_allclose(reply["in"][name], values, rtol=RTOL)
        for name, values in pattern["out"].items():
            np.testing.assert_allclose(reply["out"][name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def kinds(value: object) -> object:
    """Replace every number and text by its kind, and a list by the kinds that occur in it."""
    if isinstance(value, dict):
        return {name: kinds(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [sorted({str(kinds(inner)) for inner in value})]
    return "number" if isinstance(value, int | float) else type(value).__name__
