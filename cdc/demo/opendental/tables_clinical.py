"""Patients and what is done for them."""

from __future__ import annotations

from cdc.demo.opendental.columns import Spec

CLINICAL = (
    Spec(
        "patient",
        1000,
        """
        key: PatNum
        varchar(100): LName FName MiddleI Preferred
        tinyint(3) unsigned: PatStatus Gender Position
        date: Birthdate
        varchar(100): SSN Address Address2 City State Zip
        varchar(30): HmPhone WkPhone WirelessPhone
        bigint(20): Guarantor
        char(1): CreditType
        varchar(100): Email
        varchar(255)?: Salutation
        double: EstBalance
        bigint(20): PriProv SecProv FeeSched BillingType
        varchar(100): ImageFolder
        text? utf8mb4: AddrNote FamFinUrgNote
        varchar(255)?: MedUrgNote
        varchar(255): ApptModNote
        varchar(255) latin1: StudentStatus SchoolName
        varchar(100): ChartNumber MedicaidID
        double: Bal_0_30 Bal_31_60 Bal_61_90 BalOver90 InsEst BalTotal
        bigint(20): EmployerNum
        varchar(255): EmploymentNote
        varchar(255)?: County
        tinyint(3) unsigned: GradeLevel Urgency
        date: DateFirstVisit
        bigint(20): ClinicNum
        varchar(255): HasIns TrophyFolder
        tinyint(3) unsigned: PlannedIsDone
        tinyint(3) unsigned: Premed
        varchar(255): Ward
        tinyint(3) unsigned: PreferConfirmMethod PreferContactMethod PreferRecallMethod
        time?: SchedBeforeTime SchedAfterTime
        tinyint(3) unsigned: SchedDayOfWeek
        varchar(255): Language
        date: AdmitDate
        varchar(255)?: Title
        double: PayPlanDue
        bigint(20): SiteNum
        timestamp: DateTStamp
        bigint(20): ResponsParty
        tinyint(4): CanadianEligibilityCode
        int(11): AskToArriveEarly
        tinyint(4): PreferContactConfidential
        bigint(20): SuperFamily
        tinyint(4): TxtMsgOk
        varchar(255): SmokingSnoMed Country
        datetime: DateTimeDeceased
        int(11): BillingCycleDay
        bigint(20): SecUserNumEntry
        date: SecDateEntry
        tinyint(4): HasSuperBilling
        bigint(20): PatNumCloneFrom DiscountPlanNum
        tinyint(4): HasSignedTil ShortCodeOptIn
        varchar(255) bin: SecurityHash
        smallint(6): PaymentTerms
        float: Height
        varchar(4000)?: ExternalIds
        """,
        index=("LName", "Guarantor", "PriProv"),
    ),
    Spec(
        "procedurelog",
        4200,
        """
        key: ProcNum
        bigint(20): PatNum AptNum
        varchar(15): OldCode
        date: ProcDate
        double: ProcFee
        varchar(10): Surf
        varchar(2): ToothNum
        varchar(100): ToothRange
        bigint(20): Priority
        tinyint(3) unsigned: ProcStatus
        bigint(20): ProvNum Dx PlannedAptNum
        tinyint(3) unsigned: PlaceService
        char(1): Prosthesis
        date: DateOriginalProsth
        varchar(255): ClaimNote
        date: DateEntryC
        bigint(20): ClinicNum
        varchar(15) latin1: MedicalCode DiagnosticCode
        tinyint(3) unsigned: IsPrincDiag
        bigint(20): ProcNumLab BillingTypeOne BillingTypeTwo CodeNum
        char(2): CodeMod1 CodeMod2 CodeMod3 CodeMod4
        varchar(45): RevCode
        int(11): UnitQty
        int(11): BaseUnits StartTime StopTime
        date: DateTP
        bigint(20): SiteNum
        tinyint(4): HideGraphics
        varchar(20): CanadianTypeCodes
        time: ProcTime ProcTimeEnd
        timestamp: DateTStamp
        bigint(20): Prognosis
        tinyint(4): DrugUnit
        float: DrugQty
        tinyint(4): UnitQtyType
        bigint(20): StatementNum
        tinyint(4): IsLocked
        text? utf8mb4: BillingNote
        bigint(20): RepeatChargeNum
        varchar(255): DiagnosticCode2 DiagnosticCode3 DiagnosticCode4
        double: Discount
        varchar(255): SnomedBodySite
        bigint(20): ProvOrderOverride
        tinyint(4): IsDateProsthEst
        tinyint(3) unsigned: IcdVersion
        tinyint(4): IsCpoe
        bigint(20): SecUserNumEntry
        datetime: SecDateEntry
        date: DateComplete
        bigint(20): OrderingReferralNum
        double: TaxAmt
        tinyint(4): Urgency
        double: DiscountPlanAmt
        smallint(5) unsigned: SurfaceBits
        varchar(255)?: ReasonPlanned
        tinyint(1): IsEstimate
        datetime: DateTimeStarted
        double?: LabFee
        bigint(20): ProvNumSecond
        """,
        keys="gaps",
        index=("PatNum", "AptNum", "CodeNum"),
    ),
    Spec(
        "procnote",
        1800,
        """
        key: ProcNoteNum
        bigint(20): PatNum ProcNum
        datetime: EntryDateTime
        bigint(20): UserNum
        text? utf8mb4: Note
        tinyint(3) unsigned: SigIsTopaz
        text?: Signature
        """,
        index=("ProcNum",),
    ),
    Spec(
        "procedurecode",
        300,
        """
        key: CodeNum
        varchar(15): ProcCode
        varchar(255): Descript AbbrDesc ProcTime
        bigint(20): ProcCat
        tinyint(3) unsigned: TreatArea NoBillIns IsProsth
        varchar(255)?: DefaultNote
        tinyint(3) unsigned: IsHygiene
        smallint(5) unsigned: GTypeNum
        varchar(15): AlternateCode1 MedicalCode
        tinyint(3) unsigned: IsTaxed PaintType
        int(11): GraphicColor
        varchar(255): LaymanTerm
        tinyint(3) unsigned: IsCanadianLab
        tinyint(1): PreExisting
        int(11): BaseUnits SubstOnlyIf
        varchar(255): SubstitutionCode
        timestamp: DateTStamp
        double: CanadaTimeUnits
        """,
        fixed=True,
        unique=("ProcCode",),
    ),
    Spec(
        "perioexam",
        180,
        """
        key: PerioExamNum
        bigint(20): PatNum
        date: ExamDate
        bigint(20): ProvNum
        datetime: DateTMeasureEdit
        text? utf8mb4: Note
        """,
    ),
    Spec(
        "periomeasure",
        2600,
        """
        key: PerioMeasureNum
        bigint(20): PerioExamNum
        tinyint(3) unsigned: SequenceType
        smallint(6): IntTooth ToothValue
        smallint(6): MBvalue Bvalue DBvalue MLvalue Lvalue DLvalue
        timestamp: SecDateTEntry
        """,
        index=("PerioExamNum",),
    ),
    Spec(
        "appointment",
        700,
        """
        key: AptNum
        bigint(20): PatNum
        tinyint(3) unsigned: AptStatus
        varchar(255): Pattern
        bigint(20): Confirmed
        tinyint(1): TimeLocked
        bigint(20): Op
        text? utf8mb4: Note
        bigint(20): ProvNum ProvHyg
        datetime: AptDateTime
        bigint(20): NextAptNum UnschedStatus
        tinyint(3) unsigned: IsNewPatient
        varchar(255): ProcDescript
        bigint(20): Assistant ClinicNum
        tinyint(3) unsigned: IsHygiene
        timestamp: DateTStamp
        datetime: DateTimeArrived DateTimeSeated DateTimeDismissed
        bigint(20): InsPlan1 InsPlan2
        datetime: DateTimeAskedToArrive
        text?: ProcsColored
        int(11): ColorOverride
        bigint(20): AppointmentTypeNum SecUserNumEntry
        datetime: SecDateTEntry
        tinyint(4): Priority
        varchar(60): ProvBarText
        varchar(255): PatternSecondary
        """,
        index=("PatNum", "AptDateTime"),
    ),
    Spec(
        "histappointment",
        1300,
        """
        key: HistApptNum
        bigint(20): HistUserNum
        datetime: HistDateTStamp
        tinyint(4): HistApptAction ApptSource
        bigint(20): AptNum PatNum
        tinyint(4): AptStatus
        varchar(255): Pattern
        bigint(20): Confirmed
        tinyint(4): TimeLocked
        bigint(20): Op
        text? utf8mb4: Note
        bigint(20): ProvNum ProvHyg
        datetime: AptDateTime
        timestamp: DateTStamp
        varchar(255): ProcDescript
        varchar(255) bin: SecurityHash
        """,
        index=("AptNum",),
    ),
    Spec(
        "recall",
        900,
        """
        key: RecallNum
        bigint(20): PatNum
        date: DateDueCalc DateDue DatePrevious
        int(11): RecallInterval
        bigint(20): RecallStatus
        text?: Note
        tinyint(3) unsigned: IsDisabled
        timestamp: DateTStamp
        bigint(20): RecallTypeNum
        double: DisableUntilBalance
        date: DisableUntilDate DateScheduled
        tinyint(4): Priority
        varchar(255): TimePatternOverride
        """,
        index=("PatNum",),
    ),
    Spec(
        "commlog",
        2300,
        """
        key: CommlogNum
        bigint(20): PatNum
        datetime: CommDateTime
        bigint(20): CommType
        text? utf8mb4: Note
        tinyint(3) unsigned: Mode_ SentOrReceived
        bigint(20): UserNum
        text?: Signature
        tinyint(4): SigIsTopaz
        timestamp: DateTStamp
        datetime: DateTimeEnd
        tinyint(4): CommSource
        bigint(20): ProgramNum
        datetime: DateTEntry
        """,
        keys="scattered",
        index=("PatNum",),
    ),
    Spec(
        "sheet",
        260,
        """
        key: SheetNum
        int(11): SheetType
        bigint(20): PatNum
        datetime: DateTimeSheet
        float: FontSize
        varchar(255): FontName
        int(11): Width Height
        tinyint(4): IsLandscape
        text?: InternalNote
        varchar(255): Description
        tinyint(4): ShowInTerminal IsWebForm IsMultiPage IsDeleted
        bigint(20): SheetDefNum DocNum ClinicNum
        datetime: DateTSheetEdited
        tinyint(4): HasMobileLayout
        """,
        index=("PatNum",),
    ),
    Spec(
        "sheetfield",
        5200,
        """
        key: SheetFieldNum
        bigint(20): SheetNum
        int(11): FieldType
        varchar(255): FieldName
        mediumtext utf8mb4: FieldValue
        float: FontSize
        varchar(255): FontName
        tinyint(4): FontIsBold
        int(11): XPos YPos Width Height
        int(11): GrowthBehavior
        varchar(255): RadioButtonValue RadioButtonGroup
        tinyint(4): IsRequired TextAlign
        bigint(20): LanguageDef
        int(11): ItemColor
        datetime: DateTimeSig
        """,
        index=("SheetNum",),
    ),
    Spec(
        "document",
        800,
        """
        key: DocNum
        varchar(255): Description
        datetime: DateCreated
        bigint(20): DocCategory PatNum
        varchar(255): FileName
        tinyint(3) unsigned: ImgType IsFlipped
        float: DegreesRotated
        varchar(255)?: ToothNumbers
        mediumtext?: Note
        tinyint(3) unsigned: SigIsTopaz
        text?: Signature
        int(11): CropX CropY CropW CropH WindowingMin WindowingMax
        bigint(20): MountItemNum
        timestamp: DateTStamp
        mediumtext?: RawBase64
        blob?: Thumbnail
        varchar(255): ExternalGUID
        tinyint(4): IsCropOld
        """,
        keys="gaps",
        index=("PatNum",),
    ),
)
