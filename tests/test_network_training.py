"""Networks of our own: how images are changed, the schedule and the loss, that they learn, go on where they were stopped and give the
same network again."""

import json
import shutil

import jax
import numpy as np
import pytest
import scipy.special

from mmn_jax.errors import BadInput
from mmn_jax.store.checkpoints import Checkpoints, open_checkpoints
from mmn_jax.types import Examples
from mmn_jax.vision import augment, network_training, networks
from mmn_jax.vision.augment import Strength
from mmn_jax.vision.network_training import ImageTask, Recipe

STILL = Strength(0.0, 0.0, 0.0, 0.0, 0.0)
NETWORK = networks.Plain(8, (4, 8), 4)
SMALL = Recipe(dim=8, widths=(4, 8), epochs=60.0, rate=1e-2, held_out=0.2)  # as in test_features_stage.py


def bars(n, seed=0):
    """uint8 [n, 16, 16, 1] and labels: a bar that lies or stands, left or right, or above or below the middle."""
    rng = np.random.default_rng(seed)
    x, y = np.zeros((n, 16, 16, 1), np.uint8), rng.integers(0, 4, n).astype(np.int32)
    for image, label, at in zip(x, y, rng.integers(2, 5, n), strict=True):
        line = at if label % 2 == 0 else 15 - at
        image[(line, slice(3, 13)) if label < 2 else (slice(3, 13), line)] = 255
    return x, y


def centre(image):
    weights = image.astype(float).reshape(16, 16)
    return np.array([(weights.sum(1 - axis) * np.arange(16)).sum() for axis in (0, 1)]) / weights.sum()


def blob():
    image = np.zeros((1, 16, 16, 1), np.uint8)
    image[0, 6:10, 5:11] = 255
    return image


def test_without_strength_nothing_is_distorted():
    x = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 1)).astype(np.uint8)
    np.testing.assert_array_equal(augment.distort(jax.random.key(0), x, STILL), x)


def test_each_image_is_distorted_in_its_own_way_and_again_the_same():
    x = np.repeat(blob(), 64, 0)
    one, two = (np.asarray(augment.distort(jax.random.key(seed), x, Strength())) for seed in (0, 0))
    np.testing.assert_array_equal(one, two)
    assert len({image.tobytes() for image in one}) == 64 and one.dtype == np.uint8


@pytest.mark.parametrize("field", Strength._fields)
def test_each_distortion_does_what_its_name_says_and_no_more_than_its_strength(field):
    x, strength = np.repeat(blob(), 64, 0), STILL._replace(**{field: 0.2})
    made = np.asarray(augment.distort(jax.random.key(1), x, strength))
    moved = np.abs([centre(image) - centre(x[0]) for image in made])
    ink = made.sum((1, 2, 3)) / x[0].sum()
    if field == "shift":
        assert 1.0 < moved.max() <= 0.2 * 16 + 0.1 and np.abs(ink - 1).max() < 0.02
    else:
        assert moved.max() < 0.1 and (made != x).any()
    if field == "scale":
        assert 0.64 < ink.min() < 0.9 < 1.1 < ink.max() < 1.55
    if field == "weight":  # a rim of one pixel around 4 by 6 has 24 of them, and their corners; its own rim has 16
        assert 1 - 0.2 * 16 / 24 - 0.01 < ink.min() < 0.95 < 1.05 < ink.max() < 1 + 0.2 * 24 / 24 + 0.01
    if field in ("turn", "slant"):
        assert np.abs(ink - 1).max() < 0.05


def test_a_cropped_image_is_a_window_of_the_framed_one_and_perhaps_its_mirror_image():
    x = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype(np.uint8)
    made = np.asarray(augment.crop_and_flip(jax.random.key(0), x, 2))
    assert made.shape == x.shape and made.dtype == np.uint8
    framed = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    windows = {(i, j, flip): framed[:, i : i + 8, j : j + 8][:, :, :: 1 - 2 * flip] for i in range(5) for j in range(5) for flip in (0, 1)}
    found = [next(where for where, window in windows.items() if (window[n] == made[n]).all()) for n in range(64)]
    assert {i for i, *_ in found} == {j for _, j, _ in found} == set(range(5)) and 16 < sum(flip for *_, flip in found) < 48
    np.testing.assert_array_equal(made, augment.crop_and_flip(jax.random.key(0), x, 2))


def test_the_loss_is_cross_entropy_of_adjusted_logits_among_the_known_classes():
    rng = np.random.default_rng(0)
    logits, y, known = rng.normal(size=(7, 5)).astype(np.float32), rng.integers(0, 3, 7), np.array([True, True, True, False, False])
    offset = np.log(np.array([10, 5, 1, 1, 1]) / 16).astype(np.float32)
    log_p = scipy.special.log_softmax(logits[:, :3] + offset[:3], 1)
    direct = -(0.9 * log_p[np.arange(7), y] + 0.1 * log_p.mean(1)).mean()
    value, slope = jax.value_and_grad(network_training.adjusted_loss)(logits, y, known, offset, 0.1)
    np.testing.assert_allclose(value, direct, rtol=1e-5)
    assert np.isfinite(slope).all() and (np.asarray(slope)[:, 3:] == 0).all() and (np.asarray(slope)[:, :3] != 0).all()


def test_the_rate_goes_up_to_its_peak_and_down():
    with jax.numpy_dtype_promotion("standard"):  # optax's schedule itself mixes dtypes
        rates = network_training.one_cycle(100, 2.0)
        assert [len(network_training.one_cycle(steps, 2.0)) for steps in (1, 2, 3)] == [1, 2, 3]
    assert rates.dtype == np.float32 and rates.max() == 2.0 and rates.argmax() == 30
    assert (np.diff(rates[:30]) > 0).all() and (np.diff(rates[30:]) < 0).all()
    assert 0.002 < rates[-1] < 0.01 and rates[0] == pytest.approx(0.08)


@pytest.mark.parametrize(("kind", "widths"), [(networks.Plain, (4, 4, 4, 4)), (networks.Residual, (4, 8, 16, 32))])
def test_images_too_small_for_the_network_are_refused(kind, widths):
    assert network_training.begin(jax.random.key(0), kind(8, widths, 2), (16, 16))
    with pytest.raises(BadInput, match=r"--config.features.widths: 4 layers leave nothing of images of 15 by 16 pixels; give"):
        network_training.begin(jax.random.key(0), kind(8, widths, 2), (15, 16))


def test_every_image_comes_once_before_any_comes_again():
    rows = network_training.orders(jax.random.key(0), 10, 7, 4).reshape(-1)
    assert [sorted(rows[i : i + 10].tolist()) for i in (0, 10)] == [list(range(10))] * 2 and len(set(rows[20:].tolist())) == 8
    assert rows[:10].tolist() != rows[10:20].tolist()


@pytest.fixture(scope="module")
def trained():
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam itself mixes dtypes
        x, y = bars(320)
        return network_training.pretrain(jax.random.key(0), NETWORK, x, y, SMALL)


def test_the_network_learns_what_it_is_shown(trained):
    assert trained.accuracies[-1] > 0.9 and len(trained.losses) == 60 * 256 / 128
    assert trained.losses[-10:].mean() < trained.losses[:10].mean() / 2


def test_features_tell_classes_apart_that_it_was_not_trained_on(trained):
    x, y = bars(200, seed=1)
    given = np.asarray(networks.features(NETWORK, trained.variables, np.repeat(x, 3, 3)))
    assert given.shape == (200, 8) and given.dtype == np.float32
    means = np.stack([given[y == c].mean(0) for c in range(4)])
    assert (((given[:, None] - means) ** 2).sum(2).argmin(1) == y).mean() > 0.9


def test_the_same_key_gives_the_same_network(trained):
    with jax.numpy_dtype_promotion("standard"):
        again = network_training.pretrain(jax.random.key(0), NETWORK, *bars(320), SMALL)
    jax.tree.map(np.testing.assert_array_equal, again.variables, trained.variables)


@pytest.mark.parametrize("channels", [3, 9])
def test_a_convolution_has_the_gradients_of_xla(channels):
    x, kernel, slope = (
        jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(((5, 6, 7, channels), (3, 3, channels, 4), (5, 6, 7, 4)))
    )
    made, expected = (jax.vjp(f, x, kernel) for f in (networks.convolve, networks._own_convolution))
    np.testing.assert_array_equal(made[0], expected[0])
    for one, other in zip(made[1](slope), expected[1](slope), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("kind", networks.NETWORKS)
def test_a_network_is_built_again_from_its_record(kind):
    architecture = networks.Architecture(kind, 8, (4, 4, 6), 5)
    again = networks.Architecture(**json.loads(json.dumps(architecture._asdict())))
    assert again.build() == architecture.build() == networks.NETWORKS[kind](8, (4, 4, 6), 5)


FEW = SMALL._replace(epochs=3.0, held_out=0.0)


def image_task(least=0):
    """The bars with labels from `least` on."""
    x, y = bars(256)
    some = y >= least
    return ImageTask(Examples(x[some], y[some]), Examples(x[:40][some[:40]], y[:40][some[:40]]), np.arange(4) >= least, np.zeros(4))


def train(what, start=None, checkpoints=None, recipe=FEW):
    keys = jax.random.split(jax.random.key(1), 3)
    with jax.numpy_dtype_promotion("standard"):
        return network_training.train(keys, NETWORK, what, recipe, network_training.letters, start, checkpoints)


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("name", ["training", "a [folder] of any\\name*"])
def test_a_training_that_was_stopped_goes_on_and_ends_in_the_same_bits(after, name, tmp_path, monkeypatch):
    folder, written, save = tmp_path / name / "training", [], Checkpoints.save

    def saved(kept, step, tree):
        save(kept, step, tree)
        written.append(step)
        if len(written) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoints, "save", saved)
    with pytest.raises(KeyboardInterrupt), open_checkpoints(folder) as kept:
        train(image_task(), checkpoints=kept)
    with open_checkpoints(folder) as kept:
        again = train(image_task(), checkpoints=kept)
    whole = train(image_task())
    assert written == [2, 4, 6] and [path.name for path in folder.iterdir()] == ["6"]
    jax.tree.map(np.testing.assert_array_equal, again._asdict(), whole._asdict())
    assert len(whole.curve) == 3 and whole.curve[0][0] == pytest.approx(whole.losses[:2].mean())


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == "flipped" and content:
        content[len(content) // 2] ^= 4
    file.write_bytes(b"" if how == "emptied" else content[: len(content) // 2] if how == "cut short" else content)


# Orbax reads arrays at once, and one that comes back after another has failed finds the event loop closed
late_answers = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
TREE = {"a": np.arange(5000, dtype=np.float32), "b": (np.ones((), np.int32), np.zeros((2, 3)))}


@late_answers
@pytest.mark.parametrize("how", ["emptied", "cut short", "flipped"])
def test_a_damaged_checkpoint_is_never_taken_for_a_whole_one(tmp_path, capsys, how):
    with open_checkpoints(tmp_path / "whole") as kept:
        assert kept.latest(TREE) is None
        kept.save(3, TREE)
    names = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    left = 0
    for number, name in enumerate(names):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", folder)
        damage(folder / name, how)
        with open_checkpoints(folder) as kept:
            found = kept.latest(TREE)
            if found is not None:  # a file that isn't read may be damaged without harm
                jax.tree.map(np.testing.assert_array_equal, found, TREE)
            else:
                left += 1
                assert "damaged checkpoint, not used" in capsys.readouterr().err and not (folder / "3").exists()
            kept.save(6, TREE)
            jax.tree.map(np.testing.assert_array_equal, kept.latest(TREE), TREE)
        assert [path.name for path in folder.iterdir()] == ["6"] and not capsys.readouterr().err
    assert left >= 3


@late_answers
def test_the_checkpoint_before_a_damaged_one_is_used_where_it_is_still_there(tmp_path):
    for step in (2, 4):
        with open_checkpoints(tmp_path / str(step)) as kept:
            kept.save(step, {"step": np.array(step)})
    shutil.move(tmp_path / "4" / "4", tmp_path / "2" / "4")
    for file in (tmp_path / "2" / "4").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with open_checkpoints(tmp_path / "2") as kept:
        assert kept.latest({"step": np.array(0)})["step"] == 2


def test_what_an_interrupted_save_left_is_removed(tmp_path):
    with open_checkpoints(tmp_path) as kept:
        kept.save(2, TREE)
    shutil.copytree(tmp_path / "2", tmp_path / "4.orbax-checkpoint-tmp")
    with open_checkpoints(tmp_path) as kept:
        kept.save(6, TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["6"]


def test_fine_tuning_goes_on_from_the_head_rows_of_known_classes_and_leaves_those_of_others_fresh():
    still = FEW._replace(rate=0.0)
    first, fresh = train(image_task(least=2)).variables, train(image_task(), recipe=still).variables
    head = first["params"]["head"]["kernel"]
    assert (
        np.abs(head - fresh["params"]["head"]["kernel"])[:, :2].max()
        < 1e-2
        < np.abs(head - fresh["params"]["head"]["kernel"])[:, 2:4].max()
    )
    going_on = train(image_task(), start=first, recipe=still).variables["params"]
    jax.tree.map(np.testing.assert_array_equal, going_on, first["params"])
    other = train(image_task(), start=networks.without_head(first), recipe=still).variables["params"]
    jax.tree.map(np.testing.assert_array_equal, other, first["params"] | {"head": fresh["params"]["head"]})


def test_steps_of_all_stages_are_one_program():
    step = network_training.compile_step(NETWORK, FEW, network_training.letters)
    first = train(image_task(least=2))
    programs = step._cache_size()
    train(image_task(), start=first.variables)
    assert step._cache_size() == programs
