"""The command `pretrained`: registers the published network."""

from person_attributes.config import PRETRAINED, Params
from person_attributes.registry.pretrained import Pretrained
from person_attributes.registry.promotion import open_registry
from person_attributes.runtime.keras_import import import_keras
from person_attributes.workspace import Workspace


def pretrained(workspace: Workspace, params: Params) -> None:
    """Registers the published network under the alias `pretrained`.

    A registry has one version of the same content. The champion does not change.

    Args:
        workspace: The project; its folder `pretrained` has the network.
        params: The name of the registered model, and the settings of serving.

    Raises:
        RegistryError: If a file of the network is missing or damaged. Restore it from git.
    """
    network = Pretrained.read(workspace.pretrained)
    content_digest = network.digest_content(params)
    with open_registry(workspace, params.registry) as models, models.lock():
        version = models.find_content(content_digest)
        if version is None:
            import_keras()  # takes seconds, and a second call does not need it
            from person_attributes.registry.pretrained_model import log_pretrained

            version = models.add(log_pretrained(network, workspace, params), content_digest)
        is_new = models.set_pretrained(version, network.card)
    name = params.registry.model_name
    print(
        f"pretrained: {name} version {version.version} "
        f"{'has' if is_new else 'already has'} the alias {PRETRAINED}"
    )
    if is_new:
        uri = f"models:/{name}@{PRETRAINED}"
        print(f"label images  person-attributes predict PHOTOS labels.csv --model {uri}")
        print(f"serve it      mlflow models serve -m {uri} --env-manager uv --port 5001")
