"""The AWS emulator with the patches that make it behave as AWS does where this service depends on it.

Each patch is a class of `local/cloud/emulator_*.py`; its docstring names the fault of the emulator that it works
around. Run this module as a program in place of ``python -m ministack``.
"""

from typing import Final, Protocol

from ministack.app import main

from local.cloud.emulator_alarms import MetricMathAlarms
from local.cloud.emulator_filters import FiltersOfAbsentAttributes
from local.cloud.emulator_http_apis import HttpApiBodies
from local.cloud.emulator_iam import IamActionNames, IamLeadingKeys, IamPassRole, IamScheduleGroups, IamTransport
from local.cloud.emulator_layers import SharedLayers
from local.cloud.emulator_partiql import PartiqlStreamRecords
from local.cloud.emulator_processes import QueueProcessLimit
from local.cloud.emulator_queues import PortIndependentQueues
from local.cloud.emulator_requests import DecodedPaths, EncodedBodies
from local.cloud.emulator_schedule_pages import SchedulePages
from local.cloud.emulator_schedules import ScheduledTimes
from local.cloud.emulator_streams import FailuresInBuckets, PartialBatchFailures, PersistentStreams


class Patch(Protocol):
    """Patch of the emulator: it takes over functions of ministack."""

    def install(self) -> None:
        """Patch the emulator."""


PATCHES: Final[tuple[type[Patch], ...]] = (
    PartiqlStreamRecords,
    PersistentStreams,
    PartialBatchFailures,
    FailuresInBuckets,
    FiltersOfAbsentAttributes,
    EncodedBodies,
    PortIndependentQueues,
    SharedLayers,
    QueueProcessLimit,
    HttpApiBodies,
    DecodedPaths,
    MetricMathAlarms,
    ScheduledTimes,
    IamActionNames,
    IamLeadingKeys,
    IamScheduleGroups,
    IamPassRole,
    IamTransport,
    SchedulePages,
)


if __name__ == "__main__":
    for patch in PATCHES:
        patch().install()
    main()
