"""The other formats, in the order in which they are tried."""

from __future__ import annotations

from buildkit.scan.context import Format
from buildkit.scan.formats import (
    binaryjson,
    coreml,
    gguf,
    hdf5,
    jsontext,
    onnx,
    plain,
    programs,
    safetensors,
    tensorflow,
    text,
    tflite,
    unread,
)
from buildkit.scan.formats.cursor import report_errors_as_gaps

_ALL = (
    ("program", programs.recognise, programs.scan),
    ("safetensors", safetensors.recognise, safetensors.scan),
    ("GGUF", gguf.recognise, gguf.scan),
    ("ONNX", onnx.recognise, onnx.scan),
    ("ONNX tensor", onnx.recognise_tensor, onnx.scan_tensor),
    ("HDF5", hdf5.recognise, hdf5.scan),
    ("SavedModel", tensorflow.recognise_saved_model, tensorflow.scan_saved_model),
    ("TensorFlow graph", tensorflow.recognise_graph, tensorflow.scan_graph),
    ("Keras metadata", tensorflow.recognise_keras, tensorflow.scan_keras),
    ("TensorFlow Lite", tflite.recognise, tflite.scan),
    ("TensorFlow fingerprint", tensorflow.recognise_fingerprint, tensorflow.scan_nothing),
    ("TensorFlow checkpoint index", plain.recognise_checkpoint_index, plain.scan_checkpoint_index),
    ("Core ML", coreml.recognise, coreml.scan),
    ("SentencePiece", plain.recognise_sentencepiece, plain.scan_sentencepiece),
    ("MessagePack", binaryjson.recognise_msgpack, binaryjson.scan_msgpack),
    ("UBJSON", binaryjson.recognise_ubjson, binaryjson.scan_ubjson),
    ("CatBoost", plain.recognise_catboost, plain.scan_catboost),
    ("Parquet", plain.recognise_parquet, plain.scan_parquet),
    ("Arrow", plain.recognise_arrow, plain.scan_arrow),
    ("PNG", plain.recognise_png, plain.scan_png),
    ("JPEG", plain.recognise_jpeg, plain.scan_jpeg),
    ("GIF", plain.recognise_gif, plain.scan_gif),
    ("RIFF", plain.recognise_riff, plain.scan_riff),
    ("code", unread.recognise, unread.scan),
    ("padded pickle", unread.recognise_padded, unread.scan_padded),
    ("sealed", plain.recognise_sealed, plain.scan_sealed),
    ("JSON", jsontext.recognise, jsontext.scan),
    ("text", text.recognise, text.scan),
)
_GUESSED = frozenset({"JSON", "text"})
FORMATS = tuple(
    Format(name, recognise, report_errors_as_gaps(name, scan), is_guess=name in _GUESSED)
    for name, recognise, scan in _ALL
)
