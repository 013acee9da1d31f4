#!/usr/bin/env bash
# MLServer 1.7.1 accepts pandas 3 (its metadata sets no upper bound), and its PandasCodec cannot
# encode a frame with a column of text under it: KeyError: 'O'. Frames of numbers work, so a client
# that was tried with those fails at the first text. With pandas 2.3.3 the same frame is encoded as
# BYTES. havre's own answers to such clients do not depend on it (havre_copy/result_tensors.py); a client
# that sends frames needs pandas 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2.3.3 3.0.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install -q "mlserver==1.7.1" "pandas==$version"
    said=$("$folder/$version/bin/python" -W ignore - 2> /dev/null <<'PYTHON'
import pandas as pd
from mlserver.codecs import PandasCodec

try:
    sent = PandasCodec.encode_request(pd.DataFrame({"town": ["a", "b"]}))
    print(sent.inputs[0].datatype)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
PYTHON
    )
    echo "mlserver 1.7.1, pandas $version: $said"
    case $version in
        2.*) wanted=BYTES ;;
        *) wanted="KeyError: 'O'" ;;
    esac
    [ "$said" = "$wanted" ] || { echo "this has changed"; exit 1; }
done
