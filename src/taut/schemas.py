"""Every document that taut writes, so that `taut.load` and the schemas know them all."""

from taut.auditing.certificate import Certificate, Certificates, Health
from taut.decisions.selection.result import Selection
from taut.decisions.stopping.result import MonitorResult, WatchResult
from taut.decisions.transport.result import Transport

DOCUMENTS = (Certificate, Certificates, Health, Selection, Transport, MonitorResult, WatchResult)
