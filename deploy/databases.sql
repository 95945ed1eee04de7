-- A separate database: MLflow and Optuna both name a table alembic_version.
CREATE DATABASE optuna;
