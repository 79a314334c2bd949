"""Packs features of --stage=features into the files of the embedded default, glyphs_128.npz and glyphs_128.json.

python bin/run.py --stage=features --config=configs/glyph_joint.py --config.features.finetune=none \\
    --config.data.path=glyph_images.npz --workdir=runs/pack
python bin/pack_glyphs.py runs/pack/features-*
"""

import json
import sys
from pathlib import Path

import numpy as np

from mmn_jax.data import glyphs
from mmn_jax.data.feature_files import load

if len(sys.argv) != 2:
    sys.exit(__doc__)
folder = Path(sys.argv[1])
made = json.loads((folder / "card.json").read_text())
features = load(folder)
into = Path(glyphs.__file__).parent / "glyphs_128.npz"
assert features.val is not None and features.test is not None, f"{folder}: no validation or test features"
arrays = glyphs.packed(features.train, features.val, features.test, features.class_names)
np.savez_compressed(into, **arrays)  # type: ignore[arg-type]  # numpy's types allow for a name that is a flag of its own
card = {
    "name": "glyphs_128",
    "what": f"{features.train.x.shape[1]}-d features, int8 with a scale per dimension: x = q * scale",
    "made_by": "bin/run.py --stage=features and bin/pack_glyphs.py, whose first lines give the commands",
    "images": "32x32 renderings of letters, see glyph_images.json",
    "licences": "raster images of freely licensed fonts, see glyph_images.json",
    "classes": len(features.class_names),
    **{key: made[key] for key in ("counts", "backbone", "preprocessing", "source_version", "sha256", "versions")},
}
into.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
