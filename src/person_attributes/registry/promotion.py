"""Sets the champion alias of the registered model, and records when and why."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import filelock
import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from person_attributes.config import PRETRAINED, Params, RegistryParams
from person_attributes.errors import ComparisonError, OtherRowsError, RegistryError
from person_attributes.evaluation.gate import Condition, check_progress, format_conditions
from person_attributes.evaluation.predictions import Predictions
from person_attributes.registry.evaluations import find_evaluated
from person_attributes.tracking.connection import NOT_THERE, connect, translate_mlflow_errors
from person_attributes.tracking.filters import quote_value
from person_attributes.workspace import Workspace

_CHAMPION = "champion.since "
"""Prefix of a tag named after the time of a promotion; its value is the reason."""

_SOUND, _PROMOTED, _REASON = "gate.sound", "gate.promoted", "gate.reason"

_CONTENT, _SETTLED = "content_digest", "gate.settled"
"""Tags of a version: the digest of its content, and whether the gate has decided on it."""

_ROLLED_BACK = "rolled back from"

_PUBLISHED = "published network: not evaluated on rows of this project"
"""The reason on versions of the published network. The gate does not apply to them."""

_LONGEST_DESCRIPTION = 5000
"""Characters that MLflow's stores accept; the whole card is an artifact of the version."""

_METRICS = ("mean_accuracy", "calibrated_loss", "mean_calibrated_ece", "loss", "mean_ece")
"""Metrics that versions have as tags."""


@dataclass(frozen=True)
class Registered:
    """A version that the gate has decided on.

    Attributes:
        version: Its number in the registry.
        is_champion: Whether it has the alias now.
        reason: The reason, in one sentence.
    """

    version: str
    is_champion: bool
    reason: str


@dataclass(frozen=True)
class ChampionPeriod:
    """A period with the alias: its start (UTC), the version and the reason."""

    since: str
    version: str
    reason: str


class Registry:
    """The versions of one registered model, and its champion alias."""

    def __init__(self, client: MlflowClient, workspace: Workspace, params: RegistryParams) -> None:
        self._client = client
        self._name = params.model_name
        self._alias = params.alias
        self._lock = workspace.promotion_lock

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Locks promotions of this project: a verdict is valid for one champion only."""
        with filelock.FileLock(self._lock):
            yield

    def find_champion(self) -> ModelVersion | None:
        """Returns the version with the alias, or None."""
        try:
            return self._client.get_model_version_by_alias(self._name, self._alias)
        except MlflowException as error:
            if error.error_code in NOT_THERE:
                return None
            raise

    def require_champion(self) -> ModelVersion:
        """Returns the version with the alias, whose files are in the store.

        Raises:
            RegistryError: If there is none. Run `dvc repro` or promote a version.
        """
        champion = self.find_champion()
        if champion and self.has_files(champion):
            return champion
        listed = self.list_versions()
        versions = [version for version in listed if version.run_id and self.has_files(version)]
        if not versions:
            raise RegistryError(
                f"{self._name}: no version is registered, or its files are missing in the store. "
                "Run dvc repro. Or run person-attributes pretrained and name the published "
                f"network: models:/{self._name}@{PRETRAINED}."
            )
        newest = versions[0]
        raise RegistryError(
            f"{self._name}: no version in the store has the alias {self._alias}. The newest is "
            f"version {newest.version}; verdict of the gate: {self.reason_of(newest)}. Run "
            f"person-attributes promote {newest.version} to set the alias if the gate allows it."
        )

    def find(self, number: str) -> ModelVersion:
        """Returns a version by its number.

        Raises:
            RegistryError: If there is no such version. `person-attributes models` lists them.
        """
        try:
            return self._client.get_model_version(self._name, number)
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            raise RegistryError(
                f"{self._name} {number}: no such version. Run person-attributes models to list the "
                "versions."
            ) from None

    def add(self, model_uri: str, content_digest: str) -> ModelVersion:
        """Registers a logged model as a new version."""
        return mlflow.register_model(model_uri, self._name, tags={_CONTENT: content_digest})

    def find_content(self, content_digest: str) -> ModelVersion | None:
        """Finds the newest version of a content whose files are still in the store."""
        found = self._client.search_model_versions(
            f"name = {quote_value(self._name)} and tags.{_CONTENT} = '{content_digest}'"
        )
        for version in _sort_newest_first(found):
            if self.has_files(version):
                return self.find(str(version.version))
        return None

    def has_files(self, version: ModelVersion) -> bool:
        """Returns whether the files of a version are in the store: users may delete them."""
        uri = self._client.get_model_version_download_uri(self._name, str(version.version))
        return bool(mlflow.artifacts.list_artifacts(artifact_uri=uri))

    def require_files(self, version: ModelVersion) -> None:
        """Checks that a version can be served before it gets the alias.

        Raises:
            RegistryError: If its files are not in the store. Restore them, or name another version.
        """
        if not self.has_files(version):
            raise RegistryError(
                f"{self._name} {version.version}: its files are missing in the store, so it cannot "
                "be served. Restore them from a backup, or name another version."
            )

    def is_settled(self, version: ModelVersion) -> bool:
        """Returns whether the gate has decided on a version: a kill may have prevented it."""
        return bool(version.tags.get(_SETTLED) == "true")

    def describe(
        self, number: str, metrics: dict[str, float], validation_digest: str, card: str
    ) -> None:
        """Sets the tags and the description of a version.

        Args:
            number: The version.
            metrics: The metrics of the evaluation.
            validation_digest: The digest of the rows that were evaluated.
            card: The model card as Markdown.
        """
        tags = {name: repr(metrics[name]) for name in _METRICS}
        for key, value in (tags | {"validation_digest": validation_digest}).items():
            self._client.set_model_version_tag(self._name, number, key, value)
        self._client.update_model_version(self._name, number, _shorten(card, 0))

    def confirm(self, number: str) -> Registered | None:
        """Marks a version that has the alias as decided on: a kill may have prevented that.

        Returns:
            None if the version does not have the alias.
        """
        champion = self.find_champion()
        if champion is None or str(champion.version) != number:
            return None
        self._client.set_model_version_tag(self._name, number, _SETTLED, "true")
        return Registered(number, is_champion=True, reason=self.reason_of(champion))

    def settle(
        self, number: str, sound: Sequence[Condition], progress: Sequence[Condition]
    ) -> Registered:
        """Adds the verdict to a version, and sets the alias if all conditions hold.

        The tag that marks the decision is written last. Without it, the gate is applied again.

        Args:
            number: The challenger.
            sound: Conditions on the challenger alone.
            progress: Conditions that compare it with the champion.
        """
        failed = [condition for condition in (*sound, *progress) if not condition.holds]
        reason = "every condition of the gate holds"
        if failed:
            reason = str(failed[0])
        elif not progress:
            reason = "there was no champion"
        tags = {
            _SOUND: str(all(condition.holds for condition in sound)).lower(),
            _PROMOTED: str(not failed).lower(),
            _REASON: reason,
        }
        for key, value in tags.items():
            self._client.set_model_version_tag(self._name, number, key, value)
        version = self.find(number)
        table = format_conditions([*sound, *progress])
        verdict = f"\n\n## Gate\n\n{reason}\n\n{table}"[:_LONGEST_DESCRIPTION]
        text = _shorten(version.description or "", len(verdict)) + verdict
        self._client.update_model_version(self._name, number, text.strip())
        if not failed:
            self.set_alias(number, reason)
        self._client.set_model_version_tag(self._name, number, _SETTLED, "true")
        return Registered(number, not failed, reason)

    def set_alias(self, number: str, reason: str) -> None:
        """Tags a version with the time and reason of its promotion, then sets the alias."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
        self._client.set_model_version_tag(self._name, number, f"{_CHAMPION}{now}", reason)
        self._client.set_registered_model_alias(self._name, self._alias, number)

    def set_pretrained(self, version: ModelVersion, card: str) -> bool:
        """Sets the alias `pretrained` on a version of the published network.

        The alias is set last. Without it, the reason and the card are written again.

        Args:
            version: The version.
            card: Its description as Markdown.

        Returns:
            Whether the alias was missing.
        """
        number = str(version.version)
        if PRETRAINED in self.find(number).aliases:
            return False
        self._client.set_model_version_tag(self._name, number, _REASON, _PUBLISHED)
        self._client.update_model_version(self._name, number, _shorten(card, 0))
        self._client.set_registered_model_alias(self._name, PRETRAINED, number)
        return True

    def is_sound(self, version: ModelVersion) -> bool:
        """Returns whether the conditions on a version alone held when it was registered."""
        return bool(version.tags.get(_SOUND) == "true")

    def describe_verdict(self, version: ModelVersion) -> str:
        """Describes whether a version is the champion, and if not, why."""
        champion = self.find_champion()
        if champion and champion.version == version.version:
            return f"is {self._alias}"
        if version.tags.get(_PROMOTED) != "true":
            return f"is not {self._alias}: {self.reason_of(version)}"
        if champion:
            return f"was {self._alias}; version {champion.version} is now"
        return (
            f"was {self._alias}; no version is now. Run person-attributes promote "
            f"{version.version} to set the alias"
        )

    def reason_of(self, version: ModelVersion) -> str:
        """Returns the verdict of the gate on a version, in one sentence."""
        return str(version.tags.get(_REASON, "its checks did not finish"))

    def list_champion_periods(self) -> list[ChampionPeriod]:
        """Lists the champion periods, the earliest first."""
        found = [
            ChampionPeriod(key.removeprefix(_CHAMPION), str(version.version), str(reason))
            for version in self.list_versions()
            for key, reason in version.tags.items()
            if key.startswith(_CHAMPION)
        ]
        return sorted(found, key=lambda period: period.since)

    def roll_back(self) -> Registered:
        """Sets the alias to the previous champion whose files are in the store.

        Raises:
            RegistryError: If there was none. Promote a version instead.
        """
        champion = self.find_champion()
        number = str(champion.version) if champion else ""
        earlier = self._earlier_champions()
        while earlier and (earlier[-1] == number or not self.has_files(self.find(earlier[-1]))):
            earlier.pop()
        if not earlier:
            raise RegistryError(
                f"{self._name}: no earlier champion to roll back to whose files are in the store. "
                "Promote a version by its number."
            )
        reason = f"{_ROLLED_BACK} version {number or 'none'}"
        self.set_alias(earlier[-1], reason)
        return Registered(earlier[-1], is_champion=True, reason=reason)

    def _earlier_champions(self) -> list[str]:
        """Lists champions as a stack: a rollback removes the version that it replaces."""
        stack: list[str] = []
        for period in self.list_champion_periods():
            if period.reason.startswith(_ROLLED_BACK) and period.version in stack:
                while stack[-1] != period.version:
                    stack.pop()
            else:
                stack.append(period.version)
        return stack

    def list_versions(self) -> list[ModelVersion]:
        """Lists all versions, the newest first."""
        found = self._client.search_model_versions(f"name = {quote_value(self._name)}")
        # Some stores omit the tags in search results.
        return [self.find(str(version.version)) for version in _sort_newest_first(found)]


def _sort_newest_first(versions: Iterable[ModelVersion]) -> list[ModelVersion]:
    return sorted(versions, key=lambda version: int(version.version), reverse=True)


@contextlib.contextmanager
def open_registry(workspace: Workspace, params: RegistryParams) -> Iterator[Registry]:
    """Opens the registry; translates MLflow's errors in the block into one line."""
    with translate_mlflow_errors():
        yield Registry(connect(workspace), workspace, params)


def require_champion(workspace: Workspace, params: Params) -> str:
    """Returns the URI of the champion.

    Raises:
        RegistryError: If there is none. Run `dvc repro` or promote a version.
    """
    with open_registry(workspace, params.registry) as models:
        models.require_champion()
    return f"models:/{params.registry.model_name}@{params.registry.alias}"


def check_against_champion(
    models: Registry, predictions: Predictions, workspace: Workspace, params: Params
) -> list[Condition]:
    """Checks the conditions that compare predictions with the champion's.

    Returns:
        The conditions; an empty list if there is no champion.
    """
    champion = models.find_champion()
    if champion is None:
        return []
    section, number = params.registry, champion.version
    if not models.has_files(champion):
        return [
            Condition(
                f"files of version {number}",
                "in the store, or no comparison",
                "missing in the store",
                holds=True,
            )
        ]
    try:
        before = find_evaluated(workspace, f"models:/{section.model_name}/{number}")
        return check_progress(
            before.predictions, predictions, section.gate, params.evaluation, params.seed
        )
    except OtherRowsError as error:
        return [
            Condition(
                f"rows of version {number}",
                "the same, or registry.gate.when_rows_differ promote",
                str(error).partition(".")[0],
                section.gate.when_rows_differ == "promote",
            )
        ]
    except ComparisonError as error:
        return [Condition(f"evaluation of version {number}", "available", str(error), holds=False)]


def _shorten(card: str, reserved: int) -> str:
    """Cuts a card at the end of a line, to leave room for the reserved characters."""
    available = _LONGEST_DESCRIPTION - reserved
    if len(card) <= available:
        return card
    hint = "\n\nThe whole card is the artifact `model_card.md` of this version."
    return card[: max(0, available - len(hint))].rpartition("\n")[0] + hint
