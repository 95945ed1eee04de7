"""Starts a team's MLflow server: what the container runs, and what the tests run.

Everything stands in the environment, under the names of libpq (`PGHOST`), boto3
(`AWS_ENDPOINT_URL`) and MLflow (`MLFLOW_HOST`): no list of processes shows a password.
"""

import os
from pathlib import Path

import boto3

BUCKET = "mlflow"


def main() -> None:
    """Makes the bucket where it is missing, and becomes the server."""
    s3 = boto3.client("s3")
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(Path(__file__).parent / "basic_auth.ini")
    os.environ["MLFLOW_BACKEND_STORE_URI"] = "postgresql+psycopg:///mlflow"
    # Clients send artifacts to the server, and need no account of the store behind it.
    os.environ["MLFLOW_ARTIFACTS_DESTINATION"] = f"s3://{BUCKET}"
    os.execvp("mlflow", ["mlflow", "server", "--app-name", "basic-auth"])


if __name__ == "__main__":
    main()
