"""LitServe: `python -m benchmarks.rivals.litserve_server PORT`."""

import sys
from typing import Any

import litserve  # type: ignore[import-not-found]  # in the environment of the rivals

from benchmarks.rivals.network import RivalNetwork


class _Api(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._network = RivalNetwork()

    def decode_request(self, request: dict[str, Any], **_: Any) -> list[str]:
        return list(request["images"])

    def predict(self, images: list[str], **_: Any) -> list[dict[str, list[float]]]:
        return self._network.answer(images)

    def encode_response(self, output: Any, **_: Any) -> Any:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(_Api(api_path="/invocations"), accelerator="cpu")
    server.run(port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
