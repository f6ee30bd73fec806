# SPDX-License-Identifier: Apache-2.0
"""Event logs: what was measured into which register, in what order, and how much of the story is proven.

:func:`parse_event_log` reads TCG, CC and dstack logs; :meth:`EventLog.replay` gives the registers they end in; :attr:`Event.authenticity`
says whether the text of an event is what was measured; :func:`explain` puts it in words; :func:`check_event_log` makes the checks of a verdict.
"""

from eaa.eventlog.aael import AaelEntry, aael_data, parse_aael
from eaa.eventlog.authenticity import Authenticity, Finding
from eaa.eventlog.checks import RULES, check_event_log
from eaa.eventlog.diff import Change, LogDifference, RegisterDifference, diff
from eaa.eventlog.explain import explain
from eaa.eventlog.model import Event, EventLog, Registers, register_index
from eaa.eventlog.parse import parse_event_log
from eaa.eventlog.trustee import to_trustee
from eaa.eventlog.types import EventType
from eaa.eventlog.write import NewEvent, image_data, tagged_data, variable_data, write_event_log

__all__ = [
    "RULES",
    "AaelEntry",
    "Authenticity",
    "Change",
    "Event",
    "EventLog",
    "EventType",
    "Finding",
    "LogDifference",
    "NewEvent",
    "RegisterDifference",
    "Registers",
    "aael_data",
    "check_event_log",
    "diff",
    "explain",
    "image_data",
    "parse_aael",
    "parse_event_log",
    "register_index",
    "tagged_data",
    "to_trustee",
    "variable_data",
    "write_event_log",
]
