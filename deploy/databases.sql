-- Beside MLflow's own: both keep the version of their tables under one name.
CREATE DATABASE optuna;
