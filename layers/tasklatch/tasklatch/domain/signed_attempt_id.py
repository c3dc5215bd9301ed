"""Attempt ids that only this service can issue: those of `tasklatch.domain.attempt_id`, permuted under a secret key.

An id has 98 bits besides its attempt and its form. They hold a digest of tenant, execution and task; with a key, a
keyed permutation of that digest, another one for each tenant and attempt. Whoever lacks the key finds an id with the
probability of 2**-98 a trial. Whoever has it gets the digest back: it is compared with that of the task or, where a
request carries the id alone, leads to the task. Thus the digest stays the same for all attempts, and under all keys.

The permutation is a Feistel network of two halves of 49 bits, with ten rounds of HMAC-SHA256.
"""

import hmac
from collections.abc import Iterator
from typing import Final, NamedTuple

from tasklatch.domain.attempt_id import attempt_id_suffix, parse_attempt_id
from tasklatch.domain.errors import AttemptIdRequiredError, AttemptNotOpenError

_HALF_BITS: Final = 49
_HALF: Final = (1 << _HALF_BITS) - 1
_ROUNDS: Final = 10


class AttemptIds(NamedTuple):
    """Issue and check of attempt ids.

    Attributes
    ----------
    keys
        The keys that ids may be signed with; the first signs. Without keys, ids are unsigned.
    are_required
        True if a report must carry a signed id; otherwise unsigned ids are accepted too, and so are reports without.
    """

    keys: tuple[bytes, ...] = ()
    are_required: bool = False

    def issue(self, tenant: str, execution_id: str, task_id: str, attempt: int) -> str:
        """Return the id of one attempt: always the same for the same attempt and key."""
        suffix = attempt_id_suffix(tenant, execution_id, task_id)
        if self.keys:
            suffix = _to_suffix(_permute(self.keys[0], tenant, attempt, _to_number(suffix)))
        return f"{attempt:06x}{suffix}"

    def decode(self, value: str | None, tenant: str, execution_id: str, task_id: str) -> int | None:
        """Return the attempt that an id names.

        Returns
        -------
        int or None
            The attempt; None if there is no id, or it is not of the form that this service issues: a report with such
            an id is about the current attempt.

        Raises
        ------
        AttemptIdRequiredError
            If ids are required, and this is not one of this task.
        AttemptNotOpenError
            If ids are not required, and this is one of another task.
        """
        parsed = parse_attempt_id(value) if value is not None else None
        if parsed is None and not self.are_required:
            return None
        expected = attempt_id_suffix(tenant, execution_id, task_id)
        matches = [hmac.compare_digest(suffix, expected) for suffix in self.suffixes(value or "", tenant)]
        if parsed is not None and any(matches):
            return parsed[0]
        if self.are_required:
            raise AttemptIdRequiredError(task_id)
        raise AttemptNotOpenError("taskExecutionId was not issued for this task", task_id)

    def suffixes(self, value: str, tenant: str) -> Iterator[str]:
        """Yield what all attempts at a task share, as an id may contain it: by each key, then unsigned if accepted.

        For an id in another form, and for one of attempt 0, there is nothing.
        """
        attempt, suffix = parse_attempt_id(value) or (0, "")
        if attempt == 0:
            return
        for key in self.keys:
            yield _to_suffix(_restore(key, tenant, attempt, _to_number(suffix)))
        if not self.are_required:
            yield suffix


def _permute(key: bytes, tenant: str, attempt: int, number: int) -> int:
    left, right = number >> _HALF_BITS, number & _HALF
    for index in range(_ROUNDS):
        left, right = right, left ^ _mask(key, tenant, attempt, index, right)
    return left << _HALF_BITS | right


def _restore(key: bytes, tenant: str, attempt: int, number: int) -> int:
    """Return the number that `_permute` made this one of."""
    left, right = number >> _HALF_BITS, number & _HALF
    for index in reversed(range(_ROUNDS)):
        left, right = right ^ _mask(key, tenant, attempt, index, left), left
    return left << _HALF_BITS | right


def _mask(key: bytes, tenant: str, attempt: int, index: int, half: int) -> int:
    """Return 49 bits that depend on the key and on everything else: what one round changes a half by."""
    message = f"{index}\0{attempt}\0{half}\0{tenant}".encode()
    return int.from_bytes(hmac.digest(key, message, "sha256")[:8], "big") & _HALF


def _to_number(suffix: str) -> int:
    """Return the 98 bits of a suffix that are not its version and its variant."""
    digits = suffix.replace("-", "")
    return int(digits[:2] + digits[2:6] + digits[7:10] + digits[11:], 16) << 2 | int(digits[10], 16) & 0b11


def _to_suffix(number: int) -> str:
    """Return the suffix that holds 98 bits."""
    digits, variant = f"{number >> 2:024x}", "89ab"[number & 0b11]
    return f"{digits[:2]}-{digits[2:6]}-8{digits[6:9]}-{variant}{digits[9:12]}-{digits[12:]}"
