"""Commands work, or refuse in one line, wherever they are run: on paths of any characters, without locks, a home or the platform."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, command, environment, in_process, own

from mmn_jax.cli import export, predict, run
from mmn_jax.errors import BadInput
from mmn_jax.store import artifacts, files

ARRAYS = {"a": {"b": np.arange(6.0, dtype=np.float32).reshape(2, 3)}, "c": np.array(3)}
QUICK = ["--config.heads.l2=1e-2", "--config.tuning.budget=2", "--config.eval.draws=100"]
STRANGE = ["a[b]", "a[!b]", "a\\b", "a*b?", "a b", "a%20b", "a#b", "ä中", "a.", "gs:", "s3:", "a{b}", "a\nb", "-a", "\udcff", "x" * 255]


@pytest.mark.parametrize("name", STRANGE, ids=ascii)
def test_artefacts_come_back_from_a_path_of_any_characters(tmp_path, name):
    (tmp_path / "aab").mkdir()  # what a pattern would find
    path = tmp_path / name / "seed-0" / "head"
    artifacts.save(path, ARRAYS, {"name": name})
    arrays, record = artifacts.restore(path)
    np.testing.assert_array_equal(arrays["a"]["b"], ARRAYS["a"]["b"])
    assert record == artifacts.restore_record(path) == {"name": name} and path.is_dir()


def test_a_folder_of_temporary_files_may_have_such_a_name_too(tmp_path, monkeypatch):
    (tmp_path / "t[a]").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t[a]"))
    with files.plainly_named(tmp_path / "[x]" / "head") as plain:
        assert "[" not in str(plain) and plain.parent.samefile(tmp_path / "[x]")
    assert not plain.parent.exists() and (tmp_path / "[x]").is_dir()


def test_every_command_takes_such_paths(feature_file, tmp_path, capsys):
    folder = tmp_path / "a[b]*?\\c #%e ä中."
    folder.mkdir()
    features = folder / "f[1].npz"
    features.write_bytes(feature_file.read_bytes())
    run = own(features, folder / "run", *QUICK)
    assert in_process(*run) == 0 == in_process(*run)
    assert predict.main([f"--model={folder / 'run'}", f"--features={features}", f"--out={folder / 'o.csv'}"]) == 0
    assert export.main([f"--model={folder / 'run'}", f"--out={folder / 'out'}"]) == 0
    assert "damaged" not in capsys.readouterr().err
    assert json.loads((folder / "run" / "results.json").read_text())["dataset"] == "f[1]"


def test_a_path_that_is_no_text_is_printed_as_it_is(feature_file, tmp_path):
    workdir = os.fsencode(tmp_path) + b"/q\xffz"
    flags = [*command(*own(feature_file, "", "--stage=split")), b"--workdir=" + workdir]
    done = subprocess.run(flags, cwd=ROOT, capture_output=True, env=environment() | {"PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0 and b"artefacts: " + workdir in done.stdout


@pytest.mark.parametrize("name", ["x" * 251, "x" * 255, "ä" * 127])
def test_a_file_may_have_the_longest_name_there_is(tmp_path, name):
    artifacts.write_bytes(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long_is_one_line(feature_file, tmp_path, capsys):
    assert in_process(*own(feature_file, tmp_path / ("x" * 256), "--stage=split")) == 2
    assert in_process(*own(tmp_path / ("x" * 256), tmp_path, "--stage=split")) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("name", ["a:b.py", "a b", "ä中.py"])
def test_a_recipe_is_read_from_any_path(tmp_path, name):
    (tmp_path / name).write_text((ROOT / "configs" / "own_features.py").read_text())
    assert run.parse(["run", f"--config={tmp_path / name}"])[0].data.source == "npz"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EIO, errno.EPERM, errno.EACCES])
def test_a_file_system_without_locks_is_no_other_process(tmp_path, capsys, monkeypatch, number):
    def flock(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    saving = tmp_path / "seed-0" / "heads.orbax-checkpoint-tmp-1"
    saving.mkdir(parents=True)
    with artifacts.occupied(tmp_path) as workdir:
        assert workdir == tmp_path and saving.exists()  # it may be another's
    message = f"cannot be locked ({os.strerror(number)}); make sure that no other run is at work there"
    assert capsys.readouterr().err == f"--workdir={tmp_path}: {message}\n"


def test_a_lock_that_another_process_holds_is_refused_still(tmp_path, monkeypatch):
    def flock(file, how):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    (tmp_path / artifacts.LOCK).write_text("123")
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(BadInput, match="process 123 is at work there"), artifacts.occupied(tmp_path):
        pass


def without_user(feature_file, workdir, home, *flags):
    """A run as a user without an entry in the list of users."""
    name = "import pwd, runpy, sys\ndef unknown(*_):\n    raise KeyError('uid')\npwd.getpwuid = pwd.getpwnam = unknown\n"
    main = "sys.argv.pop(0); sys.path.insert(0, 'bin'); runpy.run_path(sys.argv[0], run_name='__main__')"
    outer = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "JAX_COMPILATION_CACHE_DIR")
    others = {key: value for key, value in environment().items() if key not in outer}
    argv = [sys.executable, "-c", name + main, *command(*own(feature_file, workdir, *QUICK, *flags))[1:]]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=others | home)


NO_HOMES = [{"HOME": "/dev/null"}, {"HOME": "", "XDG_CACHE_HOME": "/dev/null/cache"}]


@pytest.mark.parametrize("home", [{}, *(pytest.param(home, marks=pytest.mark.slow) for home in NO_HOMES)], ids=str)
def test_a_user_without_a_home_has_everything_but_kept_programs(feature_file, tmp_path, home):
    done = without_user(feature_file, tmp_path, home, "--stage=split")
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("compiled programs are not cached for the next run (")


@pytest.mark.slow
def test_so_it_is_with_the_report(feature_file, tmp_path):
    done = without_user(feature_file, tmp_path, {}, "--stage=all")
    assert done.returncode == 0 and (tmp_path / "report.html").exists() and "Traceback" not in done.stderr


def test_a_cache_folder_that_cannot_be_made_is_one_line(feature_file, tmp_path):
    variables = environment() | {"JAX_COMPILATION_CACHE_DIR": "/dev/null/cache"}
    done = subprocess.run(command(*own(feature_file, tmp_path, "--stage=split")), cwd=ROOT, capture_output=True, text=True, env=variables)
    assert done.returncode == 0 and "/dev/null/cache: Not a directory" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("platform", ["cuda", "nosuch"])
@pytest.mark.parametrize(
    "flags", [["bin/run.py", "--stage=split"], ["-m", "mmn_jax.cli.diagnose", "--features={}"]], ids=["run", "diagnose"]
)
def test_a_platform_that_is_not_there_is_one_line(feature_file, tmp_path, platform, flags):
    argv = [sys.executable, *(flag.format(feature_file) for flag in flags)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, env=environment() | {"JAX_PLATFORMS": platform})
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"JAX_PLATFORMS={platform}: JAX cannot start (")


FORKS = """
import os, sys, warnings
import numpy as np
warnings.filterwarnings("ignore", "os.fork")
from mmn_jax import TailClassifier
from mmn_jax.errors import BadInput

y = np.repeat(np.arange(4), [20, 10, 9, 8])
x = np.random.default_rng(0).normal(size=(47, 5)) + y[:, None]

def fork(work):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        work()
    except BadInput as error:
        os._exit(2 if "forked" in str(error) and str(error).count("\\n") == 0 else 3)
    except BaseException:
        os._exit(4)
    os._exit(0)

def make():
    return TailClassifier("logit_adjustment", budget=1, folds=2, random_state=0)

before = fork(lambda: make().fit(x, y))
model = make().fit(x, y)
answers = model.predict_proba(x)
again = fork(lambda: fork(lambda: make().fit(x, y)) == 2 or 1 / 0)
print(before, fork(lambda: make().fit(x, y)), fork(lambda: model.diagnose(x, y)), again)
print(fork(lambda: np.testing.assert_array_equal(model.predict_proba(x), answers)), fork(lambda: model.add_class(x[:2], 9).predict(x)))
"""


def test_a_forked_process_predicts_and_is_refused_a_fit_once_jax_is_at_work():
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120, env=environment())
    assert done.stdout == "0 2 2 0\n0 0\n", done.stderr


@pytest.mark.slow
def test_workers_that_are_spawned_fit():
    code = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import numpy as np
from mmn_jax import TailClassifier

if __name__ == "__main__":
    x = np.arange(12.0)[:, None]
    model = TailClassifier("ncm", budget=1, folds=2).fit(x, x[:, 0] > 5)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        print(pool.submit(TailClassifier("ncm", budget=1, folds=2).fit, x, x[:, 0] > 5).result().predict(x).sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment())
    assert done.stdout == "6\n", done.stderr
