import pytest

from havre.domain.errors import SettingInvalid
from havre.settings import load_settings


@pytest.mark.parametrize("name", ["rollout_replay", "rollout_canary"])
def test_a_rollout_that_means_nothing_is_refused_with_its_source(tmp_path, name):
    with pytest.raises(SettingInvalid, match=f'{name} from HAVRE_.* must be .*, or "off"'):
        load_settings(tmp_path, environ={f"HAVRE_{name.upper()}": "soon"})


@pytest.mark.parametrize("stated", ["packs", "a/b/c", "oci://b@n", "/b"])
def test_buckets_are_named_with_their_namespace(tmp_path, stated):
    with pytest.raises(SettingInvalid, match="must name a namespace and a bucket"):
        load_settings(tmp_path, environ={"HAVRE_OBJECT_STORE_ALLOWED": f"ours/*:{stated}"})
