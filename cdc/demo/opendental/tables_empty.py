"""Tables that nobody ever filled: an installation has them all the same."""

from __future__ import annotations

from cdc.demo.opendental.columns import Spec


def _empty(name: str, key: str, text: str) -> Spec:
    return Spec(name, 0, f"key: {key}\n{text}")


EMPTY = (
    _empty("anesthmedsgiven", "AnestheticMedNum", "varchar(32): MedName QtyGiven\nfloat: QtyWasted"),
    _empty(
        "canadianclaim", "ClaimNum", "varchar(255): MaterialsForwarded\ndate: DateInitialLower\nchar(1): IsInitialLower"
    ),
    _empty(
        "ehrlab",
        "EhrLabNum",
        "bigint(20): PatNum\nvarchar(255): OrderControlCode PlacerOrderNum\ndatetime: ResultDateTime",
    ),
    _empty(
        "emailautograph",
        "EmailAutographNum",
        "text: Description\nvarchar(255): EmailAddress\ntext? utf8mb4: AutographText",
    ),
    _empty(
        "hl7msg", "HL7MsgNum", "int(11): HL7Status\nmediumtext?: MsgText\nbigint(20): AptNum\ntimestamp: DateTStamp"
    ),
    _empty(
        "labcase",
        "LabCaseNum",
        "bigint(20): PatNum LaboratoryNum AptNum\ndatetime: DateTimeDue DateTimeSent\ntext?: Instructions",
    ),
    _empty(
        "orthochart",
        "OrthoChartNum",
        "bigint(20): PatNum\ndate: DateService\nvarchar(255): FieldName\ntext?: FieldValue",
    ),
    _empty("phonenumber", "PhoneNumberNum", "bigint(20): PatNum\nvarchar(255): PhoneNumberVal\ntinyint(4): PhoneType"),
    _empty(
        "screen",
        "ScreenNum",
        "date: ScreenDate\nvarchar(255): School County\ntinyint(3) unsigned: PlaceService\nsmallint(6): Age",
    ),
    _empty(
        "vaccinepat",
        "VaccinePatNum",
        "bigint(20): VaccineDefNum PatNum\ndatetime: DateTimeStart\nfloat: AdministeredAmt",
    ),
)
