"""The client for the Examplary REST API. Uses neither Django's settings nor the models.

`requests`, and the transport built on it, are imported when the first call is made.
"""

from __future__ import annotations

from django_examplary.client.endpoints import ExamplaryClient
from django_examplary.origins import PRODUCTION_URL

__all__ = ["PRODUCTION_URL", "ExamplaryClient"]
