"""Compares Regressors on several data sets, long tails, class subsets and seeds: paired differences to plain, to the paper's recipe and
to the chosen rival.

python benchmarks/regressors.py --features=DIR [--problems=NAMES] [--seeds=0,1] [--regressors=NAMES] [--rivals=NAMES|all] [--paper]

DIR holds clinc150.npz and cifar100_mobilenetv2_pca256.npz; the glyphs come with the package. A problem may also be a file of your own,
--problems=features.npz, whose counts stay as they are. A regressor is trained on mixed-shot episodes of the training set
(`mmn_jax/contrib/mixed_shot.py`), moves the rows of the head, and is applied with the strength and logit adjustment that are best on
validation examples; strength 0, the identity, is among the candidates. The chosen rival of a seed is the one with the highest validation
accuracy. `rarest` is the third of the classes with the fewest examples, after the biases were shifted along log counts until the most
frequent third is as accurate on validation examples as the chosen rival's.
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags, logging

from mmn_jax.config import default
from mmn_jax.contrib import mixed_shot, small_regressors
from mmn_jax.data import feature_files, glyphs
from mmn_jax.evaluation.bootstrap import bootstrap, interval, student_interval
from mmn_jax.evaluation.calibration import best_temperature
from mmn_jax.evaluation.metrics import mean_class_accuracy, per_class_accuracy, terciles
from mmn_jax.linear import weighting
from mmn_jax.linear.class_model import Shrinkage
from mmn_jax.linear.rows import centred, predict_logits, subtract_log_prior
from mmn_jax.metamodelnet.chain import residual_chain
from mmn_jax.metamodelnet.level import Hyper
from mmn_jax.metamodelnet.regressor import Regressor, average, make_context
from mmn_jax.metamodelnet.training_data import held_out_classes
from mmn_jax.metamodelnet.transfer import transfer_rows
from mmn_jax.methods import baselines, mmn, rivals
from mmn_jax.methods.contract import Method
from mmn_jax.methods.diagnosis import diagnose
from mmn_jax.methods.tasks import RowPrior, unscaled
from mmn_jax.pipeline import stages
from mmn_jax.pipeline.table_formats import markdown
from mmn_jax.rng import stream
from mmn_jax.store import artifacts
from mmn_jax.types import Examples, FeatureSet

FLAGS = flags.FLAGS
flags.DEFINE_string("features", "", "Folder with the feature files.")
flags.DEFINE_string("workdir", "runs/regressors", "Folder of the runs.")
flags.DEFINE_list("problems", [], "Problems to run (default: all).")
flags.DEFINE_list("seeds", ["0", "1"], "Seeds of every problem.")
flags.DEFINE_list("regressors", [], "Regressors to train; 'every' for all.")
flags.DEFINE_list("rivals", ["logit_adjustment", "tau_norm"], "Rivals to compare with, or all.")
flags.DEFINE_bool("paper", False, "Also run metamodelnet and the paper's baselines.")
flags.DEFINE_bool("ablations", False, "Also run mmn with fewer kinds of members.")
flags.DEFINE_integer(
    "cuts", 0, "Also predict the gain of mmn over logit adjustment from this many long-tailed subsamples of the training set."
)
flags.DEFINE_enum(
    "input", "adjusted", ["adjusted", "plain", "prior"], "Rows that regressors move: logit-adjusted, plain, or under the row prior."
)

HYPER = (Hyper(1.0, 1e-2, 1e-2), Hyper(0.1, 1e-2, 1e-2))  # λ is chosen on validation examples
STRENGTHS, TAUS = (0.0, 0.5, 1.0), (-0.25, 0.0, 0.25, 0.5)


class Problem(NamedTuple):
    """A data set and its long tail.

    source: glyphs or the path of a file. classes: how many of its classes (0: all). imbalance, largest: of the tail; None: as it is.
    """

    source: str
    classes: int
    imbalance: float | None
    largest: int | None


CLINC, CIFAR = "clinc150.npz", "cifar100_mobilenetv2_pca256.npz"  # in the folder that --features names
PROBLEMS = {
    "glyphs_200_2": Problem("glyphs", 0, 100.0, 200),
    "clinc_80_1": Problem(CLINC, 0, 80.0, 80),
    "clinc_80_4": Problem(CLINC, 0, 20.0, 80),
    "cifar_480_5": Problem(CIFAR, 0, 96.0, 480),
    "cifar_100_10": Problem(CIFAR, 0, 10.0, 100),
    "glyphs100_200_2": Problem("glyphs", 100, 100.0, 200),
    "cifar50_200_2": Problem(CIFAR, 50, 100.0, 200),
    "clinc50_80_1": Problem(CLINC, 50, 80.0, 80),
    "clinc20_80_1": Problem(CLINC, 20, 80.0, 80),
}


def regressors() -> dict[str, Regressor]:
    """Returns the regressors by name, all trained alike."""
    small = (
        small_regressors.scale_and_bias,
        small_regressors.diagonal,
        small_regressors.bayesian_mix,
        small_regressors.neighbour_attention,
        small_regressors.low_rank,
        small_regressors.equivariant,
    )
    return {
        **{make.__name__: make() for make in small},
        "one_block": residual_chain((1,), 16),
        "chain": residual_chain(small_regressors.LEVELS, 16),
        "mix_and_attention": average([small_regressors.bayesian_mix(), small_regressors.neighbour_attention()]),
    }


def ablations(grid: tuple[float, ...]) -> dict[str, Method]:
    """Returns mmn of plain heads alone, at every ridge; without Bayesian rows; of plain heads and Bayesian rows without a row prior; and of
    the eighteen members that it once had: heads at three shrinkages, Bayesian rows at six."""
    plain = tuple(mmn.Member(mmn.NO_PRIOR, l2) for l2 in grid)
    members = mmn.default_members(grid)
    heads, bayesian = (tuple(member for member in members if (member.l2 is not None) is solved) for solved in (True, False))
    more_heads = [mmn.Member(Shrinkage(s, s), one.l2) for s in (1.0, 0.6, 0.3) for one in heads]
    more_rows = [mmn.Member(Shrinkage(within, between)) for within in (0.1, 0.3, 0.9) for between in (0.03, 0.5)]
    kinds = {"mmn_of_plain_heads": plain, "mmn_of_heads": heads, "mmn_of_plain_and_bayesian": plain + bayesian}
    kinds["mmn_of_eighteen"] = (*more_heads, *more_rows)
    return {name: mmn.method(members, grid) for name, members in kinds.items()}


def _problem(name):
    if name.endswith(".npz"):
        return Problem(name, 0, None, None)
    if name not in PROBLEMS:
        raise SystemExit(f"--problems={name}: must be a file .npz or one of {', '.join(PROBLEMS)}")
    problem = PROBLEMS[name]
    return problem if problem.source == "glyphs" else problem._replace(source=str(Path(FLAGS.features) / problem.source))


@functools.cache
def _load(source):
    return glyphs.load() if source == "glyphs" else feature_files.load(source)


def _subset(features, classes, seed):
    """Some classes of a set, drawn by the seed."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(features.class_names))[:classes])
    place = np.full(len(features.class_names), -1)
    place[chosen] = np.arange(classes)

    def part(examples):
        keep = place[examples.y] >= 0
        return Examples(examples.x[keep], place[examples.y[keep]].astype(np.int32))

    parts = [examples and part(examples) for examples in (features.train, features.val, features.test)]
    return FeatureSet(f"{features.name} ({classes})", *parts, tuple(features.class_names[c] for c in chosen))


def start(name: str, seed: int) -> stages.Run:
    """Returns the run of one problem and seed."""
    problem, config = _problem(name), default()
    config.data.path = "" if problem.source == "glyphs" else problem.source
    config.data.longtail.imbalance, config.data.longtail.max_per_class = problem.imbalance, problem.largest
    features = _load(problem.source)
    features = _subset(features, problem.classes, seed) if problem.classes else features
    terminal = stages.Terminal(lambda line: None, lambda items, name: items)
    folder = f"{Path(name).stem}-{seed}" if problem.classes else Path(name).stem  # a subset of classes depends on the seed
    workdir = artifacts.writable_directory(Path(FLAGS.workdir) / folder)
    return stages.Run(config, seed, workdir, features, feature_files.fingerprint(features), terminal)


def move(run: stages.Run, data: stages.Data, models: dict, wanted: dict[str, Regressor], tasks) -> dict[str, np.ndarray]:
    """Trains every regressor and returns its moved rows, at the candidate, strength and adjustment that are best on validation examples."""
    train, val, counts = data.whole.train, data.whole.val, data.tail.counts
    assert val is not None
    adjusted = FLAGS.input != "plain"
    scaling = RowPrior(Shrinkage(0.6, 0.6)) if FLAGS.input == "prior" else unscaled
    l2, task = models["logit_adjustment"].tuned["l2"], tasks(data.whole.name)[1]
    plan = mixed_shot.MixedPlan(16, l2, 1e-4, adjusted)
    bank = mixed_shot.fit_mixed_bank(stream(run.seed, "mixed"), train, plan, task.metric(scaling))
    held = held_out_classes(counts, run.config.meta.held_out)
    episode = mixed_shot.make_episodes(stream(run.seed, "mixed held out"), bank, held)
    context = make_context(train)
    theta = centred(subtract_log_prior(task.head(weighting.plain, l2, scaling).theta, float(adjusted), counts))
    chosen = {}
    for name, regressor in wanted.items():
        best = (-1.0, theta)
        for variables, _ in mixed_shot.fit_regressor(stream(run.seed, "regressor", name), regressor, context, episode, HYPER):
            moved = transfer_rows(regressor, variables, theta, counts, context)
            for strength in STRENGTHS:
                for tau in TAUS if adjusted else (*TAUS, 0.75, 1.0, 1.25, 1.5):
                    rows = subtract_log_prior(theta + strength * (moved - theta), tau, counts)
                    best = max(best, (mean_class_accuracy(predict_logits(rows, val.x), val.y), rows), key=lambda one: one[0])
        chosen[name] = best[1]
    return chosen


class Outcome(NamedTuple):
    """Results of one seed.

    names: of the methods. right: [methods, n] whether each test example is classified correctly. y: [n]. accuracy: mean per class.
    rival: chosen by validation accuracy. rarest: accuracy on the rarest third once the most frequent third is equally accurate.
    """

    names: list[str]
    right: np.ndarray
    y: np.ndarray
    accuracy: dict[str, float]
    rival: str
    rarest: dict[str, float]


def _third(logits, y, mask):
    return float(np.nanmean(per_class_accuracy(logits, y)[mask]))


def _rarest(theta, data, wanted):
    """Returns the test accuracy on the rarest third once the most frequent third reaches `wanted` on validation examples."""
    groups, val, test = terciles(data.tail.counts), data.whole.val, data.tail.test
    theta = theta / best_temperature(predict_logits(theta, val.x), val.y)  # so that a shift means the same for every method
    grid = [subtract_log_prior(theta, tau, data.tail.counts) for tau in np.arange(-1.5, 1.51, 0.05)]
    even = min(grid, key=lambda rows: abs(_third(predict_logits(rows, val.x), val.y, groups["most"]) - wanted))
    return _third(predict_logits(even, test.x), test.y, groups["rarest"])


def evaluate(name: str, seed: int) -> Outcome:
    """Fits and evaluates everything that the flags ask for on one problem and seed."""
    run = start(name, seed)
    data = stages.split(run)
    val, tasks = data.whole.val, stages.tasks_of(run, data)
    assert val is not None
    paper, later = baselines.methods(run.config.heads.l2), rivals.methods(run.config.heads.l2)
    if not FLAGS.paper:
        paper = {"plain": paper["plain"]}
    if FLAGS.rivals != ["all"]:
        later = {rival: later[rival] for rival in FLAGS.rivals}
    if "logit_adjustment" not in later and (FLAGS.regressors or FLAGS.cuts):
        raise SystemExit("--rivals: --regressors and --cuts need logit_adjustment among them")
    ours = mmn.methods(run.config.heads.l2) | (ablations(run.config.heads.l2) if FLAGS.ablations else {})
    models = stages.tune_methods(run, data, tasks, {**paper, **later, **ours})
    if FLAGS.paper:
        models["metamodelnet"], _ = stages.meta(run, data, tasks, lambda: models["plain"])
    rows = {method: model.arrays for method, model in models.items()}
    assert data.tail.test is not None
    logits = {method: model.logits(model.arrays, data.tail.test.x) for method, model in models.items()}
    wanted = regressors()
    if FLAGS.regressors != ["every"]:
        wanted = {regressor: wanted[regressor] for regressor in FLAGS.regressors}
    if wanted:
        moved = move(run, data, models, wanted, tasks)
        rows |= {regressor: {"theta": theta} for regressor, theta in moved.items()}
        logits |= {regressor: predict_logits(theta, data.tail.test.x) for regressor, theta in moved.items()}
    rival = max(later, key=lambda method: models[method].val_accuracy)
    most = terciles(data.tail.counts)["most"]
    level = _third(models[rival].logits(models[rival].arrays, val.x), val.y, most)
    rarest = {method: _rarest(arrays["theta"], data, level) for method, arrays in rows.items() if "theta" in arrays}
    y = data.tail.test.y
    right = np.stack([one.argmax(1) == y for one in logits.values()])
    return Outcome(list(logits), right, y, {method: mean_class_accuracy(one, y) for method, one in logits.items()}, rival, rarest)


def predicted(name: str, seed: int, outcome: Outcome) -> str:
    """Formats the gain of mmn over logit adjustment as predicted from training data alone, beside the measured one."""
    found = diagnose(stages.split(start(name, seed)).whole.train, seed, FLAGS.cuts)
    measured = outcome.accuracy["mmn"] - outcome.accuracy["logit_adjustment"]
    return f"predicted {found.gains.mean():+.1f} ({found.low:+.1f} to {found.high:+.1f}), measured {measured:+.1f}"


def _against(outcomes, name, other):
    """Returns the difference [mean, low, high] between a method and other(outcome).

    Seeds and test examples are resampled; if seeds have different test sets, the interval is Student's over seeds.
    """
    differences = [o.accuracy[name] - o.accuracy[other(o)] for o in outcomes]
    if not all(np.array_equal(o.y, outcomes[0].y) for o in outcomes):
        return student_interval(differences)
    right = np.stack([np.stack([o.right[o.names.index(name)], o.right[o.names.index(other(o))]]) for o in outcomes])
    masks = np.ones((len(outcomes), 1, outcomes[0].y.max() + 1), bool)
    draws = bootstrap(right, outcomes[0].y, masks, np.random.default_rng(0))
    return interval((draws[:, 0] - draws[:, 1])[:, 0], float(np.mean(differences)))


def _cell(values):
    mean, low, high = values
    return f"{mean:+.1f}" + ("" if np.isinf(low) else f" ({low:+.1f} to {high:+.1f})")


def _third_against(outcomes, name):
    """Returns each seed's difference to the chosen rival on the rarest third; [] if a method isn't linear."""
    return [o.rarest[name] - o.rarest[o.rival] for o in outcomes if name in o.rarest and o.rival in o.rarest]


def table(outcomes: list[Outcome]) -> str:
    """Formats the methods of one problem against plain, metamodelnet and the chosen rival in Markdown."""
    names = sorted(outcomes[0].names, key=lambda name: -np.mean([o.accuracy[name] for o in outcomes]))
    others = {"vs plain": lambda o: "plain", "vs metamodelnet": lambda o: "metamodelnet", "vs chosen rival": lambda o: o.rival}
    if "metamodelnet" not in names:
        del others["vs metamodelnet"]
    lines = []
    for name in names:
        third = _third_against(outcomes, name)
        cells = [_cell(_against(outcomes, name, other)) for other in others.values()]
        mean = np.mean([o.accuracy[name] for o in outcomes])
        lines.append([name, f"{mean:.1f}", *cells, _cell(student_interval(third)) if third else ""])
    return markdown([["method", "accuracy", *others, "rarest third vs chosen rival"], *lines])


def summary(results: dict[str, list[Outcome]]) -> str:
    """Formats, over all problems, the mean difference to the chosen rival with Student's interval, and the worst and best problem."""
    lines = []
    for name in next(iter(results.values()))[0].names:
        each = [float(np.mean([o.accuracy[name] - o.accuracy[o.rival] for o in outcomes])) for outcomes in results.values()]
        third = [float(np.mean(_third_against(outcomes, name))) for outcomes in results.values() if _third_against(outcomes, name)]
        lines.append(
            [name, _cell(student_interval(each)), f"{min(each):+.1f}", f"{max(each):+.1f}", _cell(student_interval(third)) if third else ""]
        )
    return markdown([["method", "vs chosen rival", "worst problem", "best problem", "rarest third vs chosen rival"], *lines])


def main(_):
    logging.set_verbosity(logging.WARNING)
    results = {}
    for name in FLAGS.problems or PROBLEMS:
        results[name] = []
        for seed in map(int, FLAGS.seeds):
            results[name].append(evaluate(name, seed))
            shown = {method: round(accuracy, 1) for method, accuracy in results[name][-1].accuracy.items()}
            print(f"{name} seed {seed}: chosen rival {results[name][-1].rival}; {shown}", flush=True)
            if FLAGS.cuts:
                print(f"{name} seed {seed}: {predicted(name, seed, results[name][-1])}", flush=True)
    for name, outcomes in results.items():
        print(f"\n{name}, seeds {', '.join(FLAGS.seeds)}\n\n{table(outcomes)}")
    print(f"\nover {len(results)} problems\n\n{summary(results)}")


if __name__ == "__main__":
    app.run(main)
