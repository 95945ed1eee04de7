"""Speed, each figure beside a rival's of the same run."""
