"""A real, small model to begin with: ``train.py`` runs inside an inference environment.

It is executed there by path, never imported here; ``score.py`` beside it is what it packs.
"""

from pathlib import Path

TRAIN = Path(__file__).with_name("train.py")
"""``python TRAIN OUTPUT --slug SLUG`` writes OUTPUT/artifact/ and OUTPUT/held_out.json."""
