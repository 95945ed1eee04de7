"""Where everything lies: the name of every file of the project, once."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The project's folder.

    Attributes:
        root: The folder that holds `params.yaml`, or a trial's.
        project: The project that a trial belongs to; None where this is the project.
    """

    root: Path
    project: Path | None = None

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def dvc_lock(self) -> Path:
        return self.root / "dvc.lock"

    @property
    def home(self) -> Path:
        """The project's own folder, also for a trial, or an experiment in a copy of it."""
        if self.project is not None:
            return self.project
        for parent in self.root.parents:
            if parent.name == ".dvc" and ".dvc/tmp/exps" in self.root.as_posix():
                return parent.parent
        return self.root

    @property
    def is_copy(self) -> bool:
        """Whether DVC runs an experiment in a copy, perhaps one of several at once."""
        return self.project is None and self.home != self.root

    @property
    def pretrained(self) -> Path:
        """The published network, which is in git."""
        return self.root / "pretrained"

    @property
    def tracking_database(self) -> Path:
        """The embedded MLflow store."""
        return self.home / "mlflow.db"

    @property
    def promotion_lock(self) -> Path:
        """Held while a verdict on the champion is reached."""
        return self.home / "mlflow.lock"

    @property
    def checkpoints(self) -> Path:
        """Where interrupted phases go on from; no output of a stage."""
        return (self.root if self.project else self.home) / "checkpoints"

    def stage_lock(self, stage: str) -> Path:
        """Held while a stage writes into this folder; no output of a stage."""
        return self.root / "checkpoints" / f"{stage}.lock"

    @property
    def announcement(self) -> Path:
        """What the first of several hosts trains, for the others to join."""
        return self.checkpoints / "announcement.json"

    @property
    def sweeps(self) -> Path:
        """The store of all sweeps, and a folder for each trial that is under way."""
        return self.home / "sweeps"

    def trial(self, sweep: str, folder: str) -> "Workspace":
        """The folder of a trial, laid out as the project is."""
        return Workspace(self.sweeps / sweep / folder, project=self.home)

    @property
    def sample(self) -> Path:
        return self.root / "data" / "sample"

    @property
    def records(self) -> Path:
        return self.root / "data" / "records" / "records.csv"

    @property
    def quarantine(self) -> Path:
        return self.root / "data" / "records" / "quarantine.csv"

    @property
    def rejected(self) -> Path:
        """The bad rows of a source that was refused; no output, earlier ones stay as they were."""
        return self.root / "data" / "rejected.csv"

    @property
    def appearances(self) -> Path:
        """Size, light, sharpness and perceptual hash of each record's image."""
        return self.root / "data" / "records" / "appearances.csv"

    @property
    def thumbnails(self) -> Path:
        """Small grey images without their padding, rows in the order of the records."""
        return self.root / "data" / "records" / "thumbnails.npy"

    @property
    def near_duplicates(self) -> Path:
        """Pairs of images that show nearly the same, and in which parts of the split they lie."""
        return self.root / "data" / "near_duplicates.csv"

    @property
    def data_page(self) -> Path:
        return self.root / "reports" / "data" / "index.html"

    @property
    def one_hot(self) -> Path:
        return self.root / "data" / "encoded" / "one_hot.csv"

    @property
    def label_map(self) -> Path:
        return self.root / "data" / "encoded" / "label_map.json"

    @property
    def split(self) -> Path:
        return self.root / "data" / "split.json"

    @property
    def normalization(self) -> Path:
        return self.root / "models" / "normalization.json"

    @property
    def network_picture(self) -> Path:
        return self.root / "reports" / "network.png"

    @property
    def metrics(self) -> Path:
        return self.root / "reports" / "metrics.json"

    @property
    def slices(self) -> Path:
        """Every head on the rows of every class of every other head."""
        return self.evaluation / "slices.csv"

    @property
    def label_issues(self) -> Path:
        """Labels that look wrong."""
        return self.evaluation / "label_issues.csv"

    @property
    def figures(self) -> Path:
        """The figures of the report."""
        return self.evaluation / "figures"

    @property
    def evaluation(self) -> Path:
        return self.root / "reports" / "evaluation"

    @property
    def evaluation_page(self) -> Path:
        return self.evaluation / "index.html"

    @property
    def answers(self) -> Path:
        """What the network said of each validation row, for people."""
        return self.evaluation / "predictions.csv"

    @property
    def predictions(self) -> Path:
        """Labels and probabilities of the validation rows, for comparisons."""
        return self.evaluation / "predictions.npz"

    @property
    def test_predictions(self) -> Path:
        """The same of the test rows; none where nothing was held back."""
        return self.evaluation / "test_predictions.npz"

    @property
    def temperatures(self) -> Path:
        """What divides the logits of each head once the model is registered."""
        return self.root / "models" / "temperatures.json"

    @property
    def heads(self) -> Path:
        """Scores of each head, as a table."""
        return self.root / "reports" / "heads.csv"

    @property
    def learning_curves(self) -> Path:
        """Figures of all epochs of all phases, end to end."""
        return self.root / "reports" / "learning_curves.csv"

    def pack(self, image_size: int | str) -> Path:
        """The packed images of one size, rows in the order of the records."""
        return self.root / "data" / "packs" / f"{image_size}.npy"

    def weights(self, phase: str) -> Path:
        """The weights that a phase hands on; `initial` names the first ones."""
        return self.root / "models" / f"{phase}.weights.h5"

    def provenance(self, phase: str) -> Path:
        """What weights were trained on: digests of their split and pack, the number of rows."""
        return self.root / "models" / f"{phase}.json"

    def history(self, phase: str) -> Path:
        """Loss and accuracies of each epoch of a phase."""
        return self.root / "reports" / "phases" / f"{phase}.csv"

    def range_test(self, phase: str) -> Path:
        """The plot of a learning-rate range test; no output of a stage."""
        return self.root / "reports" / "lr_find" / f"{phase}.png"

    def is_written_by_stages(self, path: Path) -> bool:
        """Whether an absolute path, as all paths here are, lies where stages write."""
        return any(path.is_relative_to(self.root / name) for name in ("data", "models", "reports"))

    def relative(self, path: Path) -> str:
        """Names a path of the project as `dvc.yaml` does."""
        return path.relative_to(self.root).as_posix()
