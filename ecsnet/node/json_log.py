"""Log records as lines of JSON, for programs that collect logs.

Invariant: a record is one line, whatever is in it.
"""

import json
import logging
from datetime import UTC, datetime

__all__ = ["JsonFormatter"]

# What every record has; the rest was given as `extra=`.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Makes `{"time": "2026-11-21T15:04:05.678Z", "level": "info", "logger": "ecsnet.node", "message": ...}` of each
    record, with `exception`, the traceback as text, where there is one, and what was given as `extra=`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        line.update((key, value) for key, value in vars(record).items() if key not in _OWN and key not in line)
        return json.dumps(line, default=repr)
