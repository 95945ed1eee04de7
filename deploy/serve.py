"""Starts the MLflow server of a team. Containers and tests both run this file.

All settings are environment variables of libpq (`PGHOST`, `PGUSER`, `PGPASSWORD`), boto3
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, ...) and MLflow (`MLFLOW_HOST`, `MLFLOW_PORT`, ...), as in
`compose.yaml`. As arguments, passwords would be visible in the list of processes.
"""

import os
from pathlib import Path

import boto3

BUCKET = "mlflow"


def main() -> None:
    """Creates the bucket if it is missing, and replaces this process with the server."""
    s3 = boto3.client("s3")
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(Path(__file__).parent / "basic_auth.ini")
    os.environ["MLFLOW_BACKEND_STORE_URI"] = "postgresql+psycopg:///mlflow"
    # Clients send artifacts to the server, and need no account of the object store.
    os.environ["MLFLOW_ARTIFACTS_DESTINATION"] = f"s3://{BUCKET}"
    os.execvp("mlflow", ["mlflow", "server", "--app-name", "basic-auth"])


if __name__ == "__main__":
    main()
