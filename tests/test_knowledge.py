"""Descriptions of classes and examples without labels, from files and arguments to the methods that use them."""

import json

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from commands import own, run
from test_mean_prior import CLASSES, COUNTS, described_classes, draw

from mmn_jax.cli import fit as fit_command
from mmn_jax.data import descriptions, feature_files
from mmn_jax.data.descriptions import describe_names
from mmn_jax.errors import BadInput
from mmn_jax.estimator import TailClassifier
from mmn_jax.linear.relations import relations
from mmn_jax.pipeline import known
from mmn_jax.report import card, sections
from mmn_jax.store.classifier import load_classifier
from mmn_jax.types import Examples, FeatureSet, Knowledge

DESCRIPTIONS, MEANS = described_classes()
TRAIN, TEST, POOL = draw(MEANS, COUNTS), draw(MEANS, np.full(CLASSES, 25), seed=2), draw(MEANS, np.full(CLASSES, 20), seed=4)
VAL = draw(MEANS, np.full(CLASSES, 10), seed=6)
ARRAYS = {"train_x": TRAIN.x, "train_y": TRAIN.y, "test_x": TEST.x, "test_y": TEST.y}
QUICK = ["--config.heads.l2=1e-2,1e-4", "--config.tuning.budget=2", "--config.eval.draws=100", "--config.data.val_per_class=5"]


def loaded(**others):
    said = []
    return feature_files.from_arrays(**ARRAYS, **others, name="mine.npz", say=said.append), said


def test_names_that_share_words_or_letters_are_related():
    kernel = relations(
        describe_names(["Aves/Corvus corax", "Aves/Corvus corone", "Felis catus", "pay_bill", "billPayment", "Größe 3"])
    ).kernel()
    assert kernel[0, 1] > 0.3 > kernel[0, 2] and kernel[3, 4] > 0.2 > kernel[3, 0]


@pytest.mark.parametrize("names", [["0", "1", "10", "11"], ["class_7", "class_17", "class_170"], ["?", "!!"]])
def test_names_that_tell_nothing_describe_nothing(names):
    assert describe_names(names) is None


def test_many_names_have_descriptions_of_bounded_size(monkeypatch):
    monkeypatch.setattr(descriptions, "DIMENSIONS", 20)
    rng = np.random.default_rng(0)
    names = ["".join(rng.choice(list("abcdefghij"), 9)) for _ in range(60)]
    assert describe_names(names).shape == (60, 20)


def test_files_carry_descriptions_and_unlabelled_examples(tmp_path):
    np.savez(tmp_path / "mine.npz", **ARRAYS, class_embeddings=DESCRIPTIONS, unlabeled_x=POOL.x.astype(float))
    (tmp_path / "folder").mkdir()
    for name, array in {**ARRAYS, "class_embeddings": DESCRIPTIONS, "unlabelled_x": POOL.x}.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    for path in (tmp_path / "mine.npz", tmp_path / "folder"):
        known = feature_files.load(path).knowledge
        np.testing.assert_array_equal(known.descriptions, DESCRIPTIONS)
        np.testing.assert_array_equal(known.unlabelled, POOL.x)
    prints = {feature_files.fingerprint(loaded(**given)[0]) for given in ({}, {"class_embeddings": DESCRIPTIONS}, {"unlabelled_x": POOL.x})}
    assert len(prints) == 3


NAMES = np.array([f"kind {c:02d}" for c in range(CLASSES)])  # sorted


def write(path, x, y=None, column="features", **others):
    table = {column: list(x), **({} if y is None else {"label": y}), **others}
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(table), path)


def write_folder(folder, labels, order):
    write(folder / "train.parquet", TRAIN.x, labels[TRAIN.y])
    write(folder / "test.parquet", TEST.x, labels[TEST.y])
    write(folder / "class_embeddings.parquet", DESCRIPTIONS[order], labels[order], "embedding")


@pytest.mark.parametrize("labels", [NAMES, np.arange(CLASSES)])
def test_parquet_folders_carry_them_in_files_of_their_own(tmp_path, labels):
    order = np.random.default_rng(0).permutation(CLASSES)
    write_folder(tmp_path / "mine", labels, order)
    for i, half in enumerate(np.array_split(POOL.x, 2)):
        write(tmp_path / "mine" / f"Unlabeled-0000{i}-of-00002.parquet", half)
    features = feature_files.load(tmp_path / "mine")
    assert features.class_names == tuple(map(str, labels.tolist()))
    np.testing.assert_allclose(features.knowledge.descriptions, DESCRIPTIONS, rtol=1e-6)
    np.testing.assert_array_equal(features.knowledge.unlabelled, POOL.x)
    some, said = order[:30], []
    write(tmp_path / "mine" / "class_embeddings.parquet", DESCRIPTIONS[some], labels[some], "embedding")
    known = feature_files.load(tmp_path / "mine", say=said.append).knowledge
    assert said == [f"{tmp_path / 'mine'}: class_embeddings: 10 of 40 rows are all zeros; these classes are taken to have no description"]
    np.testing.assert_array_equal(known.descriptions.any(1), np.isin(np.arange(CLASSES), some))


def test_a_parquet_file_has_unlabelled_rows_by_its_split(tmp_path):
    x, labels = np.concatenate([TRAIN.x, TEST.x, POOL.x]), [*NAMES[TRAIN.y], *NAMES[TEST.y], *[None] * len(POOL.x)]
    split = np.repeat(["train", "test", "unlabelled"], [len(TRAIN.x), len(TEST.x), len(POOL.x)])
    write(tmp_path / "mine.parquet", x, labels, split=split)
    features = feature_files.load(tmp_path / "mine.parquet")
    np.testing.assert_array_equal(features.knowledge.unlabelled, POOL.x)
    np.testing.assert_array_equal(features.train.y, TRAIN.y)


def test_what_describes_the_classes_is_no_training_example(tmp_path):
    write(tmp_path / "mine" / "all.parquet", TRAIN.x, NAMES[TRAIN.y])
    write(tmp_path / "mine" / "class_embeddings.parquet", DESCRIPTIONS, NAMES, "embedding")
    features = feature_files.load(tmp_path / "mine", needs_test=False)
    assert len(features.train.y) == len(TRAIN.y) and features.knowledge.descriptions.shape == DESCRIPTIONS.shape


BAD_PARQUET = {
    "unknown": (NAMES, "other", r"class_embeddings \(.*\) has the name 'other', which train doesn't have"),
    "number": (np.arange(CLASSES), 40, r"column label of class_embeddings has label 40, but there are 40 classes \(0 to 39\)"),
    "twice": (np.arange(CLASSES), 3, r"column label of class_embeddings has two rows of class 3; give one for each class"),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_bad_descriptions_in_parquet_are_refused_in_a_line(tmp_path, case):
    labels, extra, message = BAD_PARQUET[case]
    write_folder(tmp_path / "mine", labels, np.arange(CLASSES))
    write(tmp_path / "mine" / "class_embeddings.parquet", DESCRIPTIONS[[0, *range(CLASSES)]], [extra, *labels.tolist()], "embedding")
    with pytest.raises(BadInput, match=message):
        feature_files.load(tmp_path / "mine")
    write(tmp_path / "mine" / "class_embeddings.parquet", DESCRIPTIONS, labels)
    with pytest.raises(BadInput, match=r"class_embeddings.parquet: column embedding is missing, it has features, label"):
        feature_files.load(tmp_path / "mine")


BAD = {
    "rows": ({"class_embeddings": DESCRIPTIONS[1:]}, r"mine.npz: class_embeddings: has 39 rows, there are 40 classes; give one for each"),
    "NaN": (
        {"class_embeddings": np.where(np.arange(40)[:, None] == 3, np.nan, DESCRIPTIONS)},
        r"class_embeddings: .* NaN .* in row 3; give",
    ),
    "text": ({"class_embeddings": np.full((40, 2), "a")}, r"class_embeddings: must be \[C, m\] numbers"),
    "dimensions": ({"unlabelled_x": POOL.x[:, 1:]}, r"mine.npz: unlabelled_x: has 23 dimensions, train_x 24; make both in the same way"),
    "infinite": ({"unlabelled_x": POOL.x * np.where(np.arange(800) == 5, np.inf, 1)[:, None]}, r"unlabelled_x: has a value .* in row 5"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_in_a_line(case):
    given, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        loaded(**given)


def test_descriptions_that_say_nothing_are_left_out_with_a_line():
    features, said = loaded(class_embeddings=np.ones((CLASSES, 3)))
    assert features.knowledge.descriptions is None and said == ["mine.npz: class_embeddings: not used, as all rows are the same or zero"]
    features, said = loaded(class_embeddings=np.where(np.arange(CLASSES)[:, None] < 2, 0, DESCRIPTIONS))
    assert features.knowledge.descriptions is not None and "2 of 40 rows are all zeros" in said[0]


def mean_recall(model, least=0):
    right = model.predict(TEST.x) == TEST.y
    return 100 * right[TEST.y >= least].mean()


def test_the_estimator_uses_what_is_known():
    def fit(method="mmn", **known):
        model = TailClassifier(method, l2=(1e-2, 1e-4), budget=2, random_state=0)
        return model.fit(TRAIN.x, TRAIN.y, X_val=VAL.x, y_val=VAL.y, **known)

    plain, named = fit(), fit(class_embeddings=DESCRIPTIONS)
    both = fit(class_embeddings=DESCRIPTIONS, X_unlabelled=POOL.x)
    assert mean_recall(named, 30) > mean_recall(plain, 30) + 3 and mean_recall(both) > mean_recall(plain) + 3
    np.testing.assert_array_equal(
        fit("mmn_all", class_embeddings=DESCRIPTIONS, X_unlabelled=POOL.x).arrays_["theta"], both.arrays_["theta"]
    )
    with pytest.raises(BadInput, match=r"^X_unlabelled: 'mmn_names' doesn't use it; leave it out, or take method='mmn'"):
        fit("mmn_names", class_embeddings=DESCRIPTIONS, X_unlabelled=POOL.x)
    with pytest.raises(BadInput, match=r"^X_unlabelled: 'mmn_unlabelled' needs it; give it to fit"):
        fit("mmn_unlabelled")
    with pytest.raises(BadInput, match=r"^class_embeddings: has 2 rows, there are 40 classes"):
        fit(class_embeddings=DESCRIPTIONS[:2])


def test_descriptions_are_given_by_label_too():
    names = [f"kind {c:02}" for c in range(CLASSES)]
    y, by_label = np.array(names)[TRAIN.y], dict(zip(names, DESCRIPTIONS, strict=True))
    backwards = dict(reversed(by_label.items()))

    def rows(given):
        return TailClassifier(l2=1e-2, budget=1, folds=2, random_state=0).fit(TRAIN.x, y, class_embeddings=given).arrays_["theta"]

    expected = rows(DESCRIPTIONS)
    frame = pandas.DataFrame.from_dict(backwards, orient="index")
    for given in (backwards, frame, pandas.DataFrame(DESCRIPTIONS)):
        np.testing.assert_array_equal(rows(given), expected)
    start = r"^class_embeddings: must have one vector, zeros where there is none, for the label of each class, but "
    for given, wrong in (
        ({name: vector for name, vector in by_label.items() if name != "kind 07"}, start + "'kind 07' is missing"),
        ({**by_label, "kind 7": DESCRIPTIONS[7]}, start + "'kind 7' is not a class"),
        (pandas.concat([frame, frame[:1]]), "^class_embeddings: .* some labels are repeated"),
        ({**by_label, "kind 07": DESCRIPTIONS[7, :2]}, r"^class_embeddings: must have vectors of one length, but 'kind 00' has shape"),
    ):
        with pytest.raises(BadInput, match=wrong):
            rows(given)


def test_labels_that_are_text_describe_themselves_to_mmn_names():
    words = np.array([f"{'left' if c % 2 else 'right'} side {'abcdefghij'[c % 10] * 4}" for c in range(CLASSES)])
    names = np.array([f"{word} {c}" for c, word in enumerate(words)])
    model = TailClassifier("mmn_names", l2=1e-2, budget=1, folds=2, random_state=0).fit(TRAIN.x, names[TRAIN.y])
    assert (model.predict(TEST.x) == names[TEST.y]).mean() > 0.5


@pytest.fixture(scope="module")
def known_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("known") / "mine.npz"
    np.savez(path, **ARRAYS, class_embeddings=DESCRIPTIONS, unlabelled_x=POOL.x)
    return path


def test_a_run_fits_the_informed_methods_and_saves_what_validation_prefers(known_file, tmp_path):
    methods = ["mmn", "mmn_names", "mmn_unlabelled", "mmn_all"]
    done = run(*own(known_file, tmp_path, *QUICK, f"--config.methods={','.join(methods)},plain"))
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "results.json").read_text())
    assert [table["methods"][name]["kind"] for name in methods] == ["ours"] * 4
    accuracy = {name: table["methods"][name]["accuracy"] for name in methods}
    assert accuracy["mmn_all"] > accuracy["mmn"] and table["classifier"] in methods[1:]
    assert table["knowledge"] == {"described_by": "class_embeddings", "dimensions": 4, "unlabelled": 800, "tested_too": 0}
    assert [table["methods"][name]["needs"] for name in methods] == [[], ["descriptions"], ["unlabelled"], ["descriptions", "unlabelled"]]
    page = card.as_markdown(load_classifier(str(tmp_path)), table | {"classifier": "mmn_all"}, ("classifier.npz",))
    both = "descriptions of the classes (class_embeddings in 4 dimensions) and 800 examples without labels"
    assert f"- Beside labelled examples, it used {both}\n" in page and "estimates of the class means by what else was known" in page
    assert "Beside labelled" not in card.as_markdown(load_classifier(str(tmp_path)), table | {"classifier": "mmn"}, ("classifier.npz",))
    assert f"mmn_all also used {both}." in sections.of_results(table)[0].caption
    held = np.load(tmp_path / "classifier.npz")
    predicted = ((TEST.x - held["mean"]) * held["scale"] @ held["W"].T + held["b"]).argmax(1)
    right = [100 * (predicted[TEST.y == c] == c).mean() for c in range(CLASSES)]
    np.testing.assert_allclose(np.mean(right), accuracy[table["classifier"]], atol=1e-6)
    chosen = run(*own(known_file, tmp_path, *QUICK, f"--config.methods={','.join(methods)},plain", "--config.eval.classifier=mmn"))
    assert chosen.returncode == 0 and json.loads((tmp_path / "results.json").read_text())["classifier"] == "mmn"


def test_what_was_known_is_said_in_words():
    features = FeatureSet("mine", TRAIN, None, Examples(*TEST), tuple(NAMES), Knowledge(DESCRIPTIONS, np.concatenate([POOL.x, TEST.x[:7]])))
    table = {"knowledge": known.known_of(features, known.NAMES)._asdict()}
    assert known.in_words(table, ["descriptions"]) == "descriptions of the classes (TF-IDF of their names)"
    assert known.in_words(table, ["unlabelled"]) == "807 examples without labels, 7 of them test examples"
    assert known.in_words(table, []) == known.in_words({}, []) == ""
    assert known.known_of(features._replace(knowledge=Knowledge()), known.NAMES) == known.Known()


def test_unlabelled_examples_that_are_tested_on_are_refused(tmp_path):
    path = tmp_path / "leak.npz"
    np.savez(path, **ARRAYS, unlabelled_x=np.concatenate([POOL.x, TEST.x[:7]]))
    refused = run(*own(path, tmp_path / "a", *QUICK, "--config.methods=plain"))
    assert refused.returncode == 2 and "7 rows of unlabelled_x are also in test_x" in refused.stderr
    meant = run(*own(path, tmp_path / "a", *QUICK, "--config.methods=plain", "--config.data.transductive=true"))
    assert meant.returncode == 0 and "transductive: 7 rows" in meant.stdout


def test_the_command_that_fits_alone_uses_what_the_features_hold(tmp_path):
    np.savez(tmp_path / "described.npz", **ARRAYS, class_embeddings=DESCRIPTIONS)

    def fit(*flags):
        return fit_command.main([f"--features={tmp_path / 'described.npz'}", f"--out={tmp_path / 'fitted'}", *flags])

    assert fit() == 0
    held = np.load(tmp_path / "fitted" / "classifier.npz")
    model = TailClassifier(random_state=0).fit(TRAIN.x, TRAIN.y, class_embeddings=DESCRIPTIONS)
    assert model.method_ == "mmn_names"
    predicted = ((TEST.x - held["mean"]) * held["scale"] @ held["W"].T + held["b"]).argmax(1)
    assert (predicted == model.predict(TEST.x)).mean() > 0.98
    assert fit("--method=plain") == 2


def test_a_method_without_what_it_needs_is_refused(feature_file, tmp_path):
    refused = run(*own(feature_file, tmp_path, *QUICK, "--config.methods=mmn_unlabelled"))
    assert refused.returncode == 2 and "--config.methods: mmn_unlabelled needs unlabelled_x; add that to the features" in refused.stderr


@pytest.mark.parametrize("width", [4, 24])
def test_zero_shot_is_in_the_table_where_descriptions_may_lie_among_the_features(tmp_path, width):
    np.savez(tmp_path / "mine.npz", **ARRAYS, class_embeddings=np.resize(MEANS, (CLASSES, width)))
    done = run(*own(tmp_path / "mine.npz", tmp_path / "run", *QUICK, "--config.methods=plain,zero_shot"))
    assert done.returncode == (0 if width == 24 else 2), done.stderr
    if width == 24:
        assert json.loads((tmp_path / "run" / "results.json").read_text())["methods"]["zero_shot"]["kind"] == "rival_informed"
    else:
        assert "--config.methods: zero_shot needs class_embeddings with as many dimensions as the features; leave" in done.stderr
