"""What it costs and who pays: claims, payments, fees, insurance."""

from __future__ import annotations

from cdc.demo.opendental.columns import Spec

MONEY = (
    Spec(
        "claim",
        450,
        """
        key: ClaimNum
        bigint(20): PatNum
        date: DateService DateSent
        char(1): ClaimStatus
        date: DateReceived
        bigint(20): PlanNum ProvTreat
        double: ClaimFee InsPayEst InsPayAmt DedApplied
        varchar(255): PreAuthString
        char(1): IsProsthesis
        date: PriorDate
        varchar(255): ReasonUnderPaid
        varchar(400)?: ClaimNote
        varchar(255): ClaimType
        bigint(20): ProvBill ReferringProv
        varchar(40): RefNumString
        tinyint(3) unsigned: PlaceService
        char(1): AccidentRelated
        date: AccidentDate
        char(2): AccidentST
        tinyint(3) unsigned: EmployRelated IsOrtho OrthoRemainM
        date: OrthoDate
        bigint(20): PatRelat PlanNum2 PatRelat2
        double: WriteOff
        tinyint(3) unsigned: Radiographs
        bigint(20): ClinicNum ClaimForm
        int(11): AttachedImages AttachedModels
        varchar(255): AttachedFlags AttachmentID
        char(1): CanadianMaterialsForwarded
        varchar(10): CanadianReferralProviderNum
        date: CanadianDateInitialUpper
        bigint(20): InsSubNum InsSubNum2
        double: ShareOfCost
        bigint(20): SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        date: DateSentOrig DateIllnessInjuryPreg
        varchar(4000)?: Narrative
        smallint(6): CorrectionType
        """,
        index=("PatNum",),
    ),
    Spec(
        "claimproc",
        1300,
        """
        key: ClaimProcNum
        bigint(20): ProcNum ClaimNum PatNum ProvNum
        double: FeeBilled InsPayEst DedApplied
        tinyint(3) unsigned: Status
        double: InsPayAmt
        varchar(255): Remarks
        bigint(20): ClaimPaymentNum PlanNum
        date: DateCP
        double: WriteOff
        varchar(15): CodeSent
        double: AllowedOverride
        tinyint(4): Percentage PercentOverride
        double: CopayAmt
        tinyint(3) unsigned: NoBillIns
        double: PaidOtherIns BaseEst CopayOverride
        date: ProcDate DateEntry
        tinyint(3) unsigned: LineNumber
        double: DedEst DedEstOverride InsEstTotal InsEstTotalOverride PaidOtherInsOverride
        varchar(255): EstimateNote
        double: WriteOffEst WriteOffEstOverride
        bigint(20): ClinicNum InsSubNum
        int(11): PaymentRow
        bigint(20): PayPlanNum ClaimPaymentTracking SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        date: DateSuppReceived DateInsFinalized
        tinyint(4): IsTransfer
        varchar(255): ClaimAdjReasonCodes
        tinyint(1): IsOverpay
        varchar(255) bin: SecurityHash
        """,
        index=("ProcNum", "ClaimNum", "PatNum"),
    ),
    Spec(
        "claimpayment",
        160,
        """
        key: ClaimPaymentNum
        date: CheckDate
        double: CheckAmt
        varchar(25): CheckNum BankBranch
        varchar(255): Note
        bigint(20): ClinicNum DepositNum
        varchar(255): CarrierName
        date: DateIssued
        tinyint(4): IsPartial
        bigint(20): PayType SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        """,
    ),
    Spec(
        "payment",
        1200,
        """
        key: PayNum
        bigint(20): PayType
        date: PayDate
        double: PayAmt
        varchar(25): CheckNum BankBranch
        text? utf8mb4: PayNote
        tinyint(3) unsigned: IsSplit
        bigint(20): PatNum ClinicNum
        date: DateEntry
        bigint(20): DepositNum
        text?: Receipt
        tinyint(4): IsRecurringCC
        bigint(20): SecUserNumEntry
        timestamp: SecDateTEdit
        tinyint(4): PaymentSource ProcessStatus
        date: RecurringChargeDate
        varchar(255): ExternalId
        tinyint(4): PaymentStatus IsCcCompleted
        double: MerchantFee
        """,
        index=("PatNum",),
    ),
    Spec(
        "paysplit",
        4600,
        """
        key: SplitNum
        double: SplitAmt
        bigint(20): PatNum
        date: ProcDate
        bigint(20): PayNum
        tinyint(3) unsigned: IsDiscount DiscountType
        bigint(20): ProvNum PayPlanNum
        date: DatePay
        bigint(20): ProcNum
        date: DateEntry
        bigint(20): UnearnedType ClinicNum SecUserNumEntry
        timestamp: SecDateTEdit
        bigint(20): FSplitNum AdjNum PayPlanChargeNum
        tinyint(4): PayPlanDebitType
        varchar(255) bin: SecurityHash
        """,
        keys="gaps",
        index=("PatNum", "PayNum"),
    ),
    Spec(
        "adjustment",
        900,
        """
        key: AdjNum
        date: AdjDate
        double: AdjAmt
        bigint(20): PatNum AdjType ProvNum
        text? utf8mb4: AdjNote
        date: ProcDate
        bigint(20): ProcNum
        date: DateEntry
        bigint(20): ClinicNum StatementNum SecUserNumEntry
        timestamp: SecDateTEdit
        bigint(20): TaxTransID
        """,
        index=("PatNum",),
    ),
    Spec(
        "statement",
        260,
        """
        key: StatementNum
        bigint(20): PatNum
        date: DateSent DateRangeFrom DateRangeTo
        text?: Note NoteBold
        tinyint(3) unsigned: Mode_ HidePayment SinglePatient Intermingled IsSent
        bigint(20): DocNum
        timestamp: DateTStamp
        tinyint(4): IsReceipt IsInvoice IsInvoiceCopy
        varchar(255): EmailSubject
        mediumtext? utf8mb4: EmailBody
        bigint(20): SuperFamily
        double: InsEst BalTotal
        varchar(30): StatementType
        varchar(255): ShortGUID ShortURL
        """,
    ),
    Spec(
        "fee",
        2400,
        """
        key: FeeNum
        double: Amount
        varchar(15): OldCode
        bigint(20): FeeSched
        tinyint(3) unsigned: UseDefaultFee UseDefaultCov
        bigint(20): CodeNum ClinicNum ProvNum SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        """,
        index=("FeeSched",),
    ),
    Spec(
        "feesched",
        6,
        """
        key: FeeSchedNum
        varchar(255): Description
        int(11): FeeSchedType ItemOrder
        tinyint(1): IsHidden
        tinyint(4): IsGlobal
        bigint(20): SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        """,
        fixed=True,
    ),
    Spec(
        "carrier",
        60,
        """
        key: CarrierNum
        varchar(255): CarrierName Address Address2 City State Zip Phone ElectID
        tinyint(3) unsigned: NoSendElect IsCDA
        varchar(100): CDAnetVersion
        bigint(20): CanadianNetworkNum
        tinyint(4): IsHidden CanadianEncryptionMethod
        varchar(255): TIN
        bigint(20): CarrierGroupName
        int(11): ApptTextBackColor
        """,
        fixed=True,
    ),
    Spec(
        "insplan",
        220,
        """
        key: PlanNum
        varchar(50): GroupName GroupNum
        text?: PlanNote
        bigint(20): FeeSched
        char(1): PlanType
        bigint(20): ClaimFormNum
        tinyint(3) unsigned: UseAltCode ClaimsUseUCR
        bigint(20): CopayFeeSched EmployerNum CarrierNum AllowedFeeSched
        varchar(100): TrojanID
        varchar(255): DivisionNo
        tinyint(3) unsigned: IsMedical IsHidden MonthRenew
        tinyint(1): ShowBaseUnits CodeSubstNone
        tinyint(4): HasPpoSubst CobRule
        bigint(20): BillingType SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        double: OrthoAutoFeeBilled
        """,
    ),
    Spec(
        "inssub",
        650,
        """
        key: InsSubNum
        bigint(20): PlanNum Subscriber
        date: DateEffective DateTerm
        tinyint(1): ReleaseInfo AssignBen
        varchar(255): SubscriberID
        text?: BenefitNotes SubscNote
        bigint(20): SecUserNumEntry
        date: SecDateEntry
        timestamp: SecDateTEdit
        """,
    ),
    Spec(
        "patplan",
        700,
        """
        key: PatPlanNum
        bigint(20): PatNum
        tinyint(3) unsigned: Ordinal IsPending Relationship
        varchar(100): PatID
        bigint(20): InsSubNum
        varchar(25): OrthoAutoFeeBilledOverride
        date: OrthoAutoNextClaimDate
        timestamp: SecDateTEdit
        """,
        index=("PatNum",),
    ),
)
