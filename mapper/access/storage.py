"""Object storage as plain HTTPS: ``s3://`` and ``gs://`` locations become addresses, presigned where keys are given.

Keys come from the environment variables that the provider names and from nowhere else: no profile, no metadata service
of a cloud machine.
"""

import os
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import obstore
from obstore.store import S3Store

from mapper.access.rules import StorageRule
from mapper.errors import AssetError

if TYPE_CHECKING:
    from obstore.store import S3Credential

_LIFETIME = timedelta(hours=1)
"""Life of a signature in seconds; it is made just before a request."""
_GOOGLE = "https://storage.googleapis.com"


def to_url(href: str, rule: StorageRule) -> str:
    """Return the http(s) address of a remote location; in S3 with a signature that is valid for an hour.

    Raises:
        AssetError: If keys are missing, or the kind of location is unknown.
    """
    scheme, _, rest = href.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme in ("http", "https"):
        return href
    if scheme == "s3":
        return _in_s3(bucket, key, rule)
    if scheme == "gs":
        return f"{_GOOGLE}/{bucket}/{quote(key)}"
    advice = "; give https://ACCOUNT.blob.core.windows.net/CONTAINER/..." if scheme in ("az", "abfs", "adl") else ""
    raise AssetError(f"locations of the kind {scheme}:// cannot be read{advice}", href=href)


def _in_s3(bucket: str, key: str, rule: StorageRule) -> str:
    root = _bucket_root(bucket, rule)
    if rule.anonymous:
        return f"{root}/{quote(key)}"
    token_env = rule.token_env or ("AWS_SESSION_TOKEN" if rule.key_env == "AWS_ACCESS_KEY_ID" else "")
    key_id, secret, token = (os.environ.get(name, "") for name in (rule.key_env, rule.secret_env, token_env))
    if not (key_id and secret):
        raise AssetError(
            f"the bucket {bucket} wants keys: set {rule.key_env} and {rule.secret_env}", href=f"s3://{bucket}/{key}"
        )
    return str(obstore.sign(_open_bucket(root, rule.region, key_id, secret, token), "GET", key, _LIFETIME))


def _bucket_root(bucket: str, rule: StorageRule) -> str:
    endpoint = rule.endpoint or f"https://s3.{rule.region}.amazonaws.com"
    # the certificate of an object store covers one level of names
    if rule.path_style or (rule.endpoint is None and "." in bucket):
        return f"{endpoint.rstrip('/')}/{bucket}"
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{bucket}.{parts.netloc}{parts.path.rstrip('/')}"


@lru_cache(maxsize=64)
def _open_bucket(root: str, region: str, key: str, secret: str, token: str) -> S3Store:
    def provide() -> "S3Credential":
        return {"access_key_id": key, "secret_access_key": secret, "token": token or None, "expires_at": None}

    # a bucket that is part of the endpoint, and a provider of keys: everything else would be mixed with what the
    # environment says to other programs
    return S3Store(
        "bucket",
        endpoint=root,
        virtual_hosted_style_request=True,
        region=region,
        credential_provider=provide,
        client_options={"allow_http": True},
    )
