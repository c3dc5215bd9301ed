"""Attempt ids of this deployment: signed with the keys of its secret, or unsigned if it has none.

The secret is read at the first use of an id, and again only for an id that fits none of its keys, at most once a
minute: after a rotation, an instance of a function that has not read the new key is handed ids that are signed with it.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tasklatch.domain.errors import AttemptIdRequiredError, AttemptNotOpenError
from tasklatch.domain.signed_attempt_id import AttemptIds
from tasklatch.domain.task import Task
from tasklatch.runtime.backoff import Backoff
from tasklatch.runtime.clients import secrets_manager
from tasklatch.runtime.clock import Clock, system_clock
from tasklatch.runtime.settings import Settings, get_settings

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

MIN_KEY_BYTES: Final = 32
_REREAD_AFTER_MS: Final = 60_000
_READ_MS: Final = 9_000
"""Time for both keys: a report's function has 15 s, and needs some for the table."""

_STAGES: Final = ("AWSCURRENT", "AWSPREVIOUS")


class WeakKeyError(RuntimeError):
    """The secret for attempt ids is too short to be a key."""


class DeploymentAttemptIds:
    """Issue and check of attempt ids with the keys of a secret: its current version signs, the previous counts too.

    Parameters
    ----------
    client
        Returns the client of Secrets Manager; called only if the settings name a secret.
    """

    def __init__(self, settings: Settings, client: Callable[[], "SecretsManagerClient"], clock: Clock) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._ids: AttemptIds | None = None
        self._read_at = 0

    @property
    def are_required(self) -> bool:
        """True if a report must carry the id of its attempt."""
        return self._settings.requires_attempt_ids

    def issue(self, tenant: str, execution_id: str, task_id: str, attempt: int) -> str:
        """Return the id of one attempt."""
        return self._current().issue(tenant, execution_id, task_id, attempt)

    def decode(self, value: str | None, tenant: str, execution_id: str, task_id: str) -> int | None:
        """Return the attempt that an id names; see `AttemptIds.decode`."""
        try:
            return self._current().decode(value, tenant, execution_id, task_id)
        except (AttemptIdRequiredError, AttemptNotOpenError):
            if value is None or not self._read_again():
                raise
        return self._current().decode(value, tenant, execution_id, task_id)

    def suffixes(self, value: str, tenant: str) -> Iterator[str]:
        """Yield what all attempts at a task share, as an id may contain it; see `AttemptIds.suffixes`."""
        yield from self._current().suffixes(value, tenant)
        if self._read_again():
            yield from self._current().suffixes(value, tenant)

    def _current(self) -> AttemptIds:
        if self._ids is None:
            self._ids = AttemptIds(self._read_keys(), are_required=self.are_required)
            self._read_at = self._clock()
        return self._ids

    def _read_again(self) -> bool:
        """Read the keys again, unless that was done within the last minute; return True if they have changed."""
        if not self._settings.attempt_id_secret or self._clock() - self._read_at < _REREAD_AFTER_MS:
            return False
        earlier, self._ids = self._ids, None
        return self._current() != earlier

    def _read_keys(self) -> tuple[bytes, ...]:
        if self.are_required:
            self._settings.check_set("attempt_id_secret")
        if not self._settings.attempt_id_secret:
            return ()
        started = self._clock()
        backoff = Backoff(lambda: _READ_MS - (self._clock() - started))
        keys = [self._read_key(stage, backoff) for stage in _STAGES]
        return tuple(key for key in keys if key is not None)

    def _read_key(self, stage: str, backoff: Backoff) -> bytes | None:
        """Return the key of one version of the secret; None if the secret has no previous version."""
        request: Any = {"SecretId": self._settings.attempt_id_secret, "VersionStage": stage}
        try:
            version = backoff.run(lambda: self._client().get_secret_value(**request))
        except ClientError as error:
            if stage == _STAGES[0] or error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return None
        key = version["SecretString"].encode()
        if len(key) < MIN_KEY_BYTES:
            raise WeakKeyError(f"the secret for attempt ids has under {MIN_KEY_BYTES} bytes ({stage})")
        return key


@cache
def attempt_ids() -> DeploymentAttemptIds:
    """Return the attempt ids of this deployment."""
    return DeploymentAttemptIds(get_settings(), secrets_manager, system_clock)


def current_attempt_id(task: Task) -> str:
    """Return the id of a task's current attempt."""
    return attempt_ids().issue(task.tenant, task.execution_id, task.task_id, task.attempt)
