"""The stage `register`: exports, checks and registers the model, and applies the gate."""

import json

from person_attributes.config import Params
from person_attributes.pipeline.content import digest_content, list_content
from person_attributes.registry.promotion import open_registry
from person_attributes.runtime.keras_import import import_keras
from person_attributes.tracking.runs import log_up_to_date
from person_attributes.workspace import Workspace


def register(workspace: Workspace, params: Params) -> None:
    """Exports, checks, logs and registers the model; sets the alias if every condition holds.

    A registry has one version of the same content. If there is one and the gate has decided on it,
    this stage only reports it. If its checks were interrupted, they run again.
    """
    content_digest = digest_content(workspace, params)
    with open_registry(workspace, params.registry) as models:
        version = models.find_content(content_digest)
        if version and models.is_settled(version):
            reason, verdict = models.reason_of(version), models.describe_verdict(version)
            _report_registered(workspace, params, str(version.version), reason, verdict)
            return
    import_keras()  # takes seconds, and most runs of this stage do not need it
    from person_attributes.pipeline.registration import register_network

    register_network(workspace, params, content_digest)


def _report_registered(
    workspace: Workspace, params: Params, number: str, reason: str, verdict: str
) -> None:
    """Prints and logs which version already has this content."""
    metrics = json.loads(workspace.metrics.read_text(encoding="utf-8"))
    tags = {"registered_version": number, "gate.reason": reason}
    reads = list_content(workspace)
    log_up_to_date(workspace, params.model_dump(), reads, metrics, tags)
    print(
        f"register: {params.registry.model_name} version {number} already has this content and "
        f"{verdict}"
    )
