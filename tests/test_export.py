"""The exports: one classifier in numpy, JAX and ONNX, and a card that tells the truth about it."""

import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from commands import environment
from jax import export as jax_export

from mmn_jax.cli import export, predict
from mmn_jax.pipeline.markdown import in_markdown
from mmn_jax.report import card

RNG = np.random.default_rng(0)
CLASSES, DIM = 30, 12
CLASSIFIER = predict.Classifier(
    W=RNG.normal(size=(CLASSES, DIM)).astype(np.float32),
    b=RNG.normal(size=CLASSES).astype(np.float32),
    class_names=np.array([f"naïve {c}" for c in range(CLASSES)]),
    mean=RNG.normal(size=DIM).astype(np.float32),
    scale=np.full(DIM, 0.5, np.float32),
    temperature=np.float32(1.7),
    counts=np.array([50] * 10 + [7] * 20),
)
X = RNG.normal(size=(500, DIM)).astype(np.float32) * 2
METHOD = {
    "accuracy": 60.0, "accuracy_per_seed": [61.25, 58.75], "many": None, "medium": 70.0, "few": 55.0,
    "vs_plain": [9.0, 8.0, 10.0], "vs_plain_groups": {"many": None, "medium": [1.0, -1.0, 3.0], "few": [12.0, 9.0, 15.0]},
    "vs_best_rival": None, "vs_best_rival_groups": None, "ece_scaled": 1.25, "nll_scaled": 0.5,
}  # fmt: skip
TABLE = {
    "schema": 1, "dataset": "pictures", "seeds": [3, 4], "thresholds": {"few": 20, "many": 100}, "validation": "set",
    "licence": "CC BY 4.0", "groups": {"many": 0, "medium": 10, "few": 20}, "methods": {"mmn": METHOD}, "counts": [[50] * 10 + [7] * 20],
    "config_hash": "abc", "versions": {"jax": "9"}, "splits": [{"indices_sha256": "1234", "labels_sha256": "5678"}, {}],
}  # fmt: skip
NAMES = ["MODEL_CARD.md", "classifier.npz", "classifier.onnx", "classifier.stablehlo"]


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    np.savez(folder / "classifier.npz", **CLASSIFIER._asdict())
    (folder / "results.json").write_text(json.dumps(TABLE))
    return folder


def run_blocks(page, folder, x):
    """What the card's own examples give: a dict of names for every file."""
    found = {}
    for name, block in re.findall(r"### (\S+)\n.*?```python\n(.*?)```", page, flags=re.S):
        names = {"x": x}
        exec(block.replace('"classifier', f'"{folder}/classifier'), names)
        found[name] = names
    return found


def test_the_card_s_examples_agree_on_every_file(workdir):
    assert export.main([f"--model={workdir}"]) == 0
    out = workdir / "export"
    assert sorted(path.name for path in out.iterdir()) == NAMES
    used = run_blocks((out / "MODEL_CARD.md").read_text(), out, X)
    assert sorted(used) == NAMES[1:]
    usual = predict.predict(CLASSIFIER, X)
    for names in used.values():
        np.testing.assert_array_equal(np.asarray(names["scores"]).argmax(1), usual.label)
        np.testing.assert_allclose(np.asarray(names["probabilities"]).max(1), usual.probability, rtol=1e-4)
        np.testing.assert_allclose(names["scores"], used["classifier.npz"]["scores"], rtol=1e-4, atol=1e-4)
    assert used["classifier.onnx"]["names"] == CLASSIFIER.class_names.tolist()
    assert list(used["classifier.npz"]["names"][:3]) == [CLASSIFIER.class_names[c] for c in usual.label[:3]]


def test_any_number_of_rows_and_far_scores():
    artefact = jax_export.deserialize(bytearray(export.to_stablehlo(CLASSIFIER)))
    session = onnxruntime.InferenceSession(export.to_onnx(CLASSIFIER), providers=["CPUExecutionProvider"])
    assert set(artefact.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    for x in (X[:1], X[:7], X[:3] * 1e4):
        for scores, probabilities in (artefact.call(x), session.run(None, {"features": x})):
            assert np.shape(scores) == np.shape(probabilities) == (len(x), CLASSES)
            np.testing.assert_allclose(np.asarray(probabilities).sum(1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="shape"):
        artefact.call(X[:, :5])


def test_the_card_has_the_facts(workdir):
    page = card.as_markdown(CLASSIFIER, card.read_facts(workdir), ("classifier.npz",))
    for fact in (
        "pictures, 12-dimensional",
        "640; 50 in the largest class, 7 in the median class, 7 in the smallest",
        "`1234`",
        "CC BY 4.0",
        "jax 9",
    ):
        assert fact in page, fact
    assert "| all | 60.0 | +9.0 (+8.0 to +10.0) | n/a |" in page and "| few-shot (20) | 55.0 | +12.0 (+9.0 to +15.0) | n/a |" in page
    assert "| many-shot (0) | n/a | n/a | n/a |" in page and "seed 3's, which reached 61.2" in page
    assert "onnxruntime" not in page and "stablehlo" not in page
    (workdir / "results.json").write_text(json.dumps({key: value for key, value in TABLE.items() if key not in ("licence", "splits")}))
    page = card.as_markdown(CLASSIFIER, card.read_facts(workdir), ("classifier.npz",))
    assert "Licence of the features: not known" in page and "rows `not known`" in page


def test_classes_of_one_name_are_told_apart_in_every_file(workdir):
    names = CLASSIFIER.class_names.astype("<U20")
    names[[3, 7]] = "crane"
    np.savez(workdir / "classifier.npz", **CLASSIFIER._replace(class_names=names)._asdict())
    assert export.main([f"--model={workdir}"]) == 0
    out = workdir / "export"
    page = (out / "MODEL_CARD.md").read_text()
    assert "- Classes that share a name carry their number: crane (class 3), crane (class 7)\n" in page
    used = run_blocks(page, out, X)
    names[[3, 7]] = ["crane (class 3)", "crane (class 7)"]
    assert list(used["classifier.npz"]["model"]["class_names"]) == used["classifier.onnx"]["names"] == names.tolist()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("[a](javascript:b)", r"\[a\](javascript:b)"),
        ("![a](b)", r"\!\[a\](b)"),
        ("**a** _b_ __c__ `d` ~e~", r"\*\*a\*\* \_b\_ \_\_c\_\_ \`d\` \~e\~"),
        ("a|b", r"a\|b"),
        ("a\n\n# b\r\n- c", r"a \# b - c"),
        ("&lt;b&gt; \\", r"&amp;lt;b&amp;gt; \\"),
        ("$x$", r"\$x\$"),
        ("my_data-v1.5 (CC BY 4.0)", "my_data-v1.5 (CC BY 4.0)"),
    ],
)
def test_names_and_licences_are_text_in_the_card_and_no_markup(workdir, text, shown):
    assert in_markdown(text) == shown
    page = card.as_markdown(CLASSIFIER, {**TABLE, "dataset": text, "licence": text, "versions": {"jax": text}}, ("classifier.npz",))
    for line in (
        f"# {shown}: a long-tailed classifier",
        f"- Data set: {shown}, 12-dimensional features, 30 classes",
        f"- Licence of the features: {shown}",
        f"jax {shown}; configuration abc.",
    ):
        assert line in page.splitlines()


def test_without_onnx_it_says_so_and_leaves_no_older_file(workdir, monkeypatch, capsys):
    (workdir / "export").mkdir()
    (workdir / "export" / "classifier.onnx").write_text("of another classifier")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert export.main([f"--model={workdir}"]) == 0
    assert "classifier.onnx: not written" in capsys.readouterr().out
    assert sorted(path.name for path in (workdir / "export").iterdir()) == [name for name in NAMES if name != "classifier.onnx"]


def damage(name, text):
    return lambda workdir: (workdir / name).write_text(text)


@pytest.mark.parametrize(
    ("harm", "out", "named"),
    [
        (lambda workdir: (workdir / "classifier.npz").unlink(), "out", "has no classifier.npz"),
        (lambda workdir: (workdir / "results.json").unlink(), "out", "results.json cannot be read"),
        (damage("results.json", "{"), "out", "is damaged"),
        (damage("results.json", "[]"), "out", "is damaged"),
        (damage("results.json", json.dumps({**TABLE, "seeds": [], "splits": []})), "out", "is damaged"),
        (damage("file", ""), "file/out", "--out="),
        (lambda workdir: (workdir / "out" / "classifier.npz").mkdir(parents=True), "out", "--out="),
    ],
)
def test_bad_input_gives_one_line_and_exit_code_2(workdir, capsys, harm, out, named):
    harm(workdir)
    assert export.main([f"--model={workdir}", f"--out={workdir / out}"]) == 2
    error = capsys.readouterr().err
    assert named in error and len(error.strip().splitlines()) == 1


def test_the_command_runs_outside_the_strict_settings(workdir):
    command = [sys.executable, "-m", "mmn_jax.cli.export", f"--model={workdir}", f"--out={workdir / 'a' / 'b'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 0 and done.stderr == "" and len(done.stdout.splitlines()) == 4
