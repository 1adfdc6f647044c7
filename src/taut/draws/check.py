"""One check of a log's health, as reports and documents show it."""

from pydantic import BaseModel, ConfigDict

PASS, NOTE, WARN, FAIL, NOT_CHECKED = "pass", "note", "warn", "fail", "not_checked"


class Check(BaseModel):
    """Outcome of one check.

    Attributes:
        check: What was looked at.
        status: "pass"; "note" (worth knowing, and no fault); "warn"; "fail"; "not_checked".
        detail: What was found, and what it means.
        remedy: What to do.
    """

    model_config = ConfigDict(frozen=True)

    check: str
    status: str
    detail: str
    remedy: str = ""

    def __init__(self, check: str, status: str, detail: str, remedy: str = "") -> None:
        super().__init__(check=check, status=status, detail=detail, remedy=remedy)
