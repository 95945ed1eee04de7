"""The paths of all files of a project."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folder of a project or of a trial of a sweep.

    Attributes:
        root: The folder with `params.yaml`.
        project: For a trial, the folder of its project; otherwise None.
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
        """The project's own folder, also for a trial or for an experiment in a copy."""
        if self.project is not None:
            return self.project
        for parent in self.root.parents:
            if parent.name == ".dvc" and ".dvc/tmp/exps" in self.root.as_posix():
                return parent.parent
        return self.root

    @property
    def is_copy(self) -> bool:
        """Whether this is a copy in which DVC runs an experiment."""
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
        """Lock file, held while a promotion is decided."""
        return self.home / "mlflow.lock"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of interrupted phases; not an output of a stage."""
        return (self.root if self.project else self.home) / "checkpoints"

    def stage_lock(self, stage: str) -> Path:
        """Lock file, held while a stage runs in this folder; not an output of a stage."""
        return self.root / "checkpoints" / f"{stage}.lock"

    @property
    def announcement(self) -> Path:
        """The training that the first of several hosts runs and the others join."""
        return self.checkpoints / "announcement.json"

    @property
    def sweeps(self) -> Path:
        """The store of all sweeps, and a folder for each running trial."""
        return self.home / "sweeps"

    def trial(self, sweep: str, folder: str) -> "Workspace":
        """The folder of a trial; its layout is that of the project."""
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
        """The bad rows of a refused source; not an output of a stage."""
        return self.root / "data" / "rejected.csv"

    @property
    def appearances(self) -> Path:
        """Size, brightness, sharpness and perceptual hash of each record's image."""
        return self.root / "data" / "records" / "appearances.csv"

    @property
    def thumbnails(self) -> Path:
        """Small grey images without padding, in the order of the records."""
        return self.root / "data" / "records" / "thumbnails.npy"

    @property
    def near_duplicates(self) -> Path:
        """Pairs of near-duplicate images, with their parts of the split."""
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
        """Accuracy of each head on the rows of each class of every other head."""
        return self.evaluation / "slices.csv"

    @property
    def label_issues(self) -> Path:
        """Labels that are probably wrong."""
        return self.evaluation / "label_issues.csv"

    @property
    def figures(self) -> Path:
        """The plots of the report."""
        return self.evaluation / "figures"

    @property
    def evaluation(self) -> Path:
        return self.root / "reports" / "evaluation"

    @property
    def evaluation_page(self) -> Path:
        return self.evaluation / "index.html"

    @property
    def answers(self) -> Path:
        """Labels and predicted classes of the validation rows, as CSV."""
        return self.evaluation / "predictions.csv"

    @property
    def predictions(self) -> Path:
        """Labels and probabilities of the validation rows, used by comparisons."""
        return self.evaluation / "predictions.npz"

    @property
    def test_predictions(self) -> Path:
        """Labels and probabilities of the test rows; without rows if there are no test rows."""
        return self.evaluation / "test_predictions.npz"

    @property
    def temperatures(self) -> Path:
        """The temperature of each head, by which the registered model divides its logits."""
        return self.root / "models" / "temperatures.json"

    @property
    def heads(self) -> Path:
        """Metrics of each head, as CSV."""
        return self.root / "reports" / "heads.csv"

    @property
    def learning_curves(self) -> Path:
        """Metrics of all epochs that lead to the evaluated phases, in order of training."""
        return self.root / "reports" / "learning_curves.csv"

    def pack(self, image_size: int | str) -> Path:
        """The packed images of one size, in the order of the records."""
        return self.root / "data" / "packs" / f"{image_size}.npy"

    def weights(self, phase: str) -> Path:
        """The final weights of a phase; `initial` are those of the stage `initialize`."""
        return self.root / "models" / "phases" / f"{phase}.weights.h5"

    def provenance(self, phase: str) -> Path:
        """Provenance of weights: digests of their split and pack, and the number of rows."""
        return self.root / "models" / "phases" / f"{phase}.json"

    @property
    def selected(self) -> Path:
        """Copies of the weights of the evaluated phases, and of their provenance."""
        return self.root / "models" / "selected"

    def selected_weights(self, phase: str) -> Path:
        return self.selected / self.weights(phase).name

    def selected_provenance(self, phase: str) -> Path:
        return self.selected / self.provenance(phase).name

    def history(self, phase: str) -> Path:
        """Loss and accuracies of each epoch of a phase."""
        return self.root / "reports" / "phases" / f"{phase}.csv"

    def range_test(self, phase: str) -> Path:
        """The plot of a learning-rate range test; not an output of a stage."""
        return self.root / "reports" / "lr_find" / f"{phase}.png"

    def is_written_by_stages(self, path: Path) -> bool:
        """Whether an absolute path is in a folder into which stages write."""
        return any(path.is_relative_to(self.root / name) for name in ("data", "models", "reports"))

    def relative(self, path: Path) -> str:
        """Returns a path relative to the project, with forward slashes, as in `dvc.yaml`."""
        return path.relative_to(self.root).as_posix()
