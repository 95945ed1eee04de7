"""The command `models`: lists the registered versions."""

from collections.abc import Mapping
from datetime import UTC, datetime

from person_attributes.config import Params
from person_attributes.errors import RegistryError
from person_attributes.registry.promotion import Registry, open_registry
from person_attributes.workspace import Workspace

_WIDTHS = {
    "mean_accuracy": 9,
    "calibrated_loss": 8,
    "mean_calibrated_ece": 7,
    "loss": 8,
    "mean_ece": 7,
}
"""The width of the column of each metric."""


def models(workspace: Workspace, params: Params) -> None:
    """Prints the registered versions: metrics, verdict of the gate, and champion period."""
    with open_registry(workspace, params.registry) as registry:
        print(format_versions(registry, params.registry.model_name, params.registry.alias))


def format_versions(registry: Registry, name: str, alias: str) -> str:
    """Formats all versions as a table for a terminal, the newest first.

    Raises:
        RegistryError: If there are none. Run `dvc repro`.
    """
    versions = registry.list_versions()
    if not versions:
        raise RegistryError(f"{name}: no version is registered. Run dvc repro.")
    champion, periods = registry.find_champion(), registry.list_champion_periods()
    columns = f"{'loss':>8}{'ece':>7}" * 2
    lines = [
        f"{'':<36}{'calibrated':>15}{'uncalibrated':>15}",
        f"{'version':<9}{'registered':<18}{'accuracy':>9}{columns}  gate and alias",
    ]
    for version in versions:
        number = str(version.version)
        registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
        row = f"{number:<9}{registered:%Y-%m-%d %H:%M}  {_format_metrics(version.tags)}"
        lines.append(f"{row}  {registry.reason_of(version)}")
        if champion and number == str(champion.version):
            note = f"{alias}: the alias was set by another program"
            if periods and periods[-1].version == number:
                note = f"{alias} since {periods[-1].since[:16]} UTC: {periods[-1].reason}"
            lines.append(f"{'':<9}{note}")
    return "\n".join(lines)


def _format_metrics(tags: Mapping[str, str]) -> str:
    """Formats the metrics of a version; those that it lacks are blank."""
    if "mean_ece" not in tags:
        # The calibrated ECE of an older version is not debiased, and not comparable with others.
        tags = {name: value for name, value in tags.items() if name != "mean_calibrated_ece"}
    return "".join(
        f"{float(tags[name]):>{width}.3f}" if name in tags else " " * width
        for name, width in _WIDTHS.items()
    )
