"""Speed benchmarks; each one compares this project with a rival in the same run."""
