"""Random jobs, killed at random: `soak.py`, a short one; with a new seed each time, but in CI."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.runs.soak import soak

#: So many, however long they take: what ends after some seconds does too little on a busy machine.
RUNS = 6


@pytest.mark.timeout(300)
def test_random_jobs_survive_random_kills(tmp_path: Path) -> None:
    seed = 1 if os.environ.get("CI") else random.SystemRandom().randrange(10**6)
    print(f"again: python tests/runs/soak.py --runs {RUNS} --engines local --seed {seed}")
    made = soak(RUNS, seed, tmp_path, engines=["local"])
    print(made)
    assert made.failures == []
    assert made.runs == RUNS
