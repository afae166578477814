"""TensorFlow operators that reach outside the graph, and the rules for them."""

from __future__ import annotations

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import word_set

PYTHON_OP = Rule(
    id="tensorflow-python-op",
    title="A graph that calls Python",
    severity=Severity.HIGH,
    why="The operator calls a function of the process that runs the graph; a served model has none of its own.",
    advice="Ask for a model without Python operators.",
    references=("https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md",),
)
FILE_OP = Rule(
    id="tensorflow-file-op",
    title="A graph that reads or writes files",
    severity=Severity.HIGH,
    why="Running the graph reads or writes any file that the process can access, and may return its content.",
    advice="Do not serve the model; ask for one without file operators.",
    references=("https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md",),
)
REMOTE_OP = Rule(
    id="tensorflow-remote-op",
    title="A graph that uses the network",
    severity=Severity.HIGH,
    why="Running the graph opens connections, sets up remote devices, or ends the process.",
    advice="Do not serve the model; ask for one without these operators.",
    references=("https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md",),
)
PATH = Rule(
    id="tensorflow-path",
    title="A path that leaves the saved model",
    severity=Severity.HIGH,
    why="An asset or a checkpoint is read from, or written to, a path outside the model's folder.",
    advice="Do not load the model.",
    references=("https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md",),
)
_PYTHON = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction", "XlaCustomCall", "XlaCustomCallV2"})
_FILES = word_set(
    "ReadFile WriteFile MatchingFiles MatchingFilesDataset WholeFileReader WholeFileReaderV2 TextLineReader "
    "TextLineReaderV2 FixedLengthRecordReader FixedLengthRecordReaderV2 TFRecordReader TFRecordReaderV2 LMDBReader "
    "LMDBDataset TextLineDataset FixedLengthRecordDataset FixedLengthRecordDatasetV2 TFRecordDataset "
    "TFRecordDatasetV2 CSVDataset CSVDatasetV2 SqlDataset ExperimentalSqlDataset ExperimentalCSVDataset "
    "ExperimentalLMDBDataset SaveDataset SaveDatasetV2 LoadDataset SnapshotDataset SnapshotDatasetV2 CacheDataset "
    "CacheDatasetV2 DatasetToTFRecord ExperimentalDatasetToTFRecord WriteGraphSummary WriteRawProtoSummary "
    "WriteSummary WriteImageSummary WriteAudioSummary WriteHistogramSummary WriteScalarSummary "
    "CreateSummaryFileWriter CreateSummaryDbWriter ImportEvent GenerateVocabRemapping LoadAndRemapMatrix "
    "FileSystemSetConfiguration LoadLibrary SaveSlices IgniteDataset SnapshotDatasetReader SnapshotChunkDataset "
    "ListSnapshotChunksDataset DistributedSave CalibrationStatisticsSaver DumpTensor RecordInput Skipgram "
    "ExperimentalMatchingFilesDataset ImmutableConst SerializeTRTResource"
)
_REMOTE = word_set(
    "RemoteCall Rpc TryRpc RpcCall RpcClient RpcServer RpcServerStart RpcServerRegister "
    "DataServiceDataset DataServiceDatasetV2 "
    "DataServiceDatasetV3 DataServiceDatasetV4 RegisterDataset RegisterDatasetV2 RemoteFusedGraphExecute Abort "
    "ConfigureDistributedTPU BigQueryReader PubSubDataset KafkaDataset KinesisDataset BigtableTable"
)
_PROGRAMS = word_set("DatasetFromGraph DeserializeIterator MlirPassthroughOp TRTEngineOp")  # in a tensor or attribute


def check_op(context: ScanContext, name: str, where: str = "") -> bool:
    """Report an operator that reaches outside; return whether it does (text formats give no ``where``)."""
    plain = name.removeprefix("Flex")
    place = f" as {quote(where)}" if where else ""
    for names, rule in ((_PYTHON, PYTHON_OP), (_FILES, FILE_OP), (_REMOTE, REMOTE_OP)):
        if plain in names:
            context.find(rule, f"the operator {quote(name)} is used{place}")
            return True
    if plain in _PROGRAMS:
        context.gap(f"the operator {quote(name)} runs a program that it is given as data{place}")
    return False
