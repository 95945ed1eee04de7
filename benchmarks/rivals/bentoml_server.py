"""BentoML: `python -m bentoml serve benchmarks.rivals.bentoml_server:Service --port PORT`."""

import bentoml  # type: ignore[import-not-found]  # in the environment of the rivals

from benchmarks.rivals.network import RivalNetwork


@bentoml.service(traffic={"timeout": 60})
class Service:
    """The network, one worker."""

    def __init__(self) -> None:
        self._network = RivalNetwork()

    @bentoml.api(route="/invocations")  # type: ignore[untyped-decorator]
    def answer(self, images: list[str]) -> list[dict[str, list[float]]]:
        """Answers a request."""
        return self._network.answer(images)
