"""Distills several networks into one: their answers replace a share of each label.

    python -m experiments.distillation PHASE SHARE OUTPUT.weights.h5 TEACHER.weights.h5...

Run it in a project whose data stages have run. The phase trains as in `train`, but on mixed labels
(Hinton et al. 2015, at a temperature of 1). The teachers are networks of the phase that it starts
from, such as those of other seeds. They answer the augmented images, resized to the image size of
their phase. Stopped with Ctrl-C, the next call resumes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import ops

from person_attributes.config import Params, read_params
from person_attributes.data.batches import Batch, ImageBatches
from person_attributes.data.dataset import Dataset
from person_attributes.data.images import Images
from person_attributes.digests import combine, digest_path
from person_attributes.files import writing
from person_attributes.modeling.ensemble import average_networks
from person_attributes.pipeline.networks import build_network
from person_attributes.pipeline.phases import identify_phase, prepare_phase
from person_attributes.runtime.checkpoint import Checkpoint
from person_attributes.training.phase import train_phase
from person_attributes.workspace import Workspace


class SoftBatches(ImageBatches):
    """Batches whose labels are mixed with the answers of a teacher on the same images."""

    def __init__(self, batches: ImageBatches, teacher: keras.Model, share: float) -> None:
        """Wraps the batches of a phase.

        Args:
            batches: The batches with hard labels. One thread prepares them, because processes
                could not share the teacher.
            teacher: A network from images of its own size to probabilities.
            share: Share of each label that is replaced, in 0 to 1.
        """
        self.__dict__.update(vars(batches))
        self.workers, self.use_multiprocessing = 1, False
        self._teacher = teacher
        self._share = share

    @property
    def is_augmented(self) -> bool:
        """True: features of a frozen backbone are not cached, because the teacher needs images."""
        return True

    def __getitem__(self, index: int) -> Batch:
        images, labels, weights = super().__getitem__(index)
        answers = self._teacher.predict_on_batch(_resize(images, self._teacher.input.shape[1:3]))
        soft = {
            head: ((1 - self._share) * label + self._share * answers[head]).astype(np.float32)
            for head, label in labels.items()
        }
        return images, soft, weights


def _resize(images: Images, size: tuple[int, int]) -> Images:
    if images.shape[1:3] == size:
        return images
    resized = ops.image.resize(ops.cast(images, "float32"), size, antialias=True)
    rounded: Images = ops.convert_to_numpy(ops.round(resized)).astype(np.uint8)
    return rounded


def distill(
    workspace: Workspace,
    params: Params,
    phase: str,
    share: float,
    teachers: Sequence[Path],
    output: Path,
) -> None:
    """Trains a phase on mixed labels and writes its best weights."""
    dataset = Dataset(workspace, params.phases[phase].image_size)
    classifier, batches, validation = prepare_phase(dataset, params, phase)
    train = SoftBatches(batches, load_teacher(workspace, params, phase, teachers), share)
    content = {
        "phase": identify_phase(workspace, params, phase),
        "share": share,
        "teachers": [digest_path(path) for path in teachers],
    }
    minutes = params.runtime.checkpoint_minutes
    checkpoint = Checkpoint(workspace.checkpoints, f"distilled_{phase}", combine(content), minutes)
    with checkpoint.lock():
        trained = train_phase(
            classifier, train, validation, params.recipe(phase), checkpoint, listeners=[]
        )
        with writing(output) as path:
            classifier.save_weights(path)
    best = trained.history[trained.best_epoch]
    print(
        f"{phase}: kept epoch {trained.best_epoch + 1} of {len(trained.history)}, validation loss "
        f"{best['val_loss']:.3f}, mean accuracy {best['val_mean_accuracy']:.3f}"
    )


def load_teacher(
    workspace: Workspace, params: Params, phase: str, weights: Sequence[Path]
) -> keras.Model:
    """Loads the networks whose mean answers a phase learns."""
    image_size = params.phases[params.phases[phase].starts_from].image_size
    networks = [build_network(workspace, params, image_size) for _ in weights]
    for network, path in zip(networks, weights, strict=True):
        network.load_weights(path)
    return average_networks(networks)


def main() -> None:
    """Distills the given networks in the project of the working directory."""
    parser = argparse.ArgumentParser("python -m experiments.distillation")
    parser.add_argument("phase")
    parser.add_argument("share", type=float)
    parser.add_argument("output", type=Path)
    parser.add_argument("teachers", type=Path, nargs="+")
    options = parser.parse_args()
    workspace = Workspace(Path.cwd())
    params = read_params(workspace.params)
    distill(workspace, params, options.phase, options.share, options.teachers, options.output)


if __name__ == "__main__":
    main()
