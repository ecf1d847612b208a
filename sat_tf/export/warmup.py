"""Requests that TensorFlow Serving runs through a model before it takes others.

The file holds `tensorflow.serving.PredictionLog` messages. Their package needs gRPC to
be installed, and all that is said here are four nested fields, so they are written by
hand: in Protocol Buffers a message is a field number, its length, and its bytes.
"""

import tensorflow as tf


def write_warmup(path, name, signatures, rows):
    """Writes one request per signature.

    Args:
        path: of the TFRecord file.
        name: of the model.
        signatures: {signature name: `tf.ConcreteFunction`}.
        rows: {input name: a batch of one}.
    """
    with tf.io.TFRecordWriter(str(path)) as file:
        for signature, function in signatures.items():
            inputs = {
                spec.name: tf.make_tensor_proto(rows[spec.name], spec.dtype)
                for spec in function.structured_input_signature[0]
            }
            file.write(prediction_log(name, signature, inputs))


def prediction_log(name, signature, inputs):
    """The bytes of a `PredictionLog` with one `PredictRequest`.

    Args:
        name: of the model; signature: of the signature.
        inputs: {input name: `TensorProto`}.

    Field numbers as in apis/prediction_log.proto, predict.proto and model.proto of
    TensorFlow Serving.
    """
    model_spec = _field(1, name.encode()) + _field(3, signature.encode())
    request = _field(1, model_spec)
    for key, value in inputs.items():
        entry = _field(1, key.encode()) + _field(2, value.SerializeToString())
        request += _field(2, entry)
    predict_log = _field(1, request)
    return _field(6, predict_log)


def _field(number, content):
    """A length-delimited field: bytes, a string or a message."""
    length, rest = [], len(content)
    while rest > 127:
        length.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *length, rest]) + content
