"""What a model does that has used a library while loading: the text of its score.py."""

NUMBA = """
import numpy
from numba import njit, prange, vectorize
@njit(parallel=True)
def work(values):
    out = numpy.empty_like(values)
    for n in prange(values.shape[0]):
        out[n] = values[n] * 2 + 1
    return out
"""
NUMBA_UFUNC = """
import numpy
from numba import vectorize
@vectorize(["float64(float64)"], target="parallel")
def work(value):
    return value * 2 + 1
"""
NUMBA_END = """
work(numpy.arange(1000.0))
def predict(n): return float(work(numpy.arange(float(n))).sum())
"""
TREES = """
import numpy
{imports}
rows = numpy.random.default_rng(0).normal(size=(2000, 10))
model = {model}.fit(rows, rows[:, 0] > 0)
model.predict_proba(rows)
def predict(n): return round(float(model.predict_proba(numpy.resize(rows, (n, 10)))[:, 1].sum()), 2)
"""
ONNX = """
import numpy, onnx, onnxruntime
from onnx import TensorProto, helper
weights = numpy.random.default_rng(0).normal(size=(64, 64)).astype("f4")
steps = [("MatMul", ["x", "w"], ["a"]), ("Relu", ["a"], ["b"]), ("MatMul", ["b", "w"], ["c"]),
         ("MatMul", ["a", "w"], ["d"]), ("Add", ["c", "d"], ["y"])]
graph = helper.make_graph(
    [helper.make_node(*step) for step in steps], "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
    [helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel())])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
options = onnxruntime.SessionOptions()
{options}
session = onnxruntime.InferenceSession(
    model.SerializeToString(), options, providers=["CPUExecutionProvider"])
def predict(n):
    rows = numpy.ones((min(n, 20_000), 64), "f4")
    return round(float(numpy.abs(session.run(None, {{"x": rows}})[0]).mean()), 3)
predict(1000)
"""
TENSORFLOW = """
import numpy, tensorflow
tensorflow.keras.utils.set_random_seed(0)
layers = tensorflow.keras.layers
model = tensorflow.keras.Sequential([layers.Input((8,)), layers.Dense(8), layers.Dense(1)])
def predict(n): return round(float(numpy.mean({call})), 3)
predict(3)
"""
BLAS = """
import numpy
def predict(n):
    size = min(int(n ** 0.5) + 2, 1500)
    square = numpy.arange(float(size * size)).reshape(size, size) % 13
    return float((square @ square).sum())
predict(1_000_000)
"""
MKL = """
import ctypes, numpy
mkl = ctypes.CDLL("libmkl_rt.so.3")
def predict(n):
    size = min(int(n ** 0.5) + 2, 1500)
    square = numpy.arange(float(size * size)).reshape(size, size) % 13
    product = numpy.zeros_like(square)
    one, zero = ctypes.c_double(1), ctypes.c_double(0)
    a, c = [ctypes.c_void_p(each.ctypes.data) for each in (square, product)]
    mkl.cblas_dgemm(101, 111, 111, size, size, size, one, a, size, a, size, zero, c, size)
    return float(product.sum())
predict(1_000_000)
"""
POLARS = """
import polars
def predict(n):
    table = polars.DataFrame({"key": [each % 7 for each in range(n)], "value": range(n)})
    return table.group_by("key").agg(polars.col("value").sum()).sort("key")["value"].to_list()
predict(1000)
"""
PYARROW = """
import pyarrow
def predict(n):
    table = pyarrow.table({"key": [each % 7 for each in range(n)], "value": range(n)})
    sums = table.group_by("key").aggregate([("value", "sum")]).sort_by("key")
    return sums["value_sum"].to_pylist()
predict(1000)
"""
DUCKDB = """
import duckdb
base = duckdb.connect()
base.execute("create table t as select range % 7 as key, range as value from range(1000000)")
def predict(n):
    query = "select sum(value)::bigint from t where value < ? group by key order by key"
    return base.execute(query, [n]).fetchall()
predict(1000)
"""
GRPC = """
import grpc
channel = grpc.insecure_channel("127.0.0.1:1")
def predict(n):
    try:
        channel.unary_unary("/some/method")(b"x", timeout=5)
    except grpc.RpcError as error:
        return str(error.code())
predict(1)
"""
TOKENIZERS = """
from tokenizers import Tokenizer, models, pre_tokenizers
words = {"a": 0, "b": 1, "[UNK]": 2}
tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
def predict(n): return sum(sum(each.ids) for each in tokenizer.encode_batch(["a b c"] * n))
predict(2000)
"""
FAISS = """
import faiss, numpy
rows = numpy.random.default_rng(0).normal(size=(20_000, 32)).astype("f4")
index = faiss.IndexFlatL2(32)
index.add(rows)
def predict(n): return int(index.search(numpy.resize(rows, (min(n, 3000), 32)), 5)[1].sum())
predict(1000)
"""
JAX = """
import jax, jax.numpy
work = jax.jit(lambda rows: (rows @ rows.T).sum())
def predict(n): return float(work(jax.numpy.ones((min(n, 1000), 10))))
predict(100)
"""
TORCH = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
def predict(n):
    with torch.inference_mode():
        return round(float(model(torch.ones(min(n, 50_000), 64).exp()).mean()), 3)
predict(50_000)
"""
TRANSFORMERS = """
import tempfile, torch, transformers
torch.manual_seed(0)
config = transformers.BertConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=50)
with tempfile.TemporaryDirectory() as folder:
    transformers.BertModel(config).save_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder)
def predict(n):
    tokens = torch.ones((min(n, 2000), 8), dtype=torch.long)
    with torch.inference_mode():
        return round(float(model.eval()(tokens).last_hidden_state[0, 0, 0]), 3)
predict(2000)
"""
SPACY = """
import spacy
model = spacy.blank("en")
model.add_pipe("sentencizer")
def predict(n):
    return sum(len(list(each.sents)) for each in model.pipe(["a b. c d."] * min(n, 5000)))
predict(100)
"""
KMEANS = """
from sklearnex import patch_sklearn
patch_sklearn()
import numpy
from sklearn.cluster import KMeans
rows = numpy.random.default_rng(0).normal(size=(5000, 10))
model = KMeans(5, random_state=0, n_init=1).fit(rows)
def predict(n): return int(model.predict(numpy.resize(rows, (n, 10))).sum())
predict(5000)
"""
OPENCV = """
import cv2, numpy
def predict(n):
    side = min(int(n ** 0.5) + 8, 2000)
    picture = numpy.arange(side * side, dtype="uint32").reshape(side, side).astype("uint8")
    return int(cv2.GaussianBlur(cv2.resize(picture, (side * 2, side * 2)), (9, 9), 0).sum())
predict(1_000_000)
"""
NUMEXPR = """
import numexpr, numpy
def predict(n):
    values = numpy.arange(float(n))
    return float(numexpr.evaluate("values * 2 + 1").sum())
predict(1_000_000)
"""
TQDM = """
from tqdm import tqdm
def predict(n): return sum(tqdm(range(n)))
predict(1000)
"""
SENTRY = """
import sentry_sdk
class Nowhere(sentry_sdk.transport.Transport):
    def __init__(self, options=None):
        super().__init__(options)
        self.worker = sentry_sdk.worker.BackgroundWorker()
        self.seen = 0
    def capture_envelope(self, envelope):
        def see(): self.seen += 1
        self.worker.submit(see)
    def flush(self, timeout, callback=None): self.worker.flush(timeout, callback)
import sentry_sdk.transport, sentry_sdk.worker
transport = Nowhere()
sentry_sdk.init("http://key@127.0.0.1:1/1", transport=transport, default_integrations=False)
def predict(n):
    transport.seen = 0
    sentry_sdk.capture_message("answered")
    sentry_sdk.flush(5)
    return [n, transport.seen]
predict(1)
"""
METRICS = """
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
class Counted(MetricExporter):
    seen = 0
    def export(self, metrics_data, timeout_millis=0, **more):
        self.seen += 1
        return MetricExportResult.SUCCESS
    def force_flush(self, timeout_millis=0): return True
    def shutdown(self, timeout_millis=0, **more): pass
exporter = Counted()
provider = MeterProvider([PeriodicExportingMetricReader(exporter)])
counter = provider.get_meter("model").create_counter("predictions")
def predict(n):
    exporter.seen = 0
    counter.add(1)
    provider.force_flush(5000)
    return [n, exporter.seen]
predict(1)
"""
SPANS = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(exporter))
def predict(n):
    exporter.clear()
    with provider.get_tracer("model").start_as_current_span("predict"):
        pass
    provider.force_flush(5000)
    return [n, len(exporter.get_finished_spans())]
predict(1)
"""
