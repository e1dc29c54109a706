"""Every error the package raises by name; the class is the fact, the message is the sentence."""


class ChurnstreamError(Exception):
    """Something the caller can act on; the message says what, where and the next step."""


class MissingSetting(ChurnstreamError):
    """A setting that a part cannot do without is unset."""

    def __init__(self, name: str, needed_by: str):
        super().__init__(f"{needed_by} needs {name}, which is unset or empty; set it in project.yaml or the environment")
        self.name = name


class InvalidSetting(ChurnstreamError):
    """A setting is there but cannot be used."""


class UnknownCase(ChurnstreamError):
    """No use case has this name."""


class InvalidDefinition(ChurnstreamError):
    """A use case or a feature is defined wrongly; raised while it loads, never while events flow."""


class MalformedEvent(ChurnstreamError):
    """One event does not fit its case's schema; it goes to the dead letters with this sentence."""


class UnreadablePayload(ChurnstreamError):
    """A whole payload could not be read as events or as a batch."""


class UnknownVersion(ChurnstreamError):
    """Bytes written in a layout that this version does not know."""


class StorageFailed(ChurnstreamError):
    """A write did not become durable; nothing of it may be acknowledged."""


class TooFarBehind(ChurnstreamError):
    """Who reads a stream is so far behind that nothing more may be written to it for now; nothing of it was taken."""


class TrialPassed(ChurnstreamError):
    """A record that was only tried would have been applied; nothing of it was kept, as was asked for."""


class CorruptedRecord(StorageFailed):
    """What is on the disk is not what was written there; none of it is given away as data."""


class LeaseLost(StorageFailed):
    """Another process holds the shard by now; what this one would have written is its to write."""


class FingerprintMismatch(ChurnstreamError):
    """State or a model was made for other feature definitions than the running ones."""


class InvalidModel(ChurnstreamError):
    """A model artifact cannot be trusted or does not fit."""


class BadRequest(ChurnstreamError):
    """A request cannot be understood."""


class KeyReused(ChurnstreamError):
    """A request came under the Idempotency-Key of another one; nothing of it was taken."""


class UnknownCustomer(ChurnstreamError):
    """No features are known for this customer."""


class NotEnoughData(ChurnstreamError):
    """A training set is too small, or has one class only."""


class LeakFound(ChurnstreamError):
    """A column of a training set knows what was not known at the decision; ``column`` is its name."""

    def __init__(self, column: str, why: str):
        super().__init__(f"the column {column} looks into the future: {why}")
        self.column = column


class UnknownModel(ChurnstreamError):
    """The registry has no model of this version."""


class MissingExtra(ChurnstreamError):
    """Something needs a library that the base install leaves out."""

    def __init__(self, what: str, extra: str):
        super().__init__(f"{what} needs the extra {extra!r}, which is not installed: pip install 'churnstream[{extra}]'")
        self.extra = extra


class TrackingFailed(ChurnstreamError):
    """A tracking server did not take what it was told; what is kept here does not depend on it."""


class NotPromoted(ChurnstreamError):
    """A challenger is not better than the champion by more than noise, or worse somewhere."""


class UnknownFunction(ChurnstreamError):
    """No function of this name is in the topology, or none is deployed."""


class InvalidFunction(ChurnstreamError):
    """A function cannot be served as it was deployed."""


class HandlerGaveUp(ChurnstreamError):
    """A handler raised what is no Exception, such as SystemExit; Nuclio's worker goes on after it, and so does ours."""


class EmptyAnswer(ChurnstreamError):
    """A handler returned nothing that could be answered."""


class PlatformFailed(ChurnstreamError):
    """The local platform did not start, did not answer, or refused."""


class AlreadyRunning(ChurnstreamError):
    """Another supervisor serves this home."""


class NotDrained(ChurnstreamError):
    """A function had not read everything when the deadline passed; it goes on reading."""


class NeedsCluster(ChurnstreamError):
    """MLRun was asked for something that one machine cannot serve."""

    def __init__(self, call: str, instead: str | None = None):
        super().__init__(
            f"{call} needs an MLRun cluster and this is one machine; "
            + (f"{instead}, or " if instead else "")
            + "set MLRUN_DBPATH to a cluster's API"
        )
        self.call = call


class NotebookFailed(ChurnstreamError):
    """A notebook stopped at one of its cells."""
