"""Comes before the scripts of contests for orchestrix, which use what is here."""

import logging
from datetime import UTC, datetime

import orchestrix  # noqa: F401 - it sets up logging, which is turned off below

logging.disable(logging.CRITICAL)
logging.getLogger().setLevel(logging.CRITICAL)
logging.getLogger("orchestrix").setLevel(logging.CRITICAL)

WHEN = datetime(2023, 11, 14, tzinfo=UTC)
