from pathlib import Path

import pytest

from tests.fuzz.api import Run, run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_api_keeps_to_its_description(tmp_path: Path) -> None:
    code, said = run(tmp_path, Run(examples=5, seed=0, short=True))

    assert code == 0, said
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in said
