"""What Prometheus itself says of its configuration, of the alert rules, and of their tests."""

import os
import subprocess
from pathlib import Path

MONITORING = Path(__file__).parents[2] / "ops/monitoring"


def test_configuration_and_rules_are_sound_and_fire_when_they_should() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")
    for tests in ("alerts_test.yml", "alerts_ha_test.yml"):
        assert "SUCCESS" in promtool("test", "rules", tests)


def promtool(*words: str) -> str:
    """What it said; it ends with a status other than 0 for whatever is at fault."""
    mounted = [f"--volume={MONITORING}:/rules:ro", "--workdir=/rules", "--entrypoint=promtool"]
    command = ["podman", "run", "--rm", "--network=none", *mounted, os.environ["PROMETHEUS_IMAGE"], *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
