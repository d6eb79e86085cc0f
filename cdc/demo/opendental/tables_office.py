"""The tables of the office: lists, settings, logs, leftovers without a key, what the site added."""

from __future__ import annotations

from cdc.demo.opendental.columns import Spec

LOGS = (
    Spec(
        "securitylog",
        6200,
        """
        key: SecurityLogNum
        tinyint(4): PermType
        bigint(20): UserNum
        datetime: LogDateTime
        text?: LogText
        bigint(20): PatNum
        varchar(255): CompName
        bigint(20): FKey
        tinyint(4): LogSource
        bigint(20): DefNum DefNumError
        datetime: DateTPrevious
        """,
        index=("PatNum", "FKey"),
    ),
    Spec(
        "securityloghash",
        6200,
        """
        key: SecurityLogHashNum
        bigint(20): SecurityLogNum
        varchar(255) bin: LogHash
        """,
        index=("SecurityLogNum",),
    ),
    Spec(
        "entrylog",
        1100,
        """
        key: EntryLogNum
        bigint(20): UserNum
        tinyint(4): FKeyType
        bigint(20): FKey
        tinyint(4): LogSource
        datetime: EntryDateTime
        """,
    ),
    Spec(
        "inseditlog",
        1500,
        """
        key: InsEditLogNum
        bigint(20): FKey
        tinyint(4): LogType
        varchar(255): FieldName OldValue NewValue
        bigint(20): UserNum
        timestamp: DateTStamp
        bigint(20): ParentKey
        varchar(255): Description
        """,
    ),
)

LISTS = (
    Spec(
        "provider",
        14,
        """
        key: ProvNum
        varchar(255): Abbr
        smallint(5) unsigned: ItemOrder
        varchar(100): LName FName MI Suffix
        bigint(20): FeeSched
        tinyint(3) unsigned: Specialty
        varchar(12): SSN
        varchar(15): StateLicense DEANum
        tinyint(3) unsigned: IsSecondary
        int(11): ProvColor
        tinyint(3) unsigned: IsHidden UsingTIN
        varchar(25): BlueCrossID
        tinyint(3) unsigned: SigOnFile
        varchar(100): MedicaidID
        int(11): OutlineColor
        bigint(20): SchoolClassNum
        varchar(255): NationalProvID TaxonomyCodeOverride
        tinyint(4): IsCDAnet
        timestamp: DateTStamp
        tinyint(4): IsNotPerson
        double: HourlyProdGoalAmt
        date: DateTerm Birthdate
        """,
        fixed=True,
    ),
    Spec(
        "operatory",
        9,
        """
        key: OperatoryNum
        varchar(255): OpName
        varchar(255): Abbrev
        smallint(5) unsigned: ItemOrder
        tinyint(3) unsigned: IsHidden
        bigint(20): ProvDentist ProvHygienist
        tinyint(3) unsigned: IsHygiene
        bigint(20): ClinicNum
        timestamp: DateTStamp
        tinyint(4): SetProspective IsWebSched
        """,
        fixed=True,
    ),
    Spec(
        "userod",
        25,
        """
        key: UserNum
        varchar(255): UserName
        varchar(255) bin: Password
        bigint(20): UserGroupNum EmployeeNum ClinicNum ProvNum
        tinyint(1): IsHidden DefaultHidePopups PasswordIsStrong ClinicIsRestricted
        datetime: DateTFail
        tinyint(3) unsigned: FailedAttempts
        varchar(255): DomainUser
        tinyint(4): IsPasswordResetRequired
        datetime: DateTLastLogin
        """,
        fixed=True,
    ),
    Spec(
        "employee",
        30,
        """
        key: EmployeeNum
        varchar(255): LName FName MiddleI
        tinyint(3) unsigned: IsHidden
        varchar(255): ClockStatus
        varchar(255): PayrollID
        int(11): PhoneExt
        varchar(255): WirelessPhone EmailWork
        tinyint(1): IsFurloughed
        """,
        fixed=True,
    ),
    Spec(
        "employer",
        50,
        """
        key: EmployerNum
        varchar(255) latin1: EmpName
        varchar(255): Address Address2 City State Zip Phone
        """,
        fixed=True,
    ),
    Spec(
        "definition",
        180,
        """
        key: DefNum
        tinyint(3) unsigned: Category
        smallint(5) unsigned: ItemOrder
        varchar(255): ItemName
        varchar(255): ItemValue
        int(11): ItemColor
        tinyint(3) unsigned: IsHidden
        """,
        fixed=True,
    ),
    Spec(
        "preference",
        400,
        """
        key: PrefNum
        varchar(255): PrefName
        text: ValueString
        text?: Comments
        """,
        fixed=True,
        unique=("PrefName",),
    ),
    Spec(
        "schedule",
        600,
        """
        key: ScheduleNum
        date: SchedDate
        time: StartTime StopTime
        tinyint(3) unsigned: SchedType
        bigint(20): ProvNum BlockoutType
        text?: Note
        tinyint(4): Status
        bigint(20): EmployeeNum
        timestamp: DateTStamp
        bigint(20): ClinicNum
        """,
    ),
    Spec(
        "task",
        300,
        """
        key: TaskNum
        bigint(20): TaskListNum
        date: DateTask
        bigint(20): KeyNum
        text? utf8mb4: Descript
        tinyint(3) unsigned: TaskStatus IsRepeating DateType
        bigint(20): FromNum
        tinyint(3) unsigned: ObjectType
        datetime: DateTimeEntry
        bigint(20): UserNum
        datetime: DateTimeFinished
        bigint(20): PriorityDefNum
        varchar(20): ReminderGroupId
        smallint(6): ReminderType
        int(11): ReminderFrequency
        datetime: DateTimeOriginal
        varchar(4000)?: DescriptOverride
        """,
    ),
    Spec(
        "clockevent",
        500,
        """
        key: ClockEventNum
        bigint(20): EmployeeNum
        datetime: TimeEntered1 TimeDisplayed1
        tinyint(3) unsigned: ClockStatus
        text?: Note
        datetime: TimeEntered2 TimeDisplayed2
        time: OTimeHours AdjustTime
        tinyint(1): AdjustIsOverridden
        double: AmountBonus AmountBonusAuto
        bigint(20): ClinicNum
        time: Rate2Hours Rate3Hours
        timestamp: SecDateTEdit
        """,
    ),
    Spec(
        "medication",
        120,
        """
        key: MedicationNum
        varchar(255): MedName
        bigint(20): GenericNum
        varchar(4000) utf8mb4: Notes
        timestamp: DateTStamp
        bigint(20): RxCui
        """,
        fixed=True,
    ),
    Spec(
        "referral",
        90,
        """
        key: ReferralNum
        varchar(100): LName FName MName
        varchar(9): SSN
        tinyint(3) unsigned: UsingTIN
        bigint(20): Specialty
        varchar(2): ST
        varchar(10): Telephone
        varchar(100): Address City
        varchar(10): Zip
        text?: Note
        tinyint(3) unsigned: IsHidden NotPerson
        varchar(255): Title EMail
        timestamp: DateTStamp
        """,
        fixed=True,
    ),
)

LEFTOVERS = (
    Spec(
        "tempimageconv2",
        700,
        """
        bigint(20): DocNum PatNum
        varchar(255)?: FileName
        date?: ConvDate
        tinyint(4): Done
        """,
    ),
    Spec(
        "tmpdocument",
        300,
        """
        bigint(20): DocNum
        varchar(255)? latin1: Description
        datetime: DateCreated
        double?: DegreesRotated
        text?: Note
        """,
    ),
    Spec(
        "definition_bak_20200424",
        180,
        """
        bigint(20): DefNum
        tinyint(3) unsigned: Category
        smallint(5) unsigned: ItemOrder
        varchar(255)?: ItemName ItemValue
        int(11): ItemColor
        tinyint(3) unsigned: IsHidden
        """,
        fixed=True,
    ),
)

SITE = (
    Spec(
        "site_dailytotal",
        500,
        """
        varchar(20): Category
        date: DateTotal
        bigint(20): ClinicNum
        int(11): ItemCount
        decimal(12,2): Total
        decimal(20,6)?: Ratio
        timestamp: Changed
        """,
        primary=("ClinicNum", "DateTotal", "Category"),
    ),
    Spec(
        "site_code",
        250,
        """
        varchar(40): SiteCode
        varchar(255) utf8mb4: Label
        smallint(6): Priority
        timestamp: Changed
        """,
        primary=("SiteCode",),
        fixed=True,
    ),
    Spec(
        "site_kioskvisit",
        600,
        """
        key: VisitNum
        bigint(20): PatNum
        enum('kiosk','phone','web','Été'): Channel
        set('sms','email','post','push')?: Consent
        binary(16): DeviceId
        varbinary(64)?: Token
        bigint(20) unsigned: Counter
        int(10) unsigned: Address4
        json?: Answers
        decimal(10,2)?: Copay
        varchar(190) utf8mb4: Greeting
        char(2): Lang
        blob?: SignatureBlob
        datetime(6)?: SignedAt
        """,
    ),
)
