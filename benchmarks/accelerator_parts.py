"""The measurements of accelerator.py, each run in its own process: python benchmarks/accelerator_parts.py NAME [--small]

A part prints a line of JSON for every row as soon as it is known, so that a part that is stopped keeps its earlier rows. --small is for
machines without an accelerator: the same code at sizes that take seconds.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bank as bank_benchmark
import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, features
from jax.sharding import Mesh
from machine import copy_rate, peak
from scipy.special import softmax

from mmn_jax import devices
from mmn_jax.cli import export
from mmn_jax.data import feature_files, glyphs, longtail, synthetic
from mmn_jax.data.normalisation import normalisation
from mmn_jax.errors import BadInput
from mmn_jax.evaluation.metrics import mean_class_accuracy
from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import Shrinkage
from mmn_jax.linear.coordinates import eigen_coordinates
from mmn_jax.linear.rows import centred, predict_logits
from mmn_jax.metamodelnet import kshot_bank
from mmn_jax.methods import mmn
from mmn_jax.methods.stacking import HeldOut, fit_mixture, mix
from mmn_jax.methods.subsampling import make_subsample
from mmn_jax.methods.tasks import RowPrior, Start, fit_weighted, make_task, unscaled
from mmn_jax.pipeline import metamodelnet, sources, stages
from mmn_jax.store.banks import banks
from mmn_jax.store.classifier import Classifier
from mmn_jax.store.run import Run
from mmn_jax.store.terminal import Terminal
from mmn_jax.types import Normalised

ROOT = Path(__file__).resolve().parents[1]
PRIOR = RowPrior(Shrinkage(0.6, 0.6))
HEADS = {  # compared in `agreement`: rule, ridge, scaling
    "plain, ℓ = 1e-2": (weighting.plain, 1e-2, unscaled),
    "plain, ℓ = 1e-4": (weighting.plain, 1e-4, unscaled),
    "plain, ℓ = 1e-6": (weighting.plain, 1e-6, unscaled),
    "logit-adjusted, ℓ = 1e-4": (weighting.logit_adjusted(1.0), 1e-4, unscaled),
    "row prior, ℓ = 1e-4": (weighting.plain, 1e-4, PRIOR),
}
SMALL_RUN = (
    "--config.data.longtail.imbalance=20", "--config.data.longtail.max_per_class=40", "--config.heads.l2=1e-2,1e-4",
    "--config.kshot.subsets=4,3", "--config.kshot.top=1", "--config.meta.steps=20", "--config.meta.task_weight=0.1",
    "--config.meta.width=4", "--config.tuning.budget=2",
)  # fmt: skip
IMAGENET_LT = {"classes": 1000, "dim": 768, "largest": 1280, "median": 5, "test_per_class": 50}  # 116,000 examples
INATURALIST = {"classes": 8142, "dim": 768, "largest": 484, "median": 5, "test_per_class": 3}  # 437,000 examples
SMALL_SHAPE = {"classes": 30, "dim": 16, "largest": 40, "median": 5, "test_per_class": 3}


def emit(**row: Any) -> None:
    """Prints one row of the part's table."""
    print(json.dumps(row), flush=True)


def _used_memory():
    """Returns the peak GB in use on the device so far, {} if it doesn't report it."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return {"peak_gb": stats["peak_bytes_in_use"] / 1e9} if "peak_bytes_in_use" in stats else {}


def machine(small: bool) -> None:
    """Measures the device's peak rates."""
    device = jax.devices()[0]
    facts = {"device": device.device_kind, "platform": device.platform, "devices": jax.device_count(), "cores": os.cpu_count()}
    emit(**facts, memory_gb=devices.device_memory() / 1e9, jax=jax.__version__, python=platform.python_version())
    size = 1024 if device.platform == "cpu" else 0
    for dtype, precision in ((jnp.float32, "HIGHEST"), (jnp.float32, "DEFAULT"), (jnp.bfloat16, "DEFAULT")):
        rate = peak(dtype, jax.lax.Precision[precision], size)
        emit(what=f"{jnp.dtype(dtype).name} product, {precision}", unit="TFLOP/s", rate=rate / 1e12)
    emit(what="copy, bytes read and written", unit="TB/s", rate=copy_rate() / 1e12)


def _default_data(small):
    """Returns normalised training and test examples of the embedded default."""
    features = glyphs.load()
    tail = glyphs.TAIL | ({"max_per_class": 20} if small else {})
    tail = longtail.take(features, longtail.long_tail_split(features, 0, **tail))
    normalise = normalisation(tail.train)
    return normalise.of(tail.train), normalise.of(tail.test)


def _exact_norm(theta, x, y, weight, offset, l2):
    """Returns the gradient norm of a head's objective over [W b] in float64, with centred features, as b is free."""
    theta, x, share = theta.astype(np.float64), x.astype(np.float64), weight.astype(np.float64) / weight.sum()
    residual = softmax(predict_logits(theta, x) + offset, axis=1) - np.eye(len(theta))[y]
    residual *= share[:, None]
    rows = residual.T @ (x - share @ x) + l2 * theta[:, :-1]
    return float(np.sqrt((rows**2).sum() + (residual.sum(0) ** 2).sum()))


def _agree(what, results, x, y, norms):
    """Emits the row that compares rows theta [.., C, d+1] of both devices: accuracies, norms, largest change of a probability."""
    both = [predict_logits(theta, x) for theta in results]
    difference = np.abs(softmax(both[0], axis=-1) - softmax(both[1], axis=-1)).max()
    names = ("device", "cpu")
    accuracies = {f"accuracy_{name}": mean_class_accuracy(logits, y) for name, logits in zip(names, both, strict=True)}
    emit(what=what, probability=float(difference), **accuracies, **{f"norm_{n}": norm for n, norm in zip(names, norms, strict=True)})


def agreement(small: bool) -> None:
    """Compares what the device computes with what the CPU of the machine computes, with float64 gradient norms of both."""
    train, test = _default_data(small)
    devices = (jax.devices()[0], jax.devices("cpu")[0])
    _heads_agree(train, test, devices)
    _banks_agree(train, test, devices)
    _mixtures_agree(train, test, devices)


def _heads_agree(train, test, devices):
    tasks = []
    for device in devices:
        with jax.default_device(device):
            tasks.append(make_task(train, jax.random.key(0), 1e-6))
    for what, (rule, l2, scaling) in HEADS.items():
        thetas, norms = [], []
        for device, task in zip(devices, tasks, strict=True):
            with jax.default_device(device):
                theta, metric = task.head(rule, l2, scaling).theta, task.metric(scaling).astype(np.float64)
            metric = np.diag(metric) if metric.ndim == 1 else metric
            inside = np.concatenate([np.linalg.solve(metric, theta[:, :-1].T.astype(np.float64)).T, theta[:, -1:]], 1)
            norms.append(_exact_norm(inside, train.x @ metric, train.y, *rule(task.key, train.y, task.counts), l2))
            thetas.append(theta)
        _agree(f"head, {what}", thetas, *test, norms)


def _banks_agree(train, test, both):
    counts, key = np.bincount(train.y), jax.random.key(0)
    for k in kshot_bank.shot_ladder(counts, 20, 6):
        plan = kshot_bank.BankPlan(k, 4, 1e-6 * len(train.y), 1e-4, 1e-4, devices.batch_memory())
        thetas, norms = [], []
        for device in both:
            alone = Mesh([device], (devices.AXIS,))
            with jax.default_device(device):
                pool = kshot_bank.bank_pool(train, counts, k, alone)
                theta, _ = kshot_bank.fit_heads(key, 0, pool, plan, alone)
                index = np.asarray(kshot_bank.draw_subset(jax.random.fold_in(key, 0), pool.y, pool.begin, k)).ravel()
            drawn = longtail.class_pool(train, pool.classes).at(index)
            nothing, ridge = np.zeros(len(pool.classes)), plan.ridge / len(index)
            norms.append(_exact_norm(theta[0], *drawn, np.ones(len(index)), nothing, ridge))
            thetas.append(theta[0])
        _agree(f"bank, k = {k}", thetas, *longtail.class_pool(test, pool.classes), norms)


def _mixtures_agree(train, test, devices):
    """Compares the mixtures that both devices make of the same members, which the first one solved."""
    task, members = make_task(train, jax.random.key(0), 1e-4), mmn.default_members((1e-2, 1e-4, 1e-6))

    def rows(part):
        return centred(np.stack([mmn.fit_member(part, member).arrays["theta"] for member in members]))

    def traits(part):
        return ((np.log(part.counts) - np.log(task.counts).mean()) / np.log(task.counts).std())[None]

    used, held = make_subsample(task.key, train)
    part = make_task(used, task.root, 1e-4)
    logits = HeldOut(np.stack([predict_logits(theta, held.x) for theta in rows(part)]), traits(part), held.y)
    thetas = []
    for device in devices:
        with jax.default_device(device):
            thetas.append(mix(fit_mixture([logits], 1.0), rows(task), traits(task)))
    _agree(f"mixture of {len(members)} members", thetas, *test, (None, None))


def _timed_run(run, flags, environment):
    """Runs bin/run.py --stage=meta and emits a row for every stage and one for the whole run."""
    command = [sys.executable, str(ROOT / "bin" / "run.py"), "--stage=meta", *flags]
    began = now = time.perf_counter()
    stage, compiled = "imports and data", {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment, cwd=ROOT) as process:
        for line in process.stdout or ():
            print(line, end="", file=sys.stderr, flush=True)
            if entered := re.match(r"seed 0: (\w+)", line):
                emit(run=run, stage=stage, seconds=time.perf_counter() - now)
                stage, now = entered[1], time.perf_counter()
            if found := re.match(r"(\d+) s went into compiling (\d+) programs", line):
                compiled = {"compile_s": int(found[1]), "programs": int(found[2])}
    if process.returncode:
        raise SystemExit(f"bin/run.py ended with {process.returncode} in stage {stage}")
    emit(run=run, stage=f"{stage}, mmn and evaluation", seconds=time.perf_counter() - now)
    workdir = next(flag.removeprefix("--workdir=") for flag in flags if flag.startswith("--workdir="))
    methods = json.loads((Path(workdir) / "results.json").read_text())["methods"]
    accuracies = {name: methods[name]["accuracy"] for name in ("plain", "metamodelnet", "mmn")}
    emit(run=run, stage="all", seconds=time.perf_counter() - began, **compiled, mmn_s=methods["mmn"]["seconds"], **accuracies)


def main_job(small: bool) -> None:
    """Times the README's first command with an empty cache of compiled programs, and with the cache that this left."""
    with tempfile.TemporaryDirectory() as folder:
        for run in ("cold", "warm"):
            _timed_run(run, [f"--workdir={folder}/{run}", *(SMALL_RUN if small else ())], {"XDG_CACHE_HOME": f"{folder}/cache"})


def bank(small: bool) -> None:
    """Measures heads per second as benchmarks/bank.py --quick does, and at d = 2048 with 397 classes; then scikit-learn's on two cores."""
    os.environ.pop("OPENBLAS_CORETYPE", None)  # it slows a current numpy
    cases = [Case(1, 16, 10)] if small else [Case(k, 384, 100) for k in (1, 4, 16)] + [Case(k, 2048, 397) for k in (1, 4)]
    bank_benchmark.FLAGS(["bank", "--cores=2", f"--seconds={0.1 if small else 3}"])
    top, found = peak(), {}
    for case in cases:
        began = time.perf_counter()
        found[case] = timed = bank_benchmark.ours(case, *features(case))
        shown = {"heads_per_second": timed.heads_per_second, "peak_share": timed.flops / top, "gradient_norm": timed.gradient_norm}
        emit(**case._asdict(), **shown, all_s=time.perf_counter() - began, **_used_memory())
    for case, timed in found.items():
        theirs = bank_benchmark.rival(case, features(case)[0], timed.gradient_norm, "sklearn")
        emit(**case._asdict(), rival_heads_per_second=theirs, ratio=timed.heads_per_second / theirs)


def _timed_lines() -> Callable[[str], None]:
    """Returns a `say` for a Terminal that emits, at every line, the seconds of what the previous line announced."""
    last: list[tuple[str, float]] = []

    def say(line):
        if last:
            what, began = last.pop()
            emit(what=what, seconds=time.perf_counter() - began)
        last.append((line.strip().partition(":")[0], time.perf_counter()))

    return say


def paper_scale(small: bool) -> None:
    """Times configs/sun397_shape.py: banks with the paper's S, and a chain as wide as the features."""
    config = runpy.run_path(str(ROOT / "configs" / "sun397_shape.py"))["get_config"]()
    if small:
        config.data.synthetic.update(SMALL_SHAPE)
        config.kshot.update({"subsets": (4, 3, 2), "top": 1})
        config.meta.update({"width": 16, "steps": 20})
    say, mesh = _timed_lines(), devices.all_devices()
    with tempfile.TemporaryDirectory() as folder:
        full = sources.load_features(config)
        terminal = Terminal(say, lambda items, name: items)
        run = Run(config, 0, Path(folder), full, feature_files.fingerprint(full), terminal)
        whole = stages.split(run).whole
        began = time.perf_counter()
        made = banks(run, whole, mesh)
        say("banks")
        emit(what="all banks", seconds=time.perf_counter() - began, **_used_memory())
        middle = time.perf_counter()
        trained = metamodelnet.train(run, whole, made, {}, mesh)
        say("chain")
        steps = sum(len(record["looks"]) - 1 for record in trained.records[0].values()) * config.meta.every
        emit(what=f"chain, {steps} steps", seconds=time.perf_counter() - middle, **_used_memory())
        emit(what="banks and chain", seconds=time.perf_counter() - began)


def _random_classifier(classes, dim):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((classes, dim), np.float32)
    names = np.array([f"class {c}" for c in range(classes)])
    return Classifier(weights, np.zeros(classes, np.float32), names, np.zeros(dim), np.full(dim, dim**-0.5), np.ones(()))


def _rows_a_second(function, x):
    jax.block_until_ready(function(x))
    began = time.perf_counter()
    jax.block_until_ready([function(x) for _ in range(10)])
    return 10 * len(x) / (time.perf_counter() - began)


def _scorers(classifier: Classifier) -> Iterator[tuple[str, Callable]]:
    """Yields every way to score features: its name, and x [n, d] → scores and probabilities [n, C]."""
    yield "jitted", jax.jit(lambda x: export.scores(classifier, x))
    yield "StableHLO", jax.export.deserialize(bytearray(export.to_stablehlo(classifier))).call
    if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
        session = onnxruntime.InferenceSession(export.to_onnx(classifier), providers=providers)
        yield f"ONNX, {session.get_providers()[0]}", lambda x: session.run(None, {"features": np.asarray(x)})


def predictions(small: bool) -> None:
    """Measures rows scored per second with features on the device, and the largest error of a probability against float64."""
    rows, classes, dim = (64, 10, 8) if small else (2**16, 1000, 768)
    classifier = _random_classifier(classes, dim)
    x = jax.random.normal(jax.random.key(1), (rows, dim))
    exact = softmax(np.asarray(x[:64], np.float64) @ classifier.W.T.astype(np.float64) * classifier.scale[0], axis=1)
    for how, score in _scorers(classifier):
        difference = np.abs(np.asarray(score(x)[1][:64]) - exact).max()
        emit(how=how, classes=classes, d=dim, rows_per_second=_rows_a_second(score, x), probability=float(difference))


def large(small: bool) -> None:
    """Times --stage=meta at the shape of ImageNet-LT; one head and a closed-form `mmn` at that of iNaturalist 2018."""
    with tempfile.TemporaryDirectory() as folder:
        shape = SMALL_SHAPE if small else IMAGENET_LT
        flags = [f"--config.data.synthetic.{name}={value}" for name, value in shape.items()]
        flags += [f"--workdir={folder}/run", "--config.data.source=synthetic", *(SMALL_RUN[2:] if small else ())]
        _timed_run("ImageNet-LT's shape", flags, {})
    full = synthetic.make("iNaturalist", **(SMALL_SHAPE if small else INATURALIST))
    train = normalisation(full.train).of(full.train)
    what = f"iNaturalist's shape, {len(train.y)} × {train.x.shape[1]}, {len(full.class_names)} classes"
    task = make_task(train, jax.random.key(0), 1e-4)
    began = time.perf_counter()
    members = tuple(one for one in mmn.default_members((1e-2,)) if one.l2 is None)
    mmn.fit(members, (), task, {"kappa": 1.0, "alone": None})
    emit(run=what, stage=f"mmn of {len(members)} closed-form members", seconds=time.perf_counter() - began, **_used_memory())
    _one_head(what, train, task.counts)


def _one_head(what: str, train: Normalised, counts: np.ndarray) -> None:
    drawn = weighting.logit_adjusted(1.0)(jax.random.key(0), train.y, counts)
    zeros = np.zeros((len(counts), train.x.shape[1] + 1), np.float32)
    place = eigen_coordinates(np.ones(train.x.shape[1], np.float32), train.x)
    began = time.perf_counter()
    try:
        _, info = fit_weighted(train, drawn, 1e-4, Start(zeros), 1e-4, place)
    except BadInput as error:
        emit(run=what, stage="logit-adjusted head", refused=str(error))
        return
    found = {"products": int(info.products), "gradient_norm": float(info.gradient_norm)}
    emit(run=what, stage="logit-adjusted head", seconds=time.perf_counter() - began, **found, **_used_memory())


PARTS = {part.__name__: part for part in (machine, agreement, main_job, bank, paper_scale, predictions, large)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    PARTS[arguments.part](arguments.small)


if __name__ == "__main__":
    main()
