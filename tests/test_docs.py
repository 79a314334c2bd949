"""What the README and the docs promise exists: their commands, files, functions and settings.

Every command of every page is checked by its own flag parser (`COMMANDS`); what takes seconds on small data is run, too: the examples in
Python, and the predictions and exports of the tutorial. Runs of the pipeline, benchmarks and installations take minutes; they are run by
test_cli.py, test_benchmarks.py and .ci/run, the whole tutorial by a slow test here.
"""

import csv
import importlib
import json
import re
import shlex
import sys
import tomllib

import jax
import numpy as np
import pytest
from commands import SMALL, in_process
from conftest import ROOT, blobs

from mmn_jax.cli import diagnose, export, fit, main, predict, run
from mmn_jax.config import default
from mmn_jax.data import feature_files
from mmn_jax.store import artifacts

README = (ROOT / "README.md").read_text()
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def test_every_setting_named_in_the_docs_exists():
    settings = default()
    for page in (*PAGES, *(ROOT / "configs").glob("*.py")):
        for key in re.findall(r"--config\.([a-z0-9_.]+)=", page.read_text()):
            value = settings
            for part in key.split("."):
                assert part in value, f"{page.name} names --config.{key}"
                value = value[part]


def headings(page):
    """The anchors of a page, as GitHub and others make them of its headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


def test_every_file_named_in_the_docs_exists():
    for page in PAGES:
        for name in re.findall(r"`((?:mmn_jax|configs|bin|tests|docs|benchmarks|examples)/[\w./]*)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"
        for link, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text()):
            target = page.parent / link if link else page
            assert target.exists(), f"{page.name} links to {link}"
            assert not anchor or anchor in headings(target), f"{page.name} links to {link}#{anchor}"


def test_every_function_named_on_the_method_page_exists():
    page = (ROOT / "docs" / "method.md").read_text()
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "mmn_jax").rglob("*.py")]
    modules = {path.stem: ".".join(path.parts) for path in paths}
    named = re.findall(rf"(?<![-./\w])({'|'.join(modules)})\.(\w+)", page)
    assert len(named) > 30
    for module, function in named:
        assert hasattr(importlib.import_module(modules[module]), function), f"{module}.{function}"


def commands(page):
    """Every command of a page as words: in blocks of sh, in indented lines, and in the text where it begins with python or pip."""
    text = page.read_text()
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.S) for line in block.splitlines()]
    lines += re.findall(r"^ {4}(python .*(?:\n {8}--.*)*)", text, flags=re.M)
    lines += re.findall(r"`((?:\S*/)?(?:python|pip|mmn-jax) [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    for line in (line.replace("\\\n", " ") for line in lines):
        for command in shlex.join(shlex.split(line, comments=True)).split(" '&&' "):
            words = shlex.split(command)
            yield words[: words.index(">")] if ">" in words else words


def test_the_commands_of_the_pages_are_found():
    found = {page.stem: len(list(commands(page))) for page in PAGES}
    assert found["README"] > 12 and found["tutorial"] > 7 and found["speed"] >= 3 and found["regressors"] >= 3, found


def _installs(words):
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    for wanted in re.findall(r"(?:^|\s)(?:\.|mmn_jax)\[([\w,]+)\]", " ".join(words)):
        assert set(wanted.split(",")) <= extras, wanted


def _benchmark(script, words):
    flags = re.findall(r'(?:DEFINE_\w+|add_argument)\(\s*"(?:--)?(\w+)"', (ROOT / script).read_text())
    for word in words:
        assert word.removeprefix("--").partition("=")[0] in flags, f"{script} has no {word}"


PARSERS = {"predict": predict.parse, "export": export.parse, "diagnose": diagnose.parse, "fit": fit.parse}


def _module(name, words):
    if name == "mmn_jax.predict" and words:  # without, the text only names it
        predict.parse(words)
    else:
        assert name in ("mmn_jax.predict", "mmn_jax.cli.reference", "pytest", "venv"), name


def _script(words):
    assert f"  mmn-jax {words[0]} " in main.USAGE
    parsers = {"run": run.parse, **{name: lambda words, parse=parse: parse(words[1:]) for name, parse in PARSERS.items()}}
    if len(words) > 1 and words[0] in parsers:
        parsers[words[0]](words)


def check_command(words):
    """By what its program would say of its flags."""
    program, *rest = words
    program = program.rpartition("/")[2]
    if re.fullmatch(r"python(3(\.\d+)?)?", program):
        if rest[:2] == ["-m", "pip"]:
            _installs(rest[2:])
        elif rest[0] == "-m":
            _module(rest[1], rest[2:])
        elif rest[0] == "bin/run.py":
            run.parse([word.replace("=mine.py", "=configs/glyphs.py") for word in rest])  # a reader's own recipe
        else:
            _benchmark(rest[0], rest[1:])
    elif program == "pip":
        _installs(rest)
    elif program == "mmn-jax":
        _script(rest)
    else:
        assert program == "ruff", f"a command that no test knows: {words}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_every_page_has_flags_that_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        check_command(words)


def test_nothing_is_left_to_fill_in():
    for page in PAGES:
        assert not re.search(r"@@|TODO|<!-- \w+ -->\n<!-- end -->", page.read_text()), page


def test_every_module_says_what_it_is_for():
    for path in (*(ROOT / "mmn_jax").rglob("*.py"), *(ROOT / "configs").glob("*.py")):
        assert path.read_text().lstrip().startswith('"""'), path


sys.path.append(str(ROOT / "benchmarks"))  # benchmarks import each other


def leaderboard():
    return importlib.import_module("leaderboard")


def test_the_classifier_of_the_readme_fits_predicts_and_grows():
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    x, y = blobs(0, [30, 20, 10, 5, 3, 2], 6, spread=1.5)
    names = {"X": x[y < 5], "y": np.array(list("abcde"))[y[y < 5]], "X_new": x, "X_few": x[y == 5]}
    exec(block, names)
    assert names["probabilities"].shape == (len(x), 5) and set(names["labels"]) <= set("abcde")
    assert "okapi" in names["model"].set_params(prior="uniform").predict(x[y == 5])


def test_tables_go_between_their_markers_and_nowhere_else():
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n<!-- y -->\nkept\n<!-- end -->\n"
    assert leaderboard().fill(page, "x", "new") == page.replace("old", "\nnew\n")
    for name in ("glyphs", "clinc150", "cifar100", "folds"):
        assert f"<!-- {name} -->\n" in (ROOT / "docs" / "leaderboard.md").read_text()


def test_the_loss_by_folds_is_over_the_seeds_that_both_runs_have():
    def table(seeds, accuracies):
        return {"seeds": seeds, "methods": {"plain": {"accuracy_per_seed": accuracies}}}

    lines = leaderboard().loss_by_folds(table([0, 1, 2], [50.0, 60.0, 90.0]), table([1, 0], [58.0, 48.0])).splitlines()
    assert lines[-1] == "| plain | 55.0 | 53.0 | -2.0 |" and "[1, 0]" in lines[0]


def test_the_table_of_the_accelerator_is_the_one_that_was_measured():
    accelerator = importlib.import_module("accelerator")
    page, record = (ROOT / "docs" / "speed.md").read_text(), accelerator.read(ROOT / "docs" / "accelerator.json")
    assert page == accelerator.fill(page, "accelerator", accelerator.as_markdown(record))
    assert accelerator.as_markdown({}) == "not measured"


EXTEND = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extend_the_regressor.md").read_text(), flags=re.S)


def test_the_regressor_of_the_docs_trains_and_moves_rows(capsys):
    recipe, episodes, *_ = EXTEND
    assert len(recipe.strip().splitlines()) <= 20
    x, y = blobs(0, [40] * 8 + [12] * 8 + [3] * 4, 6, spread=2.0)
    names = {"X": x, "y": y, "X_test": x, "y_test": y}
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        exec(recipe + episodes, names)
    assert names["moved"].shape == (20, 7) and np.isfinite(names["moved"]).all()
    assert np.abs(names["variables"]["params"]["log_scale"]).max() > 0 and not np.allclose(names["moved"], names["theta"])
    assert names["report"].best_step > 0
    assert all(0 < float(accuracy) <= 100 for accuracy in capsys.readouterr().out.split())


def test_the_weighting_and_the_batch_of_the_docs_are_solved():
    x, y = blobs(0, [40, 20, 10, 5], 6, spread=2.0)
    names = {"X": x, "y": y, "X_test": x, "y_test": y}
    exec(EXTEND[2], names)
    trials = {trial["power"]: trial["val_accuracy"] for trial in names["model"].record_["trials"]}
    assert set(trials) == {0.0, 0.5, 1.0} and names["model"].record_["gradient_norm"] <= 1e-6
    exec(EXTEND[3], names)
    assert names["rows"].shape == (3, 4, 7) and names["info"].gradient_norm.max() <= 1e-5


@pytest.mark.slow
def test_the_recipe_of_the_docs_puts_its_regressor_into_the_table(feature_file, tmp_path):
    recipe, workdir = tmp_path / "mine.py", tmp_path / "run"
    recipe.write_text(EXTEND[0])
    flags = [f"--config={recipe}", f"--config.data.path={feature_file}", f"--workdir={workdir}", *SMALL, "--config.meta.rate=0.1"]
    assert in_process(*flags, "--config.kshot.min_classes=5", "--config.eval.draws=100") == 0
    tuned = json.loads((workdir / "results.json").read_text())["methods"]["metamodelnet"]["tuned"]
    assert tuned["regressor"] == ["stretch"] and tuned["movement"] == [[]] and "fallback" not in tuned
    (chain,) = workdir.glob("seed-0/chain-0-*")
    assert np.abs(artifacts.restore(chain)[0]["params"]["log_scale"]).max() > 0
    recipe.write_text(recipe.read_text().replace("jnp.exp", "jnp.expm1"))  # another text is another regressor
    assert in_process(*flags, "--config.kshot.min_classes=5", "--config.eval.draws=100") == 0
    assert len(list(workdir.glob("seed-0/chain-0-*"))) == 2 and len(list(workdir.glob("seed-0/bank-1-*"))) == 1


TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()
SENTENCES, RECIPE, DEPLOY, LATER, MORE, WITH_MORE = re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.S)


def write_sentences(path, per_class):
    """Sentences of some classes, each with words of its own beside common ones."""
    rng = np.random.default_rng(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for c, count in enumerate(per_class):
            for _ in range(count):
                words = [f"word{c}x{i}" for i in rng.integers(5, size=4)] + [f"common{i}" for i in rng.integers(20, size=4)]
                writer.writerow([" ".join(words), f"class {c}"])


def tutorial_command(name):
    """Returns the flags of the tutorial's command, `mmn-jax NAME` or `python -m mmn_jax.NAME`."""
    spelled = ((words, how) for words in commands(ROOT / "docs" / "tutorial.md") for how in (name, f"mmn_jax.{name}"))
    (found,) = {tuple(words[words.index(how) + 1 :]) for words, how in spelled if how in words[:-1]}
    return list(found)


def test_the_tutorial_s_features_predictions_and_deployed_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sentences("sentences.csv", [12, 8, 4, 3, 1])
    exec(SENTENCES, {})
    data = np.load("features.npz")
    assert np.bincount(data["train_y"]).tolist() == [9, 6, 3, 3, 1] and np.bincount(data["test_y"]).tolist() == [3, 2, 1]
    exec(MORE, {})
    more = feature_files.load("more.npz").knowledge
    assert more.descriptions is not None and more.unlabelled is not None and len(more.unlabelled) == len(data["train_x"][:100])
    names = {}
    exec(RECIPE, names)
    assert names["get_config"]().data.path == "features.npz"
    means = np.stack([data["train_x"][data["train_y"] == c].mean(0) for c in range(5)])  # a classifier as good as any here
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    arrays = {"W": means, "b": -0.5 * (means**2).sum(1), "class_names": data["class_names"], "temperature": np.float32(1)}
    np.savez(folder / "classifier.npz", **arrays, mean=0 * means[0], scale=1 + 0 * means[0])
    np.savez("new.npz", x=data["test_x"])
    assert predict.main(tutorial_command("predict")) == 0
    (tmp_path / "deployed").mkdir()
    (tmp_path / "deployed" / "classifier.npz").write_bytes((folder / "classifier.npz").read_bytes())
    exec(DEPLOY, names)
    with open("predictions.csv", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == names["classify"](data["test_x"]).tolist()


@pytest.mark.slow
def test_the_whole_tutorial(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sentences("sentences.csv", [40, 30, 20, 16, 12, 12, 12, 8, 8, 5, 4, 4])
    exec(SENTENCES, {})
    data = np.load("features.npz")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    small = [
        "--config.seeds=0",
        "--config.heads.l2=1e-2,1e-4",
        "--config.kshot.subsets=4,3",
        "--config.meta.steps=20",
        "--config.eval.draws=100",
    ]
    with jax.numpy_dtype_promotion("standard"):
        assert diagnose.main(tutorial_command("diagnose")) == 0
        for words in commands(ROOT / "docs" / "tutorial.md"):
            if "bin/run.py" in words:
                assert run.main([word for word in words[1:] if "seeds" not in word] + small) == 0  # one is enough here
    np.savez("new.npz", x=data["test_x"])
    assert predict.main(tutorial_command("predict")) == export.main(tutorial_command("export")) == 0
    names = {}
    exec(DEPLOY, names)
    with open("predictions.csv", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == names["classify"](data["test_x"]).tolist()
    np.save("few.npy", data["test_x"][:3])
    exec(LATER, names)
    assert "okapi" in names["model"].classes_
    exec(MORE, names)
    exec(WITH_MORE, names)
    assert names["model"].method_ == "mmn_all" and "quagga" in names["model"].classes_


def test_the_example_goes_from_arrays_to_transferred_rows_with_the_public_names_alone(capsys):
    text = (ROOT / "examples" / "metamodelnet.py").read_text()
    imports = {word.partition(".")[0] for word in re.findall(r"^(?:import|from) (\S+)", text, flags=re.M)}
    method, own = text.split("def nearest(")
    assert imports == {"jax", "numpy", "mmn_jax"} and len(method.splitlines()) <= 40 and len(own.splitlines()) <= 20
    small = 'synthetic.make("small", classes=30, dim=8, largest=40, median=12, test_per_class=5)'
    few = (
        text.replace("glyphs.load()", small)
        .replace("imbalance=100, max_per_class=200", "imbalance=10, max_per_class=16")
        .replace("shot_ladder(counts)", "shot_ladder(counts, top=0)")
    )
    assert small in few and "=16" in few and "top=0" in few
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        exec(few, {"__name__": "example"})
    plain, moved, own = map(float, re.findall(r"\d+\.\d", capsys.readouterr().out))
    assert min(plain, moved, own) > 10  # of 30 classes
