"""Every sample that is shipped, the default of `init` among them, is a right configuration."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyrsyncbackup_collector
import pytest
from pyrsyncbackup_collector.config import effective, load
from pyrsyncbackup_collector.config.model import HostConfig, Limits, PolicySettings, Space

SAMPLES = Path(__file__).parents[4] / "packaging" / "samples"
TEMPLATES = Path(pyrsyncbackup_collector.__file__).parent / "cli"


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*/collector.toml")), ids=lambda file: file.parent.name)
def test_a_sample_is_right(file: Path) -> None:
    assert load(file).hosts


def test_the_fleet_sample_shows_every_key() -> None:
    config = load(SAMPLES / "fleet/collector.toml")
    assert config.limits.model_fields_set == set(Limits.model_fields)
    assert config.space.model_fields_set == set(Space.model_fields)
    assert config.policy.model_fields_set == set(PolicySettings.model_fields) - {"bwlimit"}
    assert set.union(*(set(host.model_fields_set) for host in config.hosts)) == set(HostConfig.model_fields)
    assert config.limits == Limits(), "the sample shows the defaults"
    assert effective(config, "db1", "etc").check == 300
    assert effective(config, "db1", "postgresql-15").pull == 6 * 3600
    assert effective(config, "web1", "docker").check is None


def test_the_template_of_init_is_right_as_it_is_and_with_all_its_comments_taken_away(tmp_path: Path) -> None:
    template = (TEMPLATES / "collector.toml").read_text()
    (tmp_path / "collector.toml").write_text(template)
    shutil.copy(TEMPLATES / "hosts.toml", tmp_path / "hosts.toml")
    assert load(tmp_path / "collector.toml").hosts == ()
    lines = [line.removeprefix("# ") for line in template.splitlines() if not line.startswith("# ") or _is_key(line)]
    (tmp_path / "collector.toml").write_text("\n".join(lines))
    (tmp_path / "hosts.d").mkdir()
    hosts = (TEMPLATES / "hosts.toml").read_text().splitlines()
    (tmp_path / "hosts.d/a.toml").write_text("\n".join(line.removeprefix("# ") for line in hosts if _is_key(line)))
    config = load(tmp_path / "collector.toml")
    assert [host.name for host in config.hosts] == ["web1"]


def _is_key(line: str) -> bool:
    text = line.removeprefix("# ")
    return text.startswith("[") or " = " in text.split(" # ")[0]
