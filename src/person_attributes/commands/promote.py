"""The command `promote`: sets the champion alias to a version."""

from person_attributes.config import Params
from person_attributes.errors import RegistryError, one_line
from person_attributes.evaluation.gate import format_conditions
from person_attributes.registry.evaluations import find_evaluated
from person_attributes.registry.promotion import check_against_champion, open_registry
from person_attributes.workspace import Workspace

_LONGEST_REASON = 1000
"""Maximum number of characters of a reason: the command `models` shows it in one line."""


def promote(workspace: Workspace, params: Params, version: str, because: str) -> None:
    """Sets the alias to a version if the gate allows it, or if the user gives a reason.

    Args:
        workspace: The project.
        params: The gate.
        version: The number of the version.
        because: A reason that overrides the gate; empty for none.

    Raises:
        RegistryError: If a condition does not hold and no reason was given. Give a reason. Also if
            the files of the version are missing. Name another version.
    """
    name, because = params.registry.model_name, one_line(because, _LONGEST_REASON)
    with open_registry(workspace, params.registry) as models, models.lock():
        found, champion = models.find(version), models.find_champion()
        version = str(found.version)
        if champion and champion.version == found.version:
            print(f"{name} version {version} is already {params.registry.alias}")
            return
        models.require_files(found)
        if because:
            models.set_alias(version, f"by hand: {because}")
            print(f"{name} version {version} is {params.registry.alias} by hand: {because}")
            return
        if not models.is_sound(found):
            raise RegistryError(
                f"{name} {version}: {models.reason_of(found)}. Give a reason with --because to "
                "promote it anyway."
            )
        evaluated = find_evaluated(workspace, f"models:/{name}/{version}")
        progress = check_against_champion(models, evaluated.predictions, workspace, params)
        failed = [condition for condition in progress if not condition.holds]
        if failed:
            print(format_conditions(progress))
            raise RegistryError(
                f"{name} {version}: {failed[0]}. Give a reason with --because to promote it anyway."
            )
        models.set_alias(version, "every condition of the gate holds")
        print(f"{name} version {version} is {params.registry.alias}: every condition holds")
