"""Makes an ImageSet of a data set that TFDS prepared as ArrayRecord files, without TensorFlow."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmn_jax.data.labels import normal
from mmn_jax.data.parts import by_part, part_of, unused
from mmn_jax.errors import BadInput, Say, warn
from mmn_jax.vision.images import Images, ImageSet, decode, image_set


def _load_record(source: Any, key: str, where: str, index: int) -> np.ndarray:
    return decode(source[index][key], f"{where}, image {index}")


def _first_line(error):
    """Returns the first line of an error; after it TFDS lists every data set that it knows."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def _builder(name, data_dir):
    """Returns the builder of a data set that is prepared in data_dir."""
    where = f"{data_dir}: data set {name}"
    try:
        import tensorflow_datasets as tfds

        builder = tfds.builder(name, data_dir=data_dir)
    except ImportError as error:
        raise BadInput(f"{where} needs {error.name}, which is not installed; pip install 'mmn_jax[images]'") from error
    except Exception as error:  # a builder may raise anything
        raise BadInput(f"{where} cannot be used ({_first_line(error)})") from error
    if not builder.info.splits:
        raise BadInput(f"{where} is not prepared there; where TensorFlow is installed, run: tfds build {name} --file_format=array_record")
    return builder


def _keys(builder, where):
    """Returns the names of the features that hold the image and the label."""
    from tensorflow_datasets import features as kinds

    image, label = (builder.info.supervised_keys or ("image", "label"))[:2]
    there = dict(builder.info.features.items())
    if not (isinstance(there.get(image), kinds.Image) and isinstance(there.get(label), kinds.ClassLabel)):
        raise BadInput(f"{where} has no image with a class label; it has {', '.join(there)}")
    return image, label


def _tfds_part(builder, split, keys, where):
    """Returns the images of a split, which are decoded when they are loaded."""
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split=split, decoders={keys[0]: tfds.decode.SkipDecoding()})
        y = np.array([source[i][keys[1]] for i in range(len(source))], np.int32)
    except Exception as error:  # an unknown split, TFRecord files, a damaged file: TFDS has no exception of its own
        raise BadInput(f"{where}, split {split} ({_first_line(error)})") from error
    if len(y) and y.min() < 0:
        raise BadInput(f"{where}, split {split}: image {int(y.argmin())} has no label")
    return Images(partial(_load_record, source, keys[0], f"{where}, split {split}"), y, f"{builder.info.full_name} {split} {len(y)}")


def _usual_splits(builder, where, say):
    """Returns the split of each part, by name; reports other splits."""
    found = {name: part_of(name) for name in builder.info.splits}
    called = by_part(((part, name) for name, part in found.items() if part), where)
    others = [name for name, part in found.items() if not part]
    if others:
        say(f"{where}: splits not used: {unused(others)}")
    return {"train": "train", "test": "test"} | called


def tfds_source(name: str, data_dir: str | Path, splits: dict[str, str] | None = None, say: Say = warn) -> ImageSet:
    """Opens the images of a TFDS data set that is prepared as ArrayRecord files. Labels are read at once, images when they are loaded.

    Args:
      name: of the data set.
      data_dir: where it is prepared.
      splits: the split of each part, as in {"train": "train[:90%]", "val": "train[90%:]", "test": "validation"}; by default those called
        train, test and, if there is one, validation, in any usual spelling.
      say: reports splits that aren't used.

    Raises:
      BadInput: the data set isn't prepared there, is in another file format, or has no images, labels or one of the splits.
    """
    builder, where = _builder(name, str(data_dir)), f"{data_dir}: data set {name}"
    if splits is None:
        splits = _usual_splits(builder, where, say)
    if not {"train", "test"} <= set(splits) <= {"train", "val", "test"}:
        raise BadInput(f"{where}: splits must name train and test, perhaps val; they name {', '.join(splits)}")
    keys = _keys(builder, where)
    parts = {"val": None} | {part: _tfds_part(builder, split, keys, where) for part, split in splits.items()}
    return image_set(name, parts, tuple(map(normal, builder.info.features[keys[1]].names)), where, say)
