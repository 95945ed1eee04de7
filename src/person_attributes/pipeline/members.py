"""Loads the network that is scored: that of one phase, or an ensemble."""

from collections.abc import Sequence

import keras

from person_attributes.config import Params
from person_attributes.digests import digest_path
from person_attributes.errors import ProjectError
from person_attributes.modeling.classifier import average_flips
from person_attributes.modeling.ensemble import average_networks
from person_attributes.pipeline.networks import build_network
from person_attributes.workspace import Workspace


def load_members(workspace: Workspace, params: Params) -> list[keras.Model]:
    """Loads the network of each phase in `evaluation.phases`.

    Raises:
        ProjectError: If a phase was trained after its weights were copied. Run `dvc repro`.
    """
    members = []
    for phase in params.evaluation.phases:
        _refuse_earlier_weights(workspace, phase)
        member = build_network(workspace, params, params.evaluated_image_size)
        member.load_weights(workspace.selected_weights(phase))
        members.append(member)
    return members


def _refuse_earlier_weights(workspace: Workspace, phase: str) -> None:
    """Refuses a copy of other weights than those of the phase. `dvc pull` may leave these out."""
    weights, copy = workspace.weights(phase), workspace.selected_weights(phase)
    if weights.exists() and digest_path(weights) != digest_path(copy):
        raise ProjectError(
            f"{workspace.relative(copy)}: expected a copy of {workspace.relative(weights)}. "
            "Received: other weights. Run dvc repro, or person-attributes select."
        )


def combine_members(members: Sequence[keras.Model], params: Params) -> keras.Model:
    """Combines members into the network that is scored.

    Its probabilities are means over the members and, if `evaluation.flips` is set, over each image
    and its mirror image.
    """
    network = average_networks(members)
    return average_flips(network) if params.evaluation.flips else network


def load_scored_network(workspace: Workspace, params: Params) -> keras.Model:
    """Loads the network that is scored."""
    return combine_members(load_members(workspace, params), params)
