"""What the methods for few labelled images refuse alike."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.wilss_train.data.semi.world import IMAGES, PARAMS, inputs, make, masks
from wilss.data.manifest import load_manifest
from wilss.errors import CheckpointError, ParameterError
from wilss_train.inputs import open_inputs
from wilss_train.methods.pseudoseg import Pseudoseg
from wilss_train.methods.unimatch import Unimatch
from wilss_train.run.train import Options, run_training

Method = type[Pseudoseg] | type[Unimatch]
QUIET = Options(threads=1, device="cpu", split=None, workers=2)
both = pytest.mark.parametrize("method", [Pseudoseg, Unimatch])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pets"))


@both
def test_a_step_that_must_not_forget_is_refused(root: Path, tmp_path: Path, method: Method) -> None:
    manifest, made = load_manifest(root / "data_manifest.yaml"), method(labelled=str(root / "labelled.txt"))
    run_training(inputs(root), made, replace(PARAMS, epochs=1), tmp_path, QUIET)
    said = rf"was trained by {method.name}, .* let it label step 0 .*--source pseudoseg"
    with pytest.raises(CheckpointError, match=said):
        open_inputs(manifest, masks(root, 1), tmp_path, "finetune")
    later = replace(open_inputs(manifest, masks(root, 0), None, method.name), step=1)
    with pytest.raises(CheckpointError, match=rf"{method.name} trains step 0, and .* holds masks of step 1"):
        run_training(later, made, PARAMS, tmp_path / "run", QUIET)


@both
def test_lists_that_make_no_sense_are_refused(root: Path, tmp_path: Path, method: Method) -> None:
    every = tmp_path / "every.txt"
    every.write_text("\n".join(IMAGES))
    for made, said in (
        (method(), r"nothing says which are labelled"),
        (method(labelled=str(every)), r"names every image of .*, so there is none left"),
        (method(labelled=str(root / "labelled.txt"), labelled_batch=1), r"labelled_batch is 1, which 1 processes"),
    ):
        with pytest.raises(ParameterError, match=said):
            run_training(inputs(root), made, PARAMS, tmp_path / "run", QUIET)
