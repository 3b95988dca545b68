"""What went wrong at a URL, in one line, and the way out: file systems raise errors of many kinds."""

import errno

from mira.errors import noted
from mira.urls import masked, shown_place

__all__ = ["code_of", "told"]

_LONGEST = 300  # characters of what a file system says
_KEYS = "Check the credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the profile."
_GO_ON = "Finished work is kept: run again to go on."
_WAYS_OUT = (
    (
        ("NoSuchBucket", "NoSuchContainer", "ContainerNotFound"),
        errno.ENOENT,
        "Make the bucket, or correct its name; check AWS_ENDPOINT_URL and the region, too.",
    ),
    (
        ("AccessDenied", "AllAccessDisabled", "AuthorizationPermissionMismatch"),
        errno.EACCES,
        "Ask for the right to list the bucket, and to read, put and delete its objects.",
    ),
    (
        ("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "AuthenticationFailed"),
        errno.EACCES,
        _KEYS,
    ),
    (("ExpiredToken", "TokenRefreshRequired"), errno.EACCES, "Log in again: the credentials have expired."),
    (("RequestTimeTooSkewed",), errno.EACCES, "Set this machine's clock: the store refuses requests of another time."),
    (
        (
            "AuthorizationHeaderMalformed",
            "PermanentRedirect",
            "IllegalLocationConstraintException",
            "IncorrectEndpoint",
        ),
        errno.EINVAL,
        "Set AWS_DEFAULT_REGION to the bucket's region, and AWS_ENDPOINT_URL to its endpoint.",
    ),
    (
        ("SlowDown", "ServiceUnavailable", "InternalError", "503", "500", "RequestTimeout"),
        errno.EBUSY,
        f"The store is overloaded: use fewer workers, or wait. {_GO_ON}",
    ),
)
# Kinds of errors other than OSErrors, by their names: their packages need not be installed.
_KINDS = {
    "NoCredentialsError": (errno.EACCES, _KEYS),
    "PartialCredentialsError": (errno.EACCES, _KEYS),
    "CredentialRetrievalError": (errno.EACCES, _KEYS),
    "ProfileNotFound": (errno.EACCES, "Correct AWS_PROFILE."),
}


def code_of(error: BaseException) -> str:
    """Return what a cloud calls an error, such as "NoSuchBucket"; "" where it does not say."""
    for known in (error, error.__cause__):
        response = getattr(known, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        if given := getattr(known, "error_code", None):  # Azure
            return str(getattr(given, "value", given))
    return ""


def told(error: Exception, url: str) -> OSError:
    """Return an error of a file system as an OSError of one line, with the way out for `mira.errors.way_out`.

    Args:
        error: Whatever was raised.
        url: The object or the place.

    Returns:
        FileNotFoundError, PermissionError or another OSError, by its errno. It has the URL without secrets.
    """
    number, way = _number(error), ""
    code = code_of(error)
    for codes, known, note in _WAYS_OUT:
        if code in codes:
            number, way = known, note
    for kind in () if way else (kind.__name__ for kind in type(error).__mro__):
        if kind in _KINDS:
            number, way = _KINDS[kind]
            break
    return noted(OSError(number, _line(error), shown_place(url)), way or _by_number(number, url))


def _by_number(number: int, url: str) -> str:
    if number == errno.ENOENT:
        return "Check the URL: there is no such object, bucket or endpoint. If a file is gone, its stage makes it anew."
    if number == errno.EACCES:
        note = "Check that the credentials in the environment may list, read, put and delete there."
        return f"{note} For S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY." if url.startswith("s3") else note
    if number == errno.EINVAL:  # to a HEAD there is no body that says why
        return "Check the region (AWS_DEFAULT_REGION), the endpoint and whether the credentials have expired."
    return f"Check the URL, the endpoint and the network. {_GO_ON}"


def _number(error: Exception) -> int:
    if isinstance(error, FileNotFoundError):
        return errno.ENOENT
    if isinstance(error, PermissionError):
        return errno.EACCES
    if isinstance(error, TypeError | ValueError | NotImplementedError):
        return errno.ENOSYS  # the file system's package has no such thing
    return (error.errno if isinstance(error, OSError) else None) or errno.EIO


def _line(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = (said.strip() or type(error).__name__).partition("\n")[0]
    return masked(line)[:_LONGEST]  # a URL in it may carry a signature
