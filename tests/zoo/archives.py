"""Archives as people's programs make them, each with what must lie in the artifact's folder.

The files are in ``archives/``. Those of Info-ZIP 3.0 were made by it, from one folder: on a machine
without locales it writes UTF-8 and does not say so. The others hold, byte for byte, what the named
program writes into an entry's head, and little content.
"""

from pathlib import Path

FOLDER = Path(__file__).with_name("archives")

_OF_ONE_FOLDER = {
    "score.py": "def predict(data): return data\n",
    "modèle.pkl": "m",
    "données/日本.csv": "d",
    "cafe\u0301.txt": "n",  # decomposed in the folder, too: Linux tells the two apart
}

ARCHIVES: dict[str, dict[str, str]] = {
    "infozip-3.0-no-locales.zip": _OF_ONE_FOLDER,
    "infozip-3.0-utf8-locale.zip": _OF_ONE_FOLDER,
    # The name in Latin-1 and Shift JIS (which has a backslash in 表), in UTF-8 beside it.
    "infozip-code-pages.zip": {
        "score.py": "def predict(data): return data\n",
        "modèle.pkl": "m",
        "表.csv": "d",
    },
    # UTF-8 without the flag, decomposed, sizes behind the content, forks of its own beside it.
    "finder.zip": {
        "model/score.py": "def predict(data): return data\n",
        "model/modèle.pkl": "m",
        "model/données/日本ガ.csv": "d",
        "__MACOSX/model/._modèle.pkl": "\0\5\x16\7",
    },
    "finder-no-forks.zip": {"score.py": "def predict(data): return data\n", "modèle.pkl": "m"},
    # Code page 850, of which the format says 437: they agree on this name.
    "explorer.zip": {"score.py": "def predict(data): return data\n", "modèle.pkl": "m"},
    # A field in UTF-8 that belongs to the name the entry had before another program renamed it.
    "renamed-since.zip": {"score.py": "def predict(data): return data\n", "modèle.pkl": "m"},
}

REFUSED: dict[str, str] = {
    # The code page's name is harmless, the one in UTF-8 beside it is not.
    "unicode-path-upwards.zip": r"leads out of the archive with '\.\.'",
}
