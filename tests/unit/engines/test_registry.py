from pathlib import Path

from havre.engines.process import ProcessEngine
from havre.engines.registry import ENGINES, make_engine
from havre.home import Home
from havre.settings import SETTINGS, load_settings


def test_the_setting_names_every_engine_there_is() -> None:
    [setting] = [setting for setting in SETTINGS if setting.name == "engine"]
    assert set(setting.choices) == set(ENGINES)
    assert setting.default in ENGINES


def test_a_home_runs_models_as_processes_unless_it_is_set_otherwise(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, environ={})
    assert isinstance(make_engine(settings, Home(tmp_path)), ProcessEngine)
