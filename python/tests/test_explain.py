# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""mptc explain, diff and what-if: what they say of records made by hand, and of a real step."""

from __future__ import annotations

import argparse
import io
import json

import numpy as np
import onnx
import pytest
from rich.console import Console

import records
from mpt import cli_explain, explain, stages
from mpt.decisions import DecisionsError, parse

FACTORS = """
module attributes {mpt.graph_hash = "0123456789abcdef"} {
  func.func @step(%%x: tensor<64x32xf32> {mpt.kind = #mpt.kind<input>, mpt.name = "x"},
                  %%w: tensor<32x48xf32> {mpt.kind = #mpt.kind<parameter>, mpt.name = "layer.weight"})
      -> tensor<64x48xf32> {
    %%y = mpt.matmul %%x, %%w {mpt.name = "%s", role = #mpt.role<fprop>} : (tensor<64x32xf32>, tensor<32x48xf32>) -> tensor<64x48xf32>
    return %%y : tensor<64x48xf32>
  }
}
"""


def text(parts):
    """What a terminal of 200 columns would show, runs of blanks made one."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))
    return " ".join(out.getvalue().split())


def test_summary_has_shares_and_reasons():
    shown = text(explain.summary(records.record()))
    assert "policy threshold, 19 products, graph 00000000deadbeef" in shown
    assert "E4M3 x E4M3 53.8 % (7) 15.4 % (4) 23.1 % (6) 92.3 % (17)" in shown
    assert "is above its bound … encoder.layer.*.attention.self.query/dgrad (layer 0) 2 7.7 %" in shown
    assert "cls.predictions.decoder E4M3 x E4M3 BF16 x BF16 1.03" in shown


def test_numbers_in_formats_are_kept_in_grouped_reasons():
    reasons = [reason for reason, _ in explain.grouped_reasons(records.record())]
    assert reasons == ["f8E4M3FN x f8E4M3FN: be_median … is above its bound …"]


def test_a_product_is_explained_with_its_alternatives():
    shown = text(explain.details(records.record(), "layer.0.output.dense/dgrad"))
    assert "BF16 x BF16: f8E4M3FN x f8E4M3FN: be_median 1.00e-02 is above its bound 6.00e-03" in shown
    assert "runner-up E4M3 x E4M3, bound / error 0.60" in shown
    assert "E4M3 x E4M3 1.00e-02 3.00e-02 1.00e-03 30.0 1.67 refused, runner-up" in shown
    assert "bounds: BE median 6.00e-03, BE p99 2.40e-02" in shown and "noise" in shown and "persis-" not in shown


def test_predictions_are_shown_where_the_record_has_them():
    content = records.content()
    records.price(content)
    content["products"][4]["priced"] = {"m": 512, "n": 64, "k": 64, "batch": 1}
    priced = parse(content)
    shown = text(explain.details(priced, "layer.0.output.dense/dgrad"))
    assert "predicted 20.00 µs at 512 x 64 x 64, operands 0.02 MB" in shown and "1.67 20.00 23.00 refused, runner-up" in shown
    shown = text(explain.summary(priced))
    assert "predicted on h100: 0.500 ms, of it 0.120 ms casts; all in BF16 0.600 ms, 1.20 x" in shown
    assert "budget, optimal: at least 0.499 ms" in shown and "noise_ratio 2.50e-02 5.00e-02 50.0 % 0.05" in shown
    other = json.loads(json.dumps(content))
    other["predicted"]["total_us"] = 400
    other["target"] = "a100"
    shown = text(explain.comparison(priced, parse(other)))
    assert "target: h100 -> a100, so times are of different machines" in shown
    assert "predicted time, ms 0.500 0.400 -20.0 %" in shown and "moved by casts, MB 4.00 4.00 +0.0 %" in shown


def test_pins_are_shown_with_their_prices():
    content = records.pinned(records.content(), "layer.1")
    records.price(content)
    assert "pins: *layer.1*=bf16\n" in "\n".join([*explain.describe(parse(content)), ""])
    content["budget"]["pin_prices_us"] = [35.25]
    assert "pins: *layer.1*=bf16 (35.2 µs)" in explain.describe(parse(content))


def test_a_record_says_what_options_it_was_made_with():
    content = records.content()
    assert explain.options_of(parse(content)) == {"alignment": "16"}
    records.price(content)
    options = {"alignment": "16", "target": "h100", "loss-mse": "1e-06", "noise-ratio": "0.05", "persistent": "0.03"}
    assert explain.options_of(parse(content)) == options


@pytest.mark.parametrize("numbers, expected", [([], ""), ([3], "3"), ([2, 0, 1, 5], "0-2, 5"), ([1, 3, 4], "1, 3-4")])
def test_spans(numbers, expected):
    assert explain.spans(numbers) == expected


def test_equal_records_have_no_difference():
    record = records.record()
    assert explain.changes(record, record) == []
    assert "every product has the formats it had" in text(explain.comparison(record, record))


def test_a_pin_is_the_reason_of_a_change():
    a, b = records.record(), parse(records.pinned(records.content(), "layer.1"))
    found = explain.changes(a, b)
    assert len(found) == 6 and {change.text for change in found} == {"E4M3 x E4M3 -> BF16 x BF16"}
    assert found[0].why(a, b) == "pinned by '*layer.1*=bf16'"
    assert "no longer pinned by '*layer.1*=bf16'" in explain.changes(b, a)[0].why(b, a)
    shown = text(explain.comparison(a, b))
    assert "new pins: *layer.1*=bf16" in shown and "6 of 19 products changed" in shown
    assert "FLOPs in 8 bits, % 92.3 69.2 -25.0 %" in shown


def test_measurements_bounds_and_policies_are_reasons():
    old, new = records.content(), records.content()
    new["products"][1] = records.product("encoder.layer.0.attention.self.query/dgrad", "dgrad", 4e-3)
    new["products"][1]["bound"]["be_median"] = 7e-3
    new["policy"] = "budget"
    a, b = parse(old), parse(new)
    (change,) = explain.changes(a, b)
    why = change.why(a, b)
    assert "policy threshold -> budget" in why and "bound of be_median 6.00e-03 -> 7.00e-03" in why
    assert "be_median of E4M3 x E4M3 1.00e-02 -> 4.00e-03" in why


def test_errors_of_an_assignment_are_sums_over_the_chosen_formats():
    sums = explain.error_sums(records.record())
    assert sums["error / bound"] == (pytest.approx(2.9 / 3), 0)
    assert sums["persistent"] == (pytest.approx(2 * (2e-3 + 4e-3 + 6e-3)), 6)  # of wgrads only
    assert sums["noise_ratio"] == (pytest.approx(4e-3), 8)  # measured of dgrads in E4M3 only
    assert "loss_mse" not in sums


def test_persistent_errors_are_counted_as_policy_budget_counts_them():
    content = records.content()
    for entry in content["products"]:
        if entry["role"] == "wgrad":
            entry["candidates"][1]["metrics"]["persistent"] = -1e-5
        if entry["role"] == "dgrad":
            for candidate in entry["candidates"]:
                candidate["metrics"]["role_persistent"] = 6e-3
    assert explain.error_sums(parse(content))["persistent"] == (pytest.approx(6e-3), 0)


def test_records_of_different_graphs_are_refused():
    other = records.content()
    other["graph_hash"] = "1"
    with pytest.raises(DecisionsError, match="of different graphs: 00000000deadbeef and 1"):
        explain.changes(records.record(), parse(other))
    other["graph_hash"] = ""
    with pytest.raises(DecisionsError, match="no hash and no hash"):
        explain.changes(parse(other), parse(other))
    with pytest.raises(DecisionsError, match="'encoder.layer.2.attention.self.query' is in one only"):
        explain.changes(records.record(3), records.record(2))


def test_commands(mptc, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text(json.dumps(records.content()))
    b.write_text(json.dumps(records.pinned(records.content(), "query")))
    done = mptc("explain", a, "layer.0.*query*")
    assert done.returncode == 1 and "no product matches 'layer.0.*query*'; nearest: " in done.stderr
    assert "runner-up" in mptc("explain", a, "layer.0.attention").stdout
    assert "8 of 19 products changed" in mptc("diff", a, b).stdout
    b.write_text(a.read_text()[:-10])
    done = mptc("diff", a, b)
    assert done.returncode == 1 and "b.json: not a decision record" in done.stderr
    done = mptc("what-if", "g.mlir")
    assert done.returncode == 1 and "nothing to change, expected --policy, --pin, a target" in done.stderr


def test_what_if_assigns_twice_and_writes_nothing(mptc, tmp_path):
    try:
        stages.find_tool("mpt-opt")
    except stages.StageError as error:
        pytest.skip(str(error))
    graph = tmp_path / "step.mlir"
    graph.write_text(FACTORS % "layer.0.dense")
    done = mptc("what-if", graph, "--policy", "bf16")
    assert done.returncode == 1 and "lack: 'layer.0.dense'" in done.stderr  # threshold needs metrics
    record = tmp_path / "decisions.json"
    stages.assign(graph, tmp_path / "out.mlir", "bf16", record=record)
    done = mptc("what-if", graph, "--record", record, "--pin", "layer.*=f8E4M3FN")
    assert done.returncode == 0, done.stderr
    assert "FLOPs in 8 bits, % 0.0 100.0" in " ".join(done.stdout.split())
    assert "1 of 1 products changed" in done.stdout and "pinned by 'layer.*=f8E4M3FN'" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decisions.json", "out.mlir", "step.mlir"]
    done = mptc("what-if", graph, "--record", record, "--pin", "layr.0.dense=bf16")
    assert done.returncode == 1 and "matches no product; nearest: 'layer.0.dense'" in done.stderr


def test_a_step_that_8_bits_make_slower_says_so():
    content = records.content()
    records.price(content)
    assert explain.slower(parse(content)) == []
    content["predicted"]["total_us"] = 700
    lines = explain.slower(parse(content))
    assert len(lines) == 1 and lines[0].startswith("8 bits do not pay on h100 at this size: 0.100 ms slower than BF16")
    assert lines[0] in list(explain.summary(parse(content)))


@pytest.mark.parametrize("at, model, message", [
    ("batch=64", None, "expected --model MODEL.onnx"),
    ("batch=64,seq=x", "m.onnx", "'seq=x', expected AXIS=SIZE with a size of 1 or more"),
    ("batch=64,batch=8", "m.onnx", "'batch=8', expected AXIS=SIZE .* each axis once"),
    ("batch=0", "m.onnx", "'batch=0', expected"),
    ("large.mlir", "m.onnx", "--model m.onnx: expected --price-at AXIS=SIZE"),
    (None, "m.onnx", "--model m.onnx: expected --price-at AXIS=SIZE"),
])  # fmt: skip
def test_sizes_to_price_at_that_are_refused(at, model, message):
    args = argparse.Namespace(price_at=at, model=model)
    with pytest.raises(ValueError, match=message), cli_explain.pricing(args):
        pass


def write_classifier(path):
    """tokens -> Gather -> MatMul, logits [batch, seq, 32], both axes dynamic."""
    helper, proto = onnx.helper, onnx.TensorProto
    table = onnx.numpy_helper.from_array(np.ones((32, 16), np.float32), "embeddings.weight")
    weight = onnx.numpy_helper.from_array(np.ones((16, 32), np.float32), "classifier.weight")
    nodes = [
        helper.make_node("Gather", ["embeddings.weight", "input_ids"], ["x"]),
        helper.make_node("MatMul", ["x", "classifier.weight"], ["logits"], name="/classifier/MatMul"),
    ]
    ids = helper.make_tensor_value_info("input_ids", proto.INT64, ["batch", "seq"])
    logits = helper.make_tensor_value_info("logits", proto.FLOAT, ["batch", "seq", 32])
    graph = helper.make_graph(nodes, "classifier", [ids], [logits], [table, weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)


def test_times_of_another_size_follow_from_the_model(mptc, tmp_path):
    """A record at 4 times the batch has 4 times the rows; what-if on it needs the size again."""
    try:
        stages.find_tool("mpt-opt")
    except stages.StageError as error:
        pytest.skip(str(error))
    model, step, record = tmp_path / "m.onnx", tmp_path / "step.mlir", tmp_path / "d.json"
    write_classifier(model)
    stages.import_model(model, tmp_path / "g.mlir", loss=True, bind={"batch": 2, "seq": 16})
    stages.differentiate(tmp_path / "g.mlir", step)
    size = ["--price-at", "batch=8,seq=16", "--model", model]
    out = ["-o", tmp_path / "assigned.mlir", "--record", record]
    done = mptc("assign", step, "--policy", "uniform", *size, *out)
    assert done.returncode == 0, done.stderr
    products = json.loads(record.read_text())["products"]
    sizes = {entry["role"]: (entry["priced"]["m"], entry["priced"]["k"]) for entry in products}
    assert sizes == {"fprop": (8 * 16, 16), "dgrad": (8 * 16, 32), "wgrad": (16, 8 * 16)}
    assert all(entry["m"] != entry["priced"]["m"] or entry["role"] == "wgrad" for entry in products)
    done = mptc("what-if", step, "--record", record, "--policy", "bf16")
    assert done.returncode == 1 and "times are of another size" in done.stderr
    done = mptc("what-if", step, "--record", record, "--policy", "bf16", *size)
    assert done.returncode == 0, done.stderr
    done = mptc("assign", step, "--policy", "bf16", "--price-at", "bach=8,seq=16", "--model", model, *out)
    assert done.returncode == 1 and "batch" in done.stderr
