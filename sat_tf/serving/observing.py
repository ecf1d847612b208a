"""What an operator sees: Prometheus metrics and one JSON line per event."""

import json
import logging
import time

import prometheus_client

REQUESTS = prometheus_client.Counter(
    "sat_tf_requests", "Requests answered.", ["model", "method", "status"]
)
SECONDS = prometheus_client.Histogram(
    "sat_tf_request_seconds", "Seconds to answer a request.", ["model", "method"]
)
IN_FLIGHT = prometheus_client.Gauge(
    "sat_tf_requests_in_flight", "Requests being answered now."
)
BATCH_ROWS = prometheus_client.Histogram(
    "sat_tf_batch_rows",
    "Rows that ran through a model together.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32),
)
_access = logging.getLogger("sat_tf.serving.access")


class Observer:
    """ASGI middleware that counts, times and logs every request."""

    def __init__(self, app, label):
        """Wrap `app`; `label(method, path)` names a request, see `Api`."""
        self.app, self.label = app, label

    async def __call__(self, scope, receive, send):
        """Pass a request through and note its status, sizes and duration."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, n_in, n_out = time.perf_counter(), 499, 0, 0

        async def counted_receive():
            nonlocal n_in
            message = await receive()
            n_in += len(message.get("body", b""))
            return message

        async def counted_send(message):
            nonlocal status, n_out
            status = message.get("status", status)
            n_out += len(message.get("body", b""))
            await send(message)

        model, method = self.label(scope["method"], scope["path"])
        with IN_FLIGHT.track_inprogress():
            try:
                await self.app(scope, counted_receive, counted_send)
            finally:
                seconds = time.perf_counter() - start
                REQUESTS.labels(model, method, status).inc()
                SECONDS.labels(model, method).observe(seconds)
                _access.info(
                    "request",
                    extra={
                        "fields": {
                            "client": (scope.get("client") or ["-"])[0],
                            "method": scope["method"],
                            "path": scope["path"],
                            "status": status,
                            "bytes_in": n_in,
                            "bytes_out": n_out,
                            "milliseconds": round(1000 * seconds, 2),
                        }
                    },
                )


class JsonFormatter(logging.Formatter):
    """One JSON object per log record, for people with `jq` and for log shippers."""

    def format(self, record):
        """Write time, level, logger, message, and the record's own fields."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("sat_tf.serving", "uvicorn")
    },
}
