"""What the forecast operator of oracle-ads puts into an artifact, made as it makes it.

    python ads_forecast.py FOLDER

Writes its own score.py, a models.pickle with a model of each kind that trains within seconds, and
the days to be forecast as future.csv; prints what each kind has to forecast as one line of JSON.
"""

import json
import shutil
import sys
from pathlib import Path

import ads
import cloudpickle
import lightgbm
import pandas
import pmdarima
import prophet
import xgboost
from ads.dataset.label_encoder import DataFrameLabelEncoder
from mlforecast import MLForecast

SCORE = "opctl/operator/lowcode/forecast/whatifserve/score.py"
DAYS, HORIZON = 90, 7


def main(folder):
    kinds = {
        "prophet": of_prophet,
        "arima": of_arima,
        "lgbforecast": of_trees(lightgbm.LGBMRegressor(verbosity=-1)),
        "xgbforecast": of_trees(xgboost.XGBRegressor(n_estimators=20)),
    }
    models = {
        kind: {"series": [kind], "model_artifact": make(kind, rows())}
        for kind, make in kinds.items()
    }
    spec = {
        "horizon": HORIZON,
        "model": "auto-select-series",
        "datetime_column": {"name": "day", "format": "%Y-%m-%d"},
        "target_column": "sold",
        "target_category_columns": ["shop"],
    }
    folder.mkdir()
    shutil.copy2(Path(ads.__file__).parent / SCORE, folder / "score.py")
    with (folder / "models.pickle").open("wb") as file:
        cloudpickle.dump({"spec": spec, "models": models}, file)
    future = rows(DAYS, HORIZON).drop(columns="sold")
    future["day"] = future["day"].dt.strftime("%Y-%m-%d")
    pandas.concat(future.assign(shop=kind) for kind in kinds).to_csv(
        folder / "future.csv", index=False
    )
    print(json.dumps({kind: rows(DAYS, HORIZON)["sold"].tolist() for kind in kinds}))


def rows(first=0, count=DAYS):
    days = pandas.date_range("2026-01-01", periods=first + count)[first:]
    return pandas.DataFrame(
        {
            "day": days,
            "sold": [float(day) for day in range(first, first + count)],
            "price": [float(day % 5) for day in range(first, first + count)],
        }
    )


def of_prophet(series, frame):
    frame = frame.rename(columns={"day": "ds", "sold": "y"}).assign(shop=series)
    model = prophet.Prophet()
    model.add_regressor("price")
    encoder = DataFrameLabelEncoder().fit(frame.drop(columns=["ds", "y"]))
    return {series: {"model": model.fit(encoder.transform(frame)), "le": encoder}}


def of_arima(series, frame):
    frame = frame.set_index("day")
    model = pmdarima.ARIMA(order=(1, 1, 0)).fit(y=frame["sold"], X=frame[["price"]])
    encoder = DataFrameLabelEncoder().fit(frame[["price"]].assign(shop=series))
    kept = {"model": model, "le": encoder, "predict_component_cols": ["price"]}
    return {series: kept}


def of_trees(regressor):
    def make(series, frame):
        columns = ["Series", "day", "sold", "price"]
        model = MLForecast(models={"forecast": regressor}, freq="D", lags=[1, 7])
        model.fit(
            frame.assign(Series=series)[columns],
            static_features=[],
            id_col="Series",
            time_col="day",
            target_col="sold",
        )
        return {"model": model, "model_columns": columns}

    return make


if __name__ == "__main__":
    main(Path(sys.argv[1]))
