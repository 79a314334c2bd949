"""The page of a run: whole, safe to open whatever its classes are called, with its figures and numbers, however much of it there is."""

import base64
import copy
import hashlib
import html
import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import jax
import matplotlib.image
import numpy as np
import pytest
from conftest import write_features
from test_pipeline import QUIET, small

from mmn_jax.metamodelnet.regressor import Regressor
from mmn_jax.pipeline import results, stages, table_formats
from mmn_jax.report import class_parts, classes, figures, practice, row_dynamics, row_figures, sections
from mmn_jax.report import page as report
from mmn_jax.report.examined import Examined, examine
from mmn_jax.store import artifacts, metrics_log

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$x^$",
    "a & b",
    "$name",
    "名前",
    "long " * 40,
    "two\nlines",
    "_x",
]
NAMES = HOSTILE + [f"class {c}" for c in range(len(HOSTILE), 20)]


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, texts, and the cells of every table by its id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.tables, self.cell, self.texts, self.name = [], [], {}, None, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "path", "use", "image", "input", "wbr"):
            self.open.append(tag)
        if tag == "table":
            self.name = dict(attributes)["id"]
            self.tables[self.name] = []
        if tag == "tr":
            self.tables[self.name].append([])
        if tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.tables[self.name][-1].append(self.cell)
            self.cell = None

    def handle_data(self, text):
        self.texts.append(text)
        if self.cell is not None:
            self.cell += text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs with the first table's rival on small data with hostile class names; returns config, workdir, seeds, table and page."""
    folder = tmp_path_factory.mktemp("report")
    arrays = dict(np.load(write_features(folder / "features.npz"))) | {"class_names": np.array(NAMES)}
    np.savez(folder / "features.npz", **arrays)
    config, workdir = small(folder / "features.npz"), artifacts.writable_directory(folder / "run")
    config.meta.strength, config.meta.task_weight, config.meta.steps = (1.0,), (1.0,), 100  # with which the chain moves rows
    with jax.numpy_dtype_promotion("standard"), metrics_log.written(workdir) as log:
        seeds = stages.run_seeds(config, workdir, QUIET._replace(log=log), "meta")
    table = results.collect(seeds, config)
    results.write(workdir, table, seeds)
    return config, workdir, seeds, results.read(workdir), report.write(workdir, seeds).read_text()


def test_the_page_is_whole_and_loads_nothing(run):
    parsed = Page(run[-1])
    assert not parsed.open and {"h1", "table", "svg", "figcaption"} <= {tag for tag, _ in parsed.tags}
    assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and "url(http" not in run[-1]
    targets = [attributes["href"][1:] for tag, attributes in parsed.tags if tag == "a"]
    assert len(targets) == 9 and set(targets) <= set(ids)


def test_the_only_script_is_the_one_that_the_policy_allows(run):
    parsed = Page(run[-1])
    assert [attributes for tag, attributes in parsed.tags if tag == "script"] == [{}] and report.SCRIPT in parsed.texts
    (policy,) = [attributes["content"] for tag, attributes in parsed.tags if attributes.get("http-equiv") == "Content-Security-Policy"]
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(report.SCRIPT.encode()).digest()).decode()}'" in policy
    assert "</script" not in report.SCRIPT and "default-src 'none'" in policy


def test_every_class_stands_on_the_page_with_its_numbers(run):
    _, _, _, table, page = run
    _, *rows = Page(page).tables["classes-table"]
    assert {row[0] for row in rows} == set(NAMES) and [int(row[1]) for row in rows] == sorted(table["counts"][0], reverse=True)
    for row in rows:
        c = NAMES.index(row[0])
        plain, mmn = (table["per_class"][name][0][c] for name in ("plain", "mmn"))
        low, high = map(float, row[5].split(" to "))
        assert row[1:5] == [str(table["counts"][0][c]), "15", f"{plain:.1f}", f"{mmn:.1f}"] and row[6] == f"{mmn - plain:+.1f}"
        assert low - 0.5 <= mmn <= high + 0.5
        assert (row[7] == "") == (mmn == 100) and row[7].rpartition(" (")[0] in {"", *NAMES} - {row[0]}
    groups = [attributes["data-g"] for tag, attributes in Page(page).tags if "data-g" in attributes]
    assert [groups.count(name) for name in ("many", "medium", "few")] == [table["groups"][name] for name in ("many", "medium", "few")]


def test_the_numbers_on_the_page_are_those_of_the_results(run):
    _, _, _, table, page = run
    parsed = Page(page)
    assert parsed.tables["methods-table"] == table_formats.rows(table) and table["config_hash"] in parsed.texts
    mmn, plain = table["methods"]["mmn"], table["methods"]["plain"]
    _, every, *_ = parsed.tables["gains"]
    gained = [table_formats.difference(mmn[key]) for key in ("vs_plain", "vs_logit_adjustment")]
    assert every == ["all (20)", f"{plain['accuracy']:.1f}", f"{mmn['accuracy']:.1f}", *gained]
    assert any(f"mmn classifies {mmn['accuracy']:.1f}%" in text and f"{plain['accuracy']:.1f}%" in text for text in parsed.texts)
    uniform = {row[0]: float(row[1].split()[0]) for row in parsed.tables["accuracy-by-prior"][1:]}
    assert uniform["plain"] == pytest.approx(plain["accuracy"], abs=0.06) and uniform["mmn"] == pytest.approx(mmn["accuracy"], abs=0.06)
    assert uniform["mmn with --prior=train"] != uniform["mmn"]


def test_groups_of_predictions_add_up(run):
    _, every, *groups = Page(run[-1]).tables["calibration-by-group"]
    assert every[1] == "300" and sum(int(row[1]) for row in groups) == 300
    for _, _, probability, correct, gap in (every, *groups):
        assert float(gap) == pytest.approx(float(probability.rstrip("%")) - float(correct.rstrip("%")), abs=0.11)


def test_the_page_begins_with_the_advice_of_the_table(run):
    _, _, _, table, page = run
    start = page.index('<section id="answer">')
    answer = html.unescape(page[start : page.index("</section>", start)])
    assert f"<strong>{table['advice']['sentences'][0]}</strong>" in answer
    assert all(line in answer for line in table["advice"]["sentences"])


def test_differences_in_words():
    assert practice.compared([2, 1, 3], "a", "b") == "a is 2.0 points more accurate than b (95% interval 1.0 to 3.0)."
    assert practice.compared([-2, -3, -1], "a", "b") == "a is 2.0 points less accurate than b (95% interval 1.0 to 3.0)."
    assert "a and b tie" in practice.compared([1, -1, 3], "a", "b")


def test_every_figure_is_a_picture_on_the_page_and_in_both_files(run):
    _, workdir, seeds, table, page = run
    names = {section.name for section in (*sections.of_results(table), *sections.of_dynamics(table, seeds[0]))}
    assert len(names) == 10 and names == {path.stem for path in (workdir / "figures").iterdir()}
    for name in names:
        picture = matplotlib.image.imread(workdir / "figures" / f"{name}.png")[..., :3]
        ink = (picture < 0.9).any(-1)
        assert picture.shape[1] == 960 and 0.005 < ink.mean() < 0.5 and ink.any(0).mean() > 0.7 and ink.any(1).mean() > 0.5, name
        svg = ElementTree.parse(workdir / "figures" / f"{name}.svg").getroot()
        assert len(list(svg.iter())) > 50 and f'id="{name}-figure_1"' in page


def test_nothing_is_fitted_again_and_the_page_is_the_same(run, monkeypatch):
    config, workdir, _, _, page = run

    def refuse(*_):
        raise AssertionError("something was made again")

    monkeypatch.setattr(artifacts, "save", refuse)
    with jax.numpy_dtype_promotion("standard"):
        again = stages.run_seeds(config, workdir, QUIET, "meta")
    assert report.write(workdir, again).read_text() == page


def with_rival(table):
    """The table as if `tau_norm` had been fitted, too."""
    table = copy.deepcopy(table)
    table["methods"]["tau_norm"] = table["methods"]["mmn"] | {"kind": "rival", "accuracy": 100.0}
    table["per_class"]["tau_norm"] = table["per_class"]["mmn"]
    table["methods"]["mmn"]["vs_best_rival"] = [0.0, -1.0, 1.0]
    return table


def test_the_best_rival_is_shown_where_there_are_rivals(run):
    _, _, _, table, _ = run
    for section in sections.of_results(with_rival(table)):
        assert "tau_norm" in figures.draw(section.make).svg or section.name == "gain_by_count"


def test_several_seeds_are_one_page(run):
    config, _, (seed,), _, _ = run
    table = results.collect([seed, seed._replace(seed=7)], config)
    pictures = [(section, figures.draw(section.make)) for section in sections.of_results(table)]
    parsed = Page(report.page(table, practice.parts(examine(table, seed)), pictures, []))
    assert "0, 7" in parsed.texts and parsed.tables["methods-table"] == table_formats.rows(table)
    assert any("averaged over seeds 0, 7" in text for text in parsed.texts) and any("2 seeds" in text for text in parsed.texts)


def test_without_a_chain_the_page_says_so(run):
    _, _, (seed,), table, _ = run
    norms, chain = sections.of_dynamics(table, seed._replace(learned=None))
    assert figures.draw(norms.make).png and chain.make is None
    page = report.page(table, [], [], [(chain, None)])
    assert sections.NO_CHAIN in Page(page).texts and "<svg" not in page


def test_a_chain_that_moves_nothing_has_no_figures(run):
    _, _, (seed,), table, _ = run
    still = seed.models["metamodelnet"]._replace(arrays={"theta": seed.learned.theta})
    norms, chain = sections.of_dynamics(table, seed._replace(models=seed.models | {"metamodelnet": still}))
    assert norms.name == "row_norms" and chain.make is None and chain.caption == sections.NO_MOVEMENT


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CLICKS = """
{
  const names = () => [...document.querySelectorAll("#classes tbody tr:not([hidden])")].map((row) => row.cells[0].textContent);
  const buttons = document.querySelectorAll("#classes th button"), seen = [];
  for (const column of [1, 1, 0]) { buttons[column].click(); seen.push(names()); }
  for (const [control, text, event] of [[search, "CLASS 1", "input"], [group, "few", "change"]]) {
    control.value = text; control.dispatchEvent(new Event(event)); seen.push(names());
  }
  document.title = JSON.stringify(seen);
}
"""


@pytest.mark.skipif(BROWSER is None, reason="needs a browser")
def test_a_browser_sorts_and_filters_the_table_of_classes(run, tmp_path, monkeypatch):
    _, _, (seed,), table, _ = run
    monkeypatch.setattr(report, "SCRIPT", report.SCRIPT + CLICKS)
    names = tuple(f"class {c}" for c in range(20))
    path = tmp_path / "report.html"
    path.write_text(report.page(table, class_parts.parts(examine(table, seed._replace(class_names=names))), [], []))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom"]
    dom = subprocess.run([BROWSER, *flags, path.as_uri()], capture_output=True, text=True, check=True, timeout=60).stdout
    down, up, by_name, found, few = json.loads(html.unescape(dom[dom.index("<title>") + 7 : dom.index("</title>")]))
    counts = dict(zip(names, table["counts"][0], strict=True))
    assert [counts[name] for name in down] == sorted(counts.values(), reverse=True)
    assert [counts[name] for name in up] == sorted(counts.values()) and by_name == list(names)
    assert found == [name for name in names if "class 1" in name] and few == [name for name in found if counts[name] < 20]


def wide(number, tested):
    """A run's results on `number` classes: random predictions of which half are right, of `tested` test examples of each class."""
    rng = np.random.default_rng(0)
    counts = np.maximum(1, (200 / np.arange(1, number + 1)).astype(int))
    y = np.repeat(np.arange(number), tested)
    made = {}
    for name in ("plain", "mmn"):
        label = np.where(rng.random(len(y)) < 0.5, y, rng.integers(number, size=len(y)))
        made[name] = classes.Predictions(label, rng.uniform(30, 100, len(y)), label)
    groups = {"many": counts > 100, "medium": (counts >= 20) & (counts <= 100), "few": counts < 20}
    zero = [0.0, -1.0, 1.0]
    method = {"accuracy": 50.0, **dict.fromkeys(groups, 50.0), "vs_logit_adjustment": None}
    method |= {"vs_plain": zero, "vs_plain_groups": dict.fromkeys(groups, zero)}
    table = {"methods": {"plain": method, "mmn": method}, "seeds": [0], "thresholds": {"few": 20, "many": 100}}
    table["groups"] = {name: int(mask.sum()) for name, mask in groups.items()}
    table["advice"] = {"take": "plain", "sentences": ["Take plain: no other method was clearly more accurate."]}
    names = tuple(f"<b>{c}</b>" for c in range(number))
    return Examined(table, names, "mmn", counts, y, made, groups, None)


def practical(seed):
    return [*practice.parts(seed), *class_parts.parts(seed)]


@pytest.mark.parametrize("number", [2, 8142])
def test_two_classes_and_thousands_have_a_page(number):
    parts = practical(wide(number, 3))
    parsed = Page("".join(part.content for part in parts))
    assert len(parsed.tables["classes-table"]) == number + 1 and "b" not in {tag for tag, _ in parsed.tags}
    assert sum(len(part.content) for part in parts if part.name != "classes") < 20_000
    assert sum(tag == "li" for tag, _ in parsed.tags) <= 2 * class_parts.WORST + 5


def test_plain_training_may_be_what_is_saved():
    seed = wide(5, 4)
    parsed = Page("".join(part.content for part in practical(seed._replace(shipped="plain"))))
    assert parsed.tables["gains"][0] == ["classes", "plain"]


def test_perfect_and_hopeless_classifiers_have_a_page():
    seed = wide(5, 4)
    for label in (seed.y, (seed.y + 1) % 5):
        made = {name: one._replace(label=label, at_train_prior=label) for name, one in seed.made.items()}
        texts = Page("".join(part.content for part in practical(seed._replace(made=made)))).texts
        assert ("mmn makes no mistake on the test examples." in texts) == (label is seed.y)


def test_what_all_rows_share_is_removed():
    theta = np.random.default_rng(0).normal(size=(3, 5, 4))
    np.testing.assert_allclose(row_dynamics.weights_of(theta + np.arange(4.0)), row_dynamics.weights_of(theta), atol=1e-12)
    np.testing.assert_allclose(row_dynamics.cosine(theta, -2 * theta), -1)
    assert row_dynamics.cosine(np.zeros(3), np.ones(3)) == 0


def test_norms_are_means_of_shot_levels_as_shares_of_the_head():
    theta = np.diag([1.0, 1.0, 2.0, 4.0, 0.0])[:, :4] - np.array([0, 0, 0, 0])
    norms = row_dynamics.norms({"a": theta, "b": 3 * theta}, np.array([1, 2, 3, 64, 200]))
    assert norms.labels == ["1", "2–3", "64+"] and norms.sizes == [1, 2, 2]
    np.testing.assert_allclose(norms.shares["a"], norms.shares["b"])
    assert np.average(norms.shares["a"], weights=norms.sizes) == pytest.approx(1)


def test_rows_of_the_bank_go_where_the_chain_takes_them_each_from_its_own_level(run):
    _, _, (seed,), _, _ = run
    times_k = Regressor(
        lambda *_: {}, lambda variables, theta, shots, context, train: (theta * shots[:, None].astype(theta.dtype), variables)
    )
    for shift in row_dynamics.shifts(seed.learned._replace(regressor=times_k, variables={}), most=2):
        assert shift.before.shape == (2, *shift.target.shape) and 0 < shift.held.sum() < len(shift.held)
        np.testing.assert_allclose(shift.after, shift.shots * shift.before, rtol=1e-4, atol=1e-5)


def test_similarity_and_paths_of_the_bank(run):
    _, _, (seed,), _, _ = run
    first, *_ = row_dynamics.shifts(seed.learned, most=2)
    like = row_dynamics.similarity([first._replace(before=first.target[None])])
    np.testing.assert_allclose(like.before_seen[0], 1, rtol=1e-5)
    np.testing.assert_allclose(like.before_held[0], 1, rtol=1e-5)
    assert len(like.after_held[0]) == first.held.sum() * len(first.after) > 0
    paths = row_dynamics.paths([first], seed.learned.theta, seed.learned.theta, seed.data.tail.counts, NAMES, lambda points: points[:, :2])
    np.testing.assert_allclose(paths.arrows[:, 0], paths.arrows[:, 1])
    assert paths.stations.shape == (5, 2, 2) and not set(paths.names) & set(paths.rare) and paths.steps == ["1", "θ*"]


def test_a_row_that_stays_has_no_arrow():
    cloud, arrows = np.arange(6.0).reshape(3, 2), np.array([[[0.0, 0.0], [1.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]])
    paths = row_dynamics.Paths(["a"], ["b", "c"], ["1", "θ*"], np.ones((1, 2, 2)), cloud, np.zeros(3, int), arrows)
    (axes,) = row_figures.trajectories(paths, "x").axes
    assert sum(text.arrow_patch is not None for text in axes.texts) == 1


def test_a_running_mean_of_equal_values_is_that_value():
    x = np.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(figures.running_mean(x, np.full(3, 2.5), np.linspace(0, 5, 9), 0.5), 2.5)


def test_figures_of_the_least_there_can_be():
    still = row_dynamics.Paths(["a"], ["b"], ["1", "θ*"], np.zeros((1, 2, 2)), np.zeros((3, 2)), np.zeros(3, int), np.zeros((1, 2, 2)))
    start = {"step": 0, "train": 1.0, "rows": 1.0, "task": 1.0, "loss": np.inf}
    for make in (
        lambda: row_figures.trajectories(still, "x"),
        lambda: row_figures.trajectories(still._replace(rare=[], arrows=np.zeros((0, 2, 2))), "x"),
        lambda: row_figures.similarity(row_dynamics.Similarity([1], [np.ones(3)], [np.ones(0)], [np.ones(3)], [np.ones(0)])),
        lambda: row_figures.movement([1], [None]),
        lambda: row_figures.training_curves({0: {"best_step": 0, "looks": [start, start | {"step": 5, "train": np.nan}]}}),
    ):
        assert figures.draw(make).png
