"""What people in a practice do, each as the statements the application would send."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pymysql

from cdc.demo.opendental.desk import Desk, RolledBack
from cdc.demo.opendental.rows import CASES, CATEGORIES, site_code

DUPLICATE = 1062


def book(desk: Desk) -> None:
    """A new appointment, its history row, and the recall it answers."""
    patient = desk.pick("patient")
    with desk.transaction():
        (apt,) = desk.insert("appointment", PatNum=patient, AptStatus=1, AptDateTime=_slot(desk))
        desk.insert("histappointment", PatNum=patient, AptNum=apt, HistApptAction=0)
        desk.update("recall", f"DateScheduled = {desk.today(14)}", f"RecallNum = {desk.pick('recall')}")


def move(desk: Desk) -> None:
    """An appointment gets another time and leader, or is broken: in place, with history."""
    apt = desk.pick("appointment")
    status = desk.rng.choice((1, 1, 2, 5))
    with desk.transaction():
        desk.update(
            "appointment",
            f"AptDateTime = {_slot(desk)}, Op = {desk.rng.randint(1, 9)}, AptStatus = {status}",
            f"AptNum = {apt}",
        )
        desk.insert("histappointment", AptNum=apt, HistApptAction=1)


def plan(desk: Desk) -> None:
    """Procedures are treatment-planned: status 1, no completion date."""
    count = desk.rng.randint(1, 4)
    desk.insert(
        "procedurelog",
        count,
        PatNum=desk.pick("patient"),
        ProcStatus=1,
        DateTP=desk.today(),
        DateComplete="'0001-01-01'",
    )


def complete(desk: Desk) -> None:
    """Planned procedures become completed in place; a note; the balance."""
    patient, procs = desk.pick("patient"), [desk.pick("procedurelog") for _ in range(desk.rng.randint(1, 3))]
    where = f"ProcNum IN ({', '.join(map(str, procs))})"
    with desk.transaction():
        desk.update(
            "procedurelog",
            f"ProcStatus = 2, DateComplete = {desk.today()}, ProcDate = {desk.today()}, Discount = Discount + 1",
            where,
        )
        desk.insert("procnote", PatNum=patient, ProcNum=procs[0])
        desk.update(
            "patient", f"EstBalance = ROUND(EstBalance + {desk.rng.randint(40, 900)}.25, 2)", f"PatNum = {patient}"
        )


def chart_perio(desk: Desk) -> None:
    (exam,) = desk.insert("perioexam", PatNum=desk.pick("patient"), ExamDate=desk.today())
    desk.insert("periomeasure", 12, PerioExamNum=exam)


def fill_sheet(desk: Desk) -> None:
    """A form and its fields, which the patient then corrects."""
    with desk.transaction():
        (sheet,) = desk.insert("sheet", PatNum=desk.pick("patient"))
        fields = desk.insert("sheetfield", 15, SheetNum=sheet)
        desk.update(
            "sheetfield", f"FieldValue = {desk.value('sheetfield', 'FieldValue')}", f"SheetFieldNum = {fields[3]}"
        )


def log_call(desk: Desk) -> None:
    desk.insert("commlog", PatNum=desk.pick("patient"))


def scan(desk: Desk) -> None:
    """A new document; another one is turned and relabelled."""
    desk.insert("document", PatNum=desk.pick("patient"))
    change = f"DegreesRotated = DegreesRotated + 0.5, Description = {desk.value('document', 'Description')}"
    desk.update("document", change, f"DocNum = {desk.pick('document')}")


def send_claim(desk: Desk) -> None:
    patient = desk.pick("patient")
    with desk.transaction():
        (claim,) = desk.insert("claim", PatNum=patient, ClaimStatus="'S'", DateSent=desk.today())
        desk.insert(
            "claimproc",
            desk.rng.randint(2, 4),
            PatNum=patient,
            ClaimNum=claim,
            ProcNum=desk.pick("procedurelog"),
            Status=0,
        )


def receive_claim(desk: Desk) -> None:
    """The insurer pays: the claim, all its procedures, a claim payment."""
    claim = desk.pick("claim")
    with desk.transaction():
        (check,) = desk.insert("claimpayment", CheckDate=desk.today())
        paid = f"Status = 1, InsPayAmt = ROUND(FeeBilled * 0.8, 2), ClaimPaymentNum = {check}, DateCP = {desk.today()}"
        desk.update("claimproc", paid, f"ClaimNum = {claim}")
        desk.update("claim", f"ClaimStatus = 'R', DateReceived = {desk.today()}", f"ClaimNum = {claim}")


def pay(desk: Desk) -> None:
    """A payment, split over procedures, and the patient's balance."""
    patient, splits = desk.pick("patient"), desk.rng.randint(1, 4)
    with desk.transaction():
        (payment,) = desk.insert("payment", PatNum=patient, PayDate=desk.today(), DateEntry=desk.today())
        procs = [desk.pick("procedurelog") for _ in range(splits)]
        desk.insert("paysplit", splits, PatNum=patient, PayNum=payment, ProcNum=procs, DatePay=desk.today())
        desk.update("patient", "EstBalance = ROUND(EstBalance - 55.5, 2)", f"PatNum = {patient}")


def adjust(desk: Desk) -> None:
    desk.insert("adjustment", PatNum=desk.pick("patient"), AdjDate=desk.today())


def correct(desk: Desk) -> None:
    """Somebody mends an amount, a name, a note; texts go to NULL and back."""
    table, column = desk.rng.choice(CORRECTED)
    key = desk.filler(table).spec.key[0]
    desk.update(table, f"{column} = {desk.value(table, column)}", f"{key} = {desk.pick(table)}", "correction")


CORRECTED = (
    ("paysplit", "SplitAmt"),
    ("adjustment", "AdjAmt"),
    ("payment", "PayNote"),
    ("patient", "AddrNote"),
    ("patient", "LName"),
    ("patient", "Birthdate"),
    ("patient", "SchedBeforeTime"),
    ("employer", "EmpName"),
    ("procedurelog", "BillingNote"),
    ("clockevent", "AdjustTime"),
    ("insplan", "PlanNote"),
)


def remove(desk: Desk) -> None:
    """A hard delete: the row, and with a procedure or a sheet its children."""
    table = desk.rng.choice(("commlog", "procedurelog", "appointment", "paysplit", "document", "sheet", "adjustment"))
    key, number = desk.filler(table).spec.key[0], desk.take(table)
    with desk.transaction():
        for child in {"procedurelog": ("procnote", "claimproc"), "sheet": ("sheetfield",)}.get(table, ()):
            desk.delete(child, f"{key} = {number}")
        desk.delete(table, f"{key} = {number}")


def write_logs(desk: Desk) -> None:
    """The append-only tables: who looked at what."""
    entries = desk.insert("securitylog", desk.rng.randint(1, 3), PatNum=desk.pick("patient"))
    desk.insert("securityloghash", len(entries), SecurityLogNum=entries)
    desk.insert("entrylog")


def edit_plan(desk: Desk) -> None:
    """An insurance plan changes; each field leaves a row behind; the log is trimmed now and then."""
    with desk.transaction():
        desk.update("insplan", f"GroupName = {desk.value('insplan', 'GroupName')}", f"PlanNum = {desk.pick('insplan')}")
        desk.insert("inseditlog", 8)
    if desk.rng.random() < 0.2:
        desk.run("delete", "DELETE FROM inseditlog ORDER BY InsEditLogNum LIMIT 40")


def raise_fees(desk: Desk) -> None:
    """One statement changes hundreds of rows."""
    sched = desk.rng.randint(1, 6)
    change = "Amount = IF(Amount > 900, Amount - 800, Amount + 1.25)"
    desk.update("fee", change, f"FeeSched = {sched} ORDER BY FeeNum LIMIT {desk.bulk_rows}", "bulk update")


def change_numeric_key(desk: Desk) -> None:
    key = desk.take("task")
    if desk.update("task", f"TaskNum = TaskNum + {10**9}", f"TaskNum = {key}", "key change"):
        desk.keys("task").add([key + 10**9])


def shift_keys(desk: Desk) -> None:
    """Each row takes the key that the row before it has just left."""
    desk.run("key change", "UPDATE schedule SET ScheduleNum = ScheduleNum + 1 ORDER BY ScheduleNum DESC LIMIT 3")


def change_spelling_of_key(desk: Desk) -> None:
    """Equal for the server's collation, other bytes: 'OAK-0005' becomes 'oak-0005'."""
    code, case = site_code(desk.rng.randint(1, 250)), desk.rng.choice(CASES)
    desk.update("site_code", f"SiteCode = {case(code)}", f"SiteCode = {code}", "key change")


def change_composite_key(desk: Desk) -> None:
    where = (
        f"ClinicNum = {desk.rng.randint(0, 2)} AND Category = '{desk.rng.choice(CATEGORIES)}' ORDER BY DateTotal "
        "LIMIT 2"
    )
    desk.update("site_dailytotal", f"ClinicNum = ClinicNum + {3 + desk.acts}", where, "key change")


def replace_preference(desk: Desk) -> None:
    """REPLACE over a primary and a unique key: it may delete two rows to write one."""
    name = f"'Setting{desk.rng.randint(1, 400):04}'"
    number = desk.rng.choice((0, desk.pick("preference")))
    desk.run(
        "replace", f"REPLACE INTO preference (PrefNum, PrefName, ValueString) VALUES ({number}, {name}, '{desk.acts}')"
    )


def replace_code(desk: Desk) -> None:
    """REPLACE by a key that is equal only to the collation: the row's key changes its spelling."""
    code = desk.rng.choice(CASES)(site_code(desk.rng.randint(1, 260)))
    desk.run(
        "replace",
        f"REPLACE INTO site_code (SiteCode, Label, Priority) VALUES ({code}, '🦷 {desk.acts}', {desk.acts % 100})",
    )


def add_totals(desk: Desk) -> None:
    """INSERT .. ON DUPLICATE KEY UPDATE: some rows are new, some are there."""
    sql = desk.filler("site_dailytotal").insert(desk.rng.randint(1, 560), 3)
    desk.run("upsert", sql + " ON DUPLICATE KEY UPDATE ItemCount = ItemCount + 1, Total = VALUES(Total)")


def convert_images(desk: Desk) -> None:
    """A table without a key: four equal rows come, one of them changes, one of them goes;
    the oldest are cleared now and then."""
    number = desk.rng.randint(1, 200)
    row = f"({number}, 7, 'scan {desk.acts % 50}.jpg', NULL, 0)"
    one = f"DocNum = {number} AND Done = 0 LIMIT 1"
    with desk.transaction():
        desk.run("keyless insert", f"INSERT INTO tempimageconv2 VALUES {row}, {row}, {row}, {row}")
        desk.update("tempimageconv2", f"Done = Done + 1, ConvDate = {desk.today()}", one, "keyless update")
        desk.run("keyless delete", f"DELETE FROM tempimageconv2 WHERE {one}")
    if desk.rng.random() < 0.1:
        desk.run("keyless delete", "DELETE FROM tempimageconv2 LIMIT 40")


def tidy_leftovers(desk: Desk) -> None:
    """The other tables without a key: several equal rows at once, and rows full of NULLs."""
    desk.run("keyless insert", desk.filler("tmpdocument").insert(desk.acts, 1))
    desk.run("keyless insert", f"INSERT INTO tmpdocument (DocNum) VALUES {', '.join(['(0)'] * 3)}")
    desk.run("keyless delete", f"DELETE FROM tmpdocument WHERE DocNum = 0 LIMIT {desk.rng.choice((2, 2, 8))}")
    desk.update(
        "definition_bak_20200424",
        "ItemOrder = ItemOrder + 1",
        f"Category = {desk.rng.randint(0, 9)} LIMIT 2",
        "keyless update",
    )


def visit_kiosk(desk: Desk) -> None:
    (visit,) = desk.insert("site_kioskvisit", PatNum=desk.pick("patient"))
    change = f"Answers = JSON_SET(COALESCE(Answers, '{{}}'), '$.pain', {desk.rng.randint(0, 10)}), Consent = 'sms,post'"
    desk.update("site_kioskvisit", change, f"VisitNum = {desk.rng.choice((visit, desk.pick('site_kioskvisit')))}")


def fail_halfway(desk: Desk) -> None:
    """A multi-row insert meets a duplicate key: on MyISAM, and in its log, the two rows before it stay."""
    keys = ["NULL", "NULL", str(min(desk.keys("clockevent").keys)), "NULL"]
    sql = desk.filler("clockevent", with_key=True).insert(desk.acts, 4, {"ClockEventNum": keys})
    try:
        desk.run("insert", sql)
    except pymysql.err.IntegrityError as e:
        if e.args[0] != DUPLICATE:
            raise
        desk.kept["left by a failed insert"] += 0 if desk.transactional else 2


def change_mind(desk: Desk) -> None:
    """Several tables are changed, and all of it is rolled back (InnoDB)."""
    with desk.transaction():
        desk.insert("payment", PatNum=desk.pick("patient"))
        desk.insert("paysplit", 2)
        desk.update("patient", "EstBalance = EstBalance + 1", f"PatNum = {desk.pick('patient')}")
        raise RolledBack


def change_half_a_mind(desk: Desk) -> None:
    """A transaction that goes back to a savepoint and then commits (InnoDB)."""
    with desk.transaction():
        (adjustment,) = desk.insert("adjustment", PatNum=desk.pick("patient"))
        with desk.savepoint():
            desk.insert("adjustment", 2)
            desk.update("adjustment", "AdjAmt = AdjAmt - 1", f"AdjNum = {adjustment}")
        desk.update("adjustment", "AdjAmt = AdjAmt + 1", f"AdjNum = {adjustment}")


@dataclass(frozen=True, slots=True)
class Act:
    """How often an act comes up among about 120, and whether it needs transactions."""

    do: Callable[[Desk], None]
    times: int
    transactional: bool = False

    @property
    def name(self) -> str:
        return self.do.__name__


ACTS = (
    Act(book, 8),
    Act(move, 6),
    Act(plan, 8),
    Act(complete, 10),
    Act(chart_perio, 2),
    Act(fill_sheet, 2),
    Act(log_call, 6),
    Act(scan, 3),
    Act(send_claim, 4),
    Act(receive_claim, 4),
    Act(pay, 8),
    Act(adjust, 3),
    Act(correct, 12),
    Act(remove, 7),
    Act(write_logs, 14),
    Act(edit_plan, 2),
    Act(raise_fees, 1),
    Act(change_numeric_key, 1),
    Act(shift_keys, 1),
    Act(change_spelling_of_key, 1),
    Act(change_composite_key, 1),
    Act(replace_preference, 2),
    Act(replace_code, 1),
    Act(add_totals, 3),
    Act(convert_images, 4),
    Act(tidy_leftovers, 2),
    Act(visit_kiosk, 3),
    Act(fail_halfway, 1),
    Act(change_mind, 2, transactional=True),
    Act(change_half_a_mind, 2, transactional=True),
)


def _slot(desk: Desk) -> str:
    return (
        f"{desk.today(desk.rng.randint(1, 60))[:-1]} {desk.rng.randint(8, 16):02}:{desk.rng.choice((0, 10, 30)):02}:00'"
    )
