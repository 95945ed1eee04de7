"""Who is champion, since when and why: the alias of the registry, moved by a gate."""

import contextlib
from collections.abc import Iterator, Sequence
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
"""In front of the time of a promotion, in the name of a tag; its value is the reason."""

_SOUND, _PROMOTED, _REASON = "gate.sound", "gate.promoted", "gate.reason"

_CONTENT, _SETTLED = "content_digest", "gate.settled"
"""Tags of a version: a digest of all that it was made of, and whether the gate has decided."""

_ROLLED_BACK = "rolled back from"

_PUBLISHED = "published network: not evaluated on rows of this project"
"""The reason on versions of the published network, which the gate does not judge."""

_LONGEST_DESCRIPTION = 5000
"""Characters that MLflow's stores keep; the whole card is an artifact of the version."""

_FIGURES = ("mean_accuracy", "loss", "mean_calibrated_ece")
"""What versions carry as tags, for the list of models."""


@dataclass(frozen=True)
class Registered:
    """What became of a version.

    Attributes:
        version: Its number in the registry.
        is_champion: Whether it holds the alias now.
        reason: Why, in one sentence.
    """

    version: str
    is_champion: bool
    reason: str


@dataclass(frozen=True)
class ChampionPeriod:
    """A time as champion: which version, since when (in UTC), and why."""

    since: str
    version: str
    reason: str


class Registry:
    """The versions of one registered model, and their alias."""

    def __init__(self, client: MlflowClient, workspace: Workspace, params: RegistryParams) -> None:
        self._client = client
        self._name = params.model_name
        self._alias = params.alias
        self._lock = workspace.promotion_lock

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keeps other promotions of this project waiting: a verdict is on one champion."""
        with filelock.FileLock(self._lock):
            yield

    def find_champion(self) -> ModelVersion | None:
        """Gives the version that holds the alias."""
        try:
            return self._client.get_model_version_by_alias(self._name, self._alias)
        except MlflowException as error:
            if error.error_code in NOT_THERE:
                return None
            raise

    def find_servable_champion(self) -> ModelVersion | None:
        """Gives the version that holds the alias, where its files are in the store."""
        champion = self.find_champion()
        return champion if champion and self.has_files(champion) else None

    def require_champion(self) -> ModelVersion:
        """Gives the version that holds the alias, with its files in the store.

        Raises:
            RegistryError: If there is none: says how to get a champion.
        """
        champion = self.find_servable_champion()
        if champion is not None:
            return champion
        versions = [
            version
            for version in self._versions()
            if self.has_files(version) and self.reason_of(version) != _PUBLISHED
        ]
        if not versions:
            raise RegistryError(
                f"{self._name}: no version is registered, or their files are gone from the store. "
                "Run dvc repro. Or run person-attributes pretrained and name the published "
                f"network: models:/{self._name}@{PRETRAINED}."
            )
        newest = max(versions, key=lambda one: int(one.version))
        raise RegistryError(
            f"{self._name}: no version in the store has the alias {self._alias}. The newest is "
            f"version {newest.version}; the gate said: {self.reason_of(newest)}. Run "
            f"person-attributes promote {newest.version}, which sets it where the gate holds."
        )

    def find(self, number: str) -> ModelVersion:
        """Gives a version.

        Raises:
            RegistryError: If there is no such version; `models` lists them.
        """
        try:
            return self._client.get_model_version(self._name, number)
        except MlflowException as error:
            if error.error_code not in NOT_THERE:
                raise
            raise RegistryError(
                f"{self._name} {number}: no such version. Run person-attributes models, which "
                "lists them."
            ) from None

    def add(self, model_uri: str, content_digest: str) -> ModelVersion:
        """Registers a logged model as a new version."""
        return mlflow.register_model(model_uri, self._name, tags={_CONTENT: content_digest})

    def find_content(self, content_digest: str) -> ModelVersion | None:
        """Finds the newest version of some content, where its files are still in the store."""
        found = self._client.search_model_versions(
            f"name = {quote_value(self._name)} and tags.{_CONTENT} = '{content_digest}'"
        )
        for version in sorted(found, key=lambda one: -int(one.version)):
            if self.has_files(version):
                return self.find(str(version.version))
        return None

    def has_files(self, version: ModelVersion) -> bool:
        """Says whether the files of a version are in the store: people delete them by hand."""
        place = self._client.get_model_version_download_uri(self._name, str(version.version))
        return bool(mlflow.artifacts.list_artifacts(artifact_uri=place))

    def is_settled(self, version: ModelVersion) -> bool:
        """Says whether the gate has decided on a version; a kill may have come before."""
        return bool(version.tags.get(_SETTLED) == "true")

    def describe(
        self, number: str, figures: dict[str, float], validation_digest: str, card: str
    ) -> None:
        """Writes figures, the rows that they are of, and the card on a version."""
        tags = {name: repr(figures[name]) for name in _FIGURES}
        for key, value in (tags | {"validation_digest": validation_digest}).items():
            self._client.set_model_version_tag(self._name, number, key, value)
        self._client.update_model_version(self._name, number, _shorten(card, 0))

    def confirm(self, number: str) -> Registered | None:
        """Marks a version that holds the alias as decided on: a kill came before the mark."""
        champion = self.find_champion()
        if champion is None or str(champion.version) != number:
            return None
        self._client.set_model_version_tag(self._name, number, _SETTLED, "true")
        return Registered(number, is_champion=True, reason=self.reason_of(champion))

    def settle(
        self, number: str, sound: Sequence[Condition], progress: Sequence[Condition]
    ) -> Registered:
        """Promotes a version where all conditions hold, and writes the verdict on it.

        The mark that the gate has decided is written last. Where it is missing, everything is
        decided again.

        Args:
            number: The challenger.
            sound: Conditions on the challenger alone.
            progress: Conditions against the champion.
        """
        failed = [one for one in (*sound, *progress) if not one.holds]
        reason = "every condition of the gate holds"
        if failed:
            reason = str(failed[0])
        elif not progress:
            reason = "there was no champion"
        tags = {
            _SOUND: str(all(one.holds for one in sound)).lower(),
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
        """Notes on a version when and why it becomes champion, then moves the alias to it."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"
        self._client.set_model_version_tag(self._name, number, f"{_CHAMPION}{now}", reason)
        self._client.set_registered_model_alias(self._name, self._alias, number)

    def set_pretrained(self, version: ModelVersion, card: str) -> bool:
        """Sets the alias `pretrained` on a version of the published network.

        The alias is set last. Where it is missing, the reason and the card are written again.

        Args:
            version: The version.
            card: Its description, as Markdown.

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
        """Says whether the conditions on a version alone held when it was registered."""
        return bool(version.tags.get(_SOUND) == "true")

    def word_verdict(self, version: ModelVersion) -> str:
        """Says whether a version is the champion, and why not."""
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
        """Gives the verdict of the gate on a version, in one sentence."""
        return str(version.tags.get(_REASON, "its checks never ended"))

    def list_champion_periods(self) -> list[ChampionPeriod]:
        """Lists who was champion, the first one first."""
        found = [
            ChampionPeriod(key.removeprefix(_CHAMPION), str(version.version), str(reason))
            for version in self._versions()
            for key, reason in version.tags.items()
            if key.startswith(_CHAMPION)
        ]
        return sorted(found, key=lambda period: period.since)

    def roll_back(self) -> Registered:
        """Gives the alias back to the champion before the present one.

        Raises:
            RegistryError: If there was none.
        """
        champion = self.find_champion()
        number = str(champion.version) if champion else ""
        earlier = self._earlier_champions()
        while earlier and earlier[-1] == number:
            earlier.pop()
        if not earlier:
            raise RegistryError(
                f"{self._name}: no earlier champion to go back to. Promote a version by its number."
            )
        reason = f"{_ROLLED_BACK} version {number or 'none'}"
        self.set_alias(earlier[-1], reason)
        return Registered(earlier[-1], is_champion=True, reason=reason)

    def _earlier_champions(self) -> list[str]:
        """Lists champions as a stack: what was rolled back from is no way to go back to."""
        stack: list[str] = []
        for period in self.list_champion_periods():
            if period.reason.startswith(_ROLLED_BACK) and period.version in stack:
                while stack[-1] != period.version:
                    stack.pop()
            else:
                stack.append(period.version)
        return stack

    def format_versions(self) -> str:
        """Lists all versions for a terminal, the newest first."""
        champion = self.find_champion()
        periods = self.list_champion_periods()
        lines = [
            f"{'version':<9}{'registered':<18}{'accuracy':>9}{'loss':>8}{'ece':>7}  gate and alias"
        ]
        for version in sorted(self._versions(), key=lambda one: -int(one.version)):
            number = str(version.version)
            registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
            figures = "".join(
                f"{float(version.tags[name]):>{width}.3f}" if name in version.tags else " " * width
                for name, width in zip(_FIGURES, (9, 8, 7), strict=True)
            )
            reason = self.reason_of(version)
            lines.append(f"{number:<9}{registered:%Y-%m-%d %H:%M}  {figures}  {reason}")
            if champion and number == str(champion.version):
                told = f"{self._alias}, by an alias that was moved elsewhere"
                if periods and periods[-1].version == number:
                    told = f"{self._alias} since {periods[-1].since[:16]} UTC: {periods[-1].reason}"
                lines.append(f"{'':<9}{told}")
        if len(lines) == 1:
            raise RegistryError(f"{self._name}: no version is registered. Run dvc repro.")
        return "\n".join(lines)

    def _versions(self) -> list[ModelVersion]:
        found = self._client.search_model_versions(f"name = {quote_value(self._name)}")
        # A search leaves out tags on some stores.
        return [self._client.get_model_version(self._name, one.version) for one in found]


@contextlib.contextmanager
def open_registry(workspace: Workspace, params: RegistryParams) -> Iterator[Registry]:
    """Opens the registry; what MLflow raises in the block becomes one line."""
    with translate_mlflow_errors():
        yield Registry(connect(workspace), workspace, params)


def require_champion(workspace: Workspace, params: Params) -> str:
    """Gives the URI of the champion.

    Raises:
        RegistryError: If there is none: says how to get one.
    """
    with open_registry(workspace, params.registry) as models:
        models.require_champion()
    return f"models:/{params.registry.model_name}@{params.registry.alias}"


def check_against_champion(
    models: Registry, predictions: Predictions, workspace: Workspace, params: Params
) -> list[Condition]:
    """Gives the conditions against the champion; none where there is none with its files."""
    champion = models.find_servable_champion()
    if champion is None:
        return []
    section, number = params.registry, champion.version
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
        return [Condition(f"evaluation of version {number}", "at hand", str(error), holds=False)]


def _shorten(card: str, reserved: int) -> str:
    """Cuts a card at the end of a line, so that so many characters more fit in."""
    room = _LONGEST_DESCRIPTION - reserved
    if len(card) <= room:
        return card
    hint = "\n\nThe whole card is `model_card.md` among the version's artifacts."
    return card[: max(0, room - len(hint))].rpartition("\n")[0] + hint
