import subprocess
import sys

import mira


def test_every_public_name_is_there_and_documented() -> None:
    for name in mira.__all__:
        value = getattr(mira, name)
        assert name == "__version__" or value.__doc__, name
    assert mira.__all__ == sorted(mira.__all__)


def test_stages_are_functions_even_when_their_folder_is_imported() -> None:
    code = (
        "import mira, mira.pipeline, mira.report.stage, mira.plan\n"
        "names = 'group discover label distill score reliability select report plan demo'.split()\n"
        "assert all(type(getattr(mira, n)).__name__ == 'function' for n in names)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_mira_is_light() -> None:
    code = "import sys, mira, mira.cli; sys.exit(any(m in sys.modules for m in ('sklearn', 'onnxruntime', 'duckdb')))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(mira, "nonsense")
