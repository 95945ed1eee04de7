"""Coverage-guided fuzzing: `python -m fuzzing TARGET SECONDS`; exit code 0 if nothing was found."""

import sys
import tempfile
import warnings

import atheris

_INSTRUMENTED = ["person_attributes", "PIL", "csv", "zipfile"]

with atheris.instrument_imports(include=_INSTRUMENTED):
    from fuzzing.targets import CORPUS, TARGETS, prepare


def main() -> None:
    """Mutates the corpus for some seconds; an input that causes an error is written to a file."""
    name, seconds = sys.argv[1:]
    warnings.simplefilter("ignore")  # Pillow warns about mutated images
    with atheris.instrument_imports(include=_INSTRUMENTED):
        prepare()  # imports Pillow's decoders, among others
    found = tempfile.mkdtemp(prefix=f"fuzzing-{name}-")  # keeps new inputs out of the repository
    options = [f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-seed=1"]
    arguments = [sys.argv[0], *options, f"-artifact_prefix={found}/", found, str(CORPUS / name)]
    atheris.Setup(arguments, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
