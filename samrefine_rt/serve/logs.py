"""Logs as JSON, one object per line on stderr."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

_LOGGERS = ("samrefine_rt", "samrefine_runtime", "uvicorn")
"""Whose messages are written; the level of all of them is that of the command."""


class JsonFormatter(logging.Formatter):
    """Writes a record as one JSON object, with the fields of its `extra["fields"]`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "time": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_as_json(level: int) -> None:
    """Write what the server logs from a level on to stderr, for the rest of the process."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
