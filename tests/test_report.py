"""The page of a run: whole, safe to open whatever its classes are called, with its figures and numbers, however much of it there is."""

import copy
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
from mmn_jax.report import figures, row_dynamics, row_figures, sections
from mmn_jax.report import page as report
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
    """What a browser would make of it: tags with attributes, texts, and the cells of every table."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.tables, self.cell, self.texts = [], [], [], None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "path", "use", "image"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self.cell)
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
    with jax.numpy_dtype_promotion("standard"), metrics_log.written(workdir) as log:
        seeds = stages.run_seeds(config, workdir, QUIET._replace(log=log), "meta")
    table = results.collect(seeds, config)
    results.write(workdir, table, seeds)
    return config, workdir, seeds, results.read(workdir), report.write(workdir, seeds).read_text()


def test_the_page_is_whole_and_loads_nothing(run):
    parsed = Page(run[-1])
    assert not parsed.open and {"h1", "table", "svg", "figcaption"} <= {tag for tag, _ in parsed.tags}
    assert not {"script", "img", "link", "iframe", "object"} & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and "url(http" not in run[-1]


def test_class_names_stand_on_the_page_as_they_are(run):
    _, _, _, table, page = run
    (_, changed) = Page(page).tables
    assert {row[0] for row in changed[1:]} <= set(NAMES) and {row[0] for row in changed[1:]} & set(HOSTILE)
    classes = dict(zip(NAMES, table["counts"][0], strict=True))
    assert all(int(row[1]) == classes[row[0]] for row in changed[1:])


def test_the_numbers_on_the_page_are_those_of_the_results(run):
    _, _, _, table, page = run
    parsed = Page(page)
    assert parsed.tables[0] == table_formats.rows(table)
    mmn = table["methods"]["mmn"]
    assert any(f"mmn reaches {mmn['accuracy']:.1f}%" in text and f"{mmn['vs_plain'][0]:+.1f}" in text for text in parsed.texts)
    assert table["config_hash"] in parsed.texts


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
    assert "tau_norm" in report.headline(with_rival(table)) and "best rival (logit_adjustment)" in report.headline(table)


def test_several_seeds_are_one_page(run):
    config, _, (seed,), _, _ = run
    table = results.collect([seed, seed._replace(seed=7)], config)
    pictures = [(section, figures.draw(section.make)) for section in sections.of_results(table)]
    page = report.page(table, NAMES, pictures)
    assert "2 seeds" in page and "0, 7" in Page(page).texts and Page(page).tables[0] == table_formats.rows(table)


def test_without_a_chain_the_page_says_so(run):
    _, _, (seed,), table, _ = run
    norms, chain = sections.of_dynamics(table, seed._replace(learned=None))
    assert figures.draw(norms.make).png and chain.make is None
    page = report.page(table, NAMES, [(chain, None)])
    assert sections.NO_CHAIN in Page(page).texts and "<svg" not in page


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
