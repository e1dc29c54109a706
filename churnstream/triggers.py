"""The triggers of each function, as Nuclio reads them: where its records come from, by the settings and the topology."""

from nuclio.triggers import HttpTrigger, NuclioTrigger

from churnstream import topology
from churnstream.errors import InvalidSetting
from churnstream.settings import Settings
from churnstream.wiring import settings_from_env


class EmbeddedStreamTrigger(NuclioTrigger):
    """Records of one stream of the embedded log, shard by shard; read by the local platform."""

    kind = "embedded-stream"

    def __init__(self, stream: str, consumer_group: str, explicit_ack_mode: str | None = None):
        struct = {"kind": self.kind, "maxWorkers": 1, "attributes": {"stream": stream, "consumerGroup": consumer_group}}
        if explicit_ack_mode:
            struct["explicitAckMode"] = explicit_ack_mode
        super().__init__(struct)


def triggers(function: str, settings: Settings | None = None) -> dict[str, NuclioTrigger]:
    """Trigger name -> trigger of the function called ``function``: HTTP for each, and one for each stream it reads.

    Raises UnknownFunction, or InvalidSetting for streams that no trigger of this version reads.
    """
    settings = settings or settings_from_env()
    described = topology.function(function)
    if not settings.streams.startswith("embedded://"):
        raise InvalidSetting(
            f"CHURNSTREAM_STREAMS is {settings.streams!r}; this version has triggers for embedded://<folder> only"
        )
    acknowledged = "explicitOnly" if described.acknowledges else None
    found: dict[str, NuclioTrigger] = {"http": HttpTrigger(workers=1)}
    for stream in described.reads:
        found[stream] = EmbeddedStreamTrigger(stream, function, acknowledged)
    return found
