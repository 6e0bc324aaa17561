"""The errors of object stores as those of storage.base, with a reason in our own words."""

import contextlib
import errno
import re
from collections.abc import Iterator

from obstore.exceptions import AlreadyExistsError, BaseError

from erp_service.exports.storage.base import Unreachable

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
# the addresses that are asked for the credentials of the host, after all other sources
_METADATA = re.compile(r"//(169\.254\.169\.254|metadata\.google\.internal)\b")
# codes of the answer's body, and statuses
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientCapacity", "507"}
_WHY = {
    "AccessDenied": "it refuses these credentials",
    "InvalidAccessKeyId": "it does not know the access key",
    "SignatureDoesNotMatch": "the secret key is not the one of the access key",
    "ExpiredToken": "the credentials have expired",
    "RequestTimeTooSkewed": "the clock of this host is wrong",
    "NoSuchBucket": "the bucket does not exist",
    "AuthorizationHeaderMalformed": "the bucket is in another region",
    "401": "it refuses these credentials",
    "403": "it refuses these credentials",
    "301": "the bucket is in another region",
}


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raises obstore's errors as those of storage.base, without the server's answer, which may repeat a secret."""
    try:
        yield
    except AlreadyExistsError:
        raise FileExistsError(errno.EEXIST, "it is there already") from None
    except (BaseError, FileNotFoundError) as exc:
        raise _as_os_error(exc) from None


def _as_os_error(exc: Exception) -> OSError:
    message = str(exc)
    # the code is more exact than the status
    names = [match[1] for pattern in (_CODE, _STATUS) if (match := pattern.search(message))]
    if not _FULL.isdisjoint(names):
        return OSError(errno.ENOSPC, "the object store is full")
    # 416: the file is shorter than the requested range
    if "416" in names or (isinstance(exc, FileNotFoundError) and "NoSuchBucket" not in names):
        return FileNotFoundError(errno.ENOENT, "it is not there")
    if _METADATA.search(message):
        return Unreachable(errno.EACCES, "no credentials were found for it")
    unknown = f"it answers {names[0]}" if names else "it cannot be reached"
    return Unreachable(errno.EIO, next((_WHY[name] for name in names if name in _WHY), unknown))
