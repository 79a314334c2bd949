"""Exports a run's classifier as files to deploy, with a model card:

    mmn-jax export --model=WORKDIR [--out=DIR]

DIR (WORKDIR/export without --out) gets classifier.npz for plain numpy and mmn_jax.predict, classifier.stablehlo for
jax.export.deserialize, classifier.onnx if onnx is installed (pip install 'mmn_jax[onnx]'), and MODEL_CARD.md, which shows how to
use each. StableHLO and ONNX take features [n, d] float32 and return scores [n, C] and probabilities [n, C].
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from mmn_jax import devices
from mmn_jax.cli.command import Parser, exit_code, stop_on_signals
from mmn_jax.errors import BadInput
from mmn_jax.report import card
from mmn_jax.store.artifacts import writable_directory, write_bytes
from mmn_jax.store.classifier import Classifier, as_npz, load_classifier

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
OPSET, IR = 17, 8  # of ONNX: old enough for every runtime since 2022


def scores(classifier: Classifier, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns scores [n, C] and calibrated probabilities [n, C] of features x [n, d] float32."""
    weights, bias, mean, scale, temperature = (
        jnp.asarray(array, jnp.float32) for array in (classifier.W, classifier.b, classifier.mean, classifier.scale, classifier.temperature)
    )
    logits = jnp.matmul((x - mean) * scale, weights.T, precision=jax.lax.Precision.HIGHEST) + bias
    return logits, jax.nn.softmax(logits / temperature)


def to_stablehlo(classifier: Classifier) -> bytes:
    """Serialises the classifier by jax.export, for any number of rows and every platform of `PLATFORMS`."""
    (rows,) = jax.export.symbolic_shape("n")
    features = jax.ShapeDtypeStruct((rows, classifier.W.shape[1]), jnp.float32)
    exported = jax.export.export(jax.jit(lambda x: scores(classifier, x)), platforms=PLATFORMS)(features)
    return bytes(exported.serialize())


def to_onnx(classifier: Classifier) -> bytes:
    """Serialises the classifier as an ONNX model.

    Its input is `features`, its outputs are `scores` and `probabilities`; its metadata hold `class_names` as JSON.
    """
    from onnx import TensorProto, checker, helper, numpy_helper  # an extra

    constants = {name: np.asarray(getattr(classifier, name), np.float32) for name in ("W", "b", "mean", "scale", "temperature")}
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "scale"], ["normalised"]),
        helper.make_node("Gemm", ["normalised", "W", "b"], ["scores"], transB=1),
        helper.make_node("Div", ["scores", "temperature"], ["calibrated"]),
        helper.make_node("Softmax", ["calibrated"], ["probabilities"], axis=1),
    ]
    classes, dim = classifier.W.shape
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("features", dim), ("scores", classes), ("probabilities", classes))
    }
    graph = helper.make_graph(
        nodes,
        "classifier",
        [values["features"]],
        [values["scores"], values["probabilities"]],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="mmn_jax")
    helper.set_model_props(model, {"class_names": json.dumps(classifier.class_names.tolist())})
    checker.check_model(model)
    return model.SerializeToString()


def export(workdir: Path, out: Path) -> dict[str, str]:
    """Writes the files of an export.

    Args:
      workdir: a run's, with classifier.npz and results.json.
      out: the folder to write to, made if it is missing.

    Returns:
      The size of each file, by its name.

    Raises:
      BadInput: the workdir has no classifier or no results, `out` cannot be written to, or JAX cannot start.
    """
    classifier, table = load_classifier(str(workdir)), card.read_facts(workdir)
    devices.start()
    written = {"classifier.npz": as_npz(classifier), "classifier.stablehlo": to_stablehlo(classifier)}
    if importlib.util.find_spec("onnx"):
        written["classifier.onnx"] = to_onnx(classifier)
    written["MODEL_CARD.md"] = card.as_markdown(classifier, table, tuple(written)).encode()
    try:
        for name, content in written.items():
            write_bytes(writable_directory(out, "--out") / name, content)
        if "classifier.onnx" not in written:
            (out / "classifier.onnx").unlink(missing_ok=True)  # an older one would not match the other files
    except OSError as error:
        raise BadInput(f"--out={out}: cannot be written ({error.strerror})") from error
    return {name: f"{len(content)} bytes" for name, content in written.items()}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parses the flags."""
    parser = Parser("mmn-jax export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="workdir of a run, with classifier.npz and results.json")
    parser.add_argument("--out", help="folder to write to (default: WORKDIR/export)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the command and returns its exit code."""

    def work():
        arguments = parse(argv)
        out = Path(arguments.out or Path(arguments.model) / "export")
        written = export(Path(arguments.model), out)
        for name, size in written.items():
            print(f"{out / name}: {size}")
        if "classifier.onnx" not in written:
            print("classifier.onnx: not written, as onnx is not installed (pip install 'mmn_jax[onnx]')")

    return exit_code(work)


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
