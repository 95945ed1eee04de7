-- A database of its own: MLflow and Optuna both name a table alembic_version.
CREATE DATABASE optuna;
