"""Expiry of items by DynamoDB's TTL."""

from typing import Final

from tasklatch.dynamodb.items import Item, to_attribute

EXPIRES_AT: Final = "expiresAt"


def with_expiry(item: Item, expires_at: int | None) -> Item:
    """Return an item that expires.

    Parameters
    ----------
    expires_at
        Seconds since the epoch (DynamoDB's TTL unit); None to keep the item for ever.
    """
    return item if expires_at is None else {**item, EXPIRES_AT: to_attribute(expires_at)}
