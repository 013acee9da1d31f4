"""A data scientist's notebook with oracle-ads and Spark, as a program: one pipeline, served.

    python ads_spark.py CONFIG PROFILE URL COMPARTMENT PROJECT SLUG

Prints what each step came to as one line of JSON. Nothing in it knows of havre but the endpoint.
"""

import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import ads
from ads.model.framework.spark_model import SparkPipelineModel
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.feature import HashingTF, Tokenizer
from pyspark.sql import SparkSession

POLL_S = 1
SPARKS = [(0, "a b c d e spark", 1.0), (1, "b d", 0.0), (2, "spark f g h", 1.0), (3, "hadoop", 0.0)]
ASKED = [(4, "spark i j k"), (5, "l m n"), (6, "spark hadoop spark"), (7, "apache hadoop")]
AT_ONCE = 16


def main(config, profile, url, compartment, project, slug):
    ads.set_auth(
        "api_key",
        oci_config_location=config,
        profile=profile,
        client_kwargs={"service_endpoint": url},
    )
    spark = SparkSession.builder.master("local[1]").getOrCreate()
    training = spark.createDataFrame(SPARKS, ["id", "text", "label"])
    asked = spark.createDataFrame(ASKED, ["id", "text"])
    words = Tokenizer(inputCol="text", outputCol="words")
    counts = HashingTF(inputCol="words", outputCol="features", numFeatures=64)
    stages = [words, counts, LogisticRegression(maxIter=10, regParam=0.001)]
    estimator = Pipeline(stages=stages).fit(training)
    model = SparkPipelineModel(estimator=estimator, artifact_dir=tempfile.mkdtemp())
    model.prepare(
        ignore_conda_error=True,
        inference_python_version="{}.{}".format(*sys.version_info),
        X_sample=training.drop("label"),
        force_overwrite=True,
    )
    model.runtime_info.model_deployment.inference_conda_env.inference_env_slug = slug
    model.runtime_info.save()
    told = {
        "estimator": [row.prediction for row in estimator.transform(asked).collect()],
        "verified": model.verify(asked)["prediction"],
    }
    model.save(
        display_name="spark",
        ignore_introspection=True,
        compartment_id=compartment,
        project_id=project,
    )
    deployment = model.deploy(
        display_name="spark",
        poll_interval=POLL_S,
        compartment_id=compartment,
        project_id=project,
        deployment_instance_shape="VM.Standard.E4.Flex",
        deployment_ocpus=1,
        deployment_memory_in_gbs=16,
    )
    told["id"] = deployment.model_deployment_id
    told["state"] = deployment.state.name
    told["predicted"] = model.predict(asked)["prediction"]
    # Each asks for another number of rows: an answer that reached the wrong copy would show.
    rows = [
        [json.dumps({"id": i, "text": text}) for i, text in ASKED][: 1 + n % 4]
        for n in range(AT_ONCE)
    ]
    with ThreadPoolExecutor(4) as pool:
        told["at_once"] = [answer["prediction"] for answer in pool.map(deployment.predict, rows)]
    deployment.delete(poll_interval=POLL_S)
    told["farewell"] = deployment.state.name
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
