import pytest

from havre.domain.errors import SettingInvalid
from havre.settings import load_settings


@pytest.mark.parametrize("name", ["rollout_replay", "rollout_canary"])
def test_a_rollout_that_means_nothing_is_refused_with_its_source(tmp_path, name):
    with pytest.raises(SettingInvalid, match=f'{name} from HAVRE_.* must be .*, or "off"'):
        load_settings(tmp_path, environ={f"HAVRE_{name.upper()}": "soon"})
