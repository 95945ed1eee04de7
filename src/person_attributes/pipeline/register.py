"""The stage `register`: exports, checks and registers the model, and lets the gate decide."""

import json

from person_attributes.config import Params
from person_attributes.pipeline.content import digest_content, list_content
from person_attributes.registry.promotion import open_registry
from person_attributes.runtime.keras_import import import_keras
from person_attributes.tracking.runs import log_up_to_date
from person_attributes.workspace import Workspace


def register(workspace: Workspace, params: Params) -> None:
    """Exports, checks, logs and registers the model; moves the alias where the gate holds.

    A store holds one version of the same content. Where it is there and the gate has decided on it,
    this only says so. Where its checks were interrupted, they run again.
    """
    content_digest = digest_content(workspace, params)
    with open_registry(workspace, params.registry) as models:
        version = models.find_content(content_digest)
        if version and models.is_settled(version):
            reason, verdict = models.reason_of(version), models.word_verdict(version)
            _report_registered(workspace, params, str(version.version), reason, verdict)
            return
    import_keras()  # takes seconds, which most runs of this stage save
    from person_attributes.pipeline.registration import register_network

    register_network(workspace, params, content_digest)


def _report_registered(
    workspace: Workspace, params: Params, number: str, reason: str, verdict: str
) -> None:
    """Says which version has this content, also on the run of the execution."""
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    tags = {"registered_version": number, "gate.reason": reason}
    reads = list_content(workspace, params)
    log_up_to_date(workspace, params.model_dump(), reads, metrics, tags)
    print(
        f"register: {params.registry.model_name} version {number} has this content already and "
        f"{verdict}"
    )
